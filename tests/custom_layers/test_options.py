"""The options that papers define: each against a NumPy loop written from the paper, and
off, it is the plain cell."""

import functools

import keras
import numpy as np
import pytest
from cells import (
    OURS,
    assert_agrees,
    assert_close,
    gradients,
    random_layer,
    random_states,
    run,
    weights_by_name,
)
from reference import by_gate, sigmoid

from custom_layers import (
    ClockworkRNN,
    ClockworkRNNCell,
    CoupledLSTM,
    CoupledLSTMCell,
    DepthGatedLSTM,
    GatedCell,
    PeepholeLSTM,
    PeepholeLSTMCell,
    WeightDropLSTM,
    kernel_report,
    trace_gates,
)
from custom_layers.engine import options
from custom_layers.engine.prepared import unchanged
from custom_layers.engine.recurrent_layer import RecurrentLayer

JAX = keras.backend.backend() == "jax"


def norm(x, epsilon=1e-3):
    """Ba et al. 2016, equation 4, without gain and bias."""
    mean = x.mean(axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(x.var(axis=-1, keepdims=True) + epsilon)


def optional(
    x,
    states,
    weights,
    gates="ifco",
    layer_norm=False,
    layer_norm_epsilon=1e-3,
    cell_clip=np.inf,
    zoneout_h=0.0,
    zoneout_c=0.0,
    projection=None,
    projection_clip=np.inf,
):
    """An LSTM with peepholes, if it has their weights, and the options, gate by gate.

    Ba et al. 2016, supplement; Sak et al. 2014; Krueger et al. 2017, at inference.
    """
    h, c = states
    W, U, b = by_gate(weights, gates)
    units = c.shape[1]
    gain = {
        name: dict(zip(gates, np.split(value, len(gates)), strict=True))
        for name, value in weights.items()
        if name in ("kernel_gamma", "recurrent_gamma", "gates_gamma")
    }

    def whole(products):
        row = norm(np.concatenate(list(products.values()), 1), layer_norm_epsilon)
        return dict(zip(gates, np.split(row, len(gates), axis=1), strict=True))

    outputs = []
    for t in range(x.shape[1]):
        from_x = {gate: x[:, t] @ W[gate] for gate in gates}
        from_h = {gate: h @ U[gate] for gate in gates}
        if layer_norm in (True, "tfa"):
            from_x, from_h = whole(from_x), whole(from_h)
            from_x = {gate: from_x[gate] * gain["kernel_gamma"][gate] for gate in gates}
            from_h = {
                gate: from_h[gate] * gain["recurrent_gamma"][gate] for gate in gates
            }
        z = {gate: from_x[gate] + from_h[gate] for gate in gates}
        if layer_norm == "tf1":
            for gate in gates:
                z[gate] = norm(z[gate], layer_norm_epsilon) * gain["gates_gamma"][gate]
        z = {gate: z[gate] + b[gate] for gate in gates}
        p = {gate: weights.get(f"peephole_{gate}", 0) for gate in "ifo"}
        forget_gate = sigmoid(z["f"] + p["f"] * c)
        input_gate = sigmoid(z["i"] + p["i"] * c) if "i" in gates else 1 - forget_gate
        new_c = forget_gate * c + input_gate * np.tanh(z["c"])
        new_c = np.minimum(np.maximum(new_c, -cell_clip), cell_clip)
        shown = new_c
        if layer_norm:
            shown = norm(new_c, layer_norm_epsilon) * weights["state_gamma"]
            shown = shown + weights["state_beta"]
            new_c = new_c if layer_norm is True else shown
        new_h = sigmoid(z["o"] + p["o"] * new_c) * np.tanh(shown)
        if projection:
            new_h = new_h @ weights["projection_kernel"]
            new_h = np.minimum(np.maximum(new_h, -projection_clip), projection_clip)
        h = zoneout_h * h + (1 - zoneout_h) * new_h
        c = zoneout_c * c + (1 - zoneout_c) * new_c
        outputs.append(h)
    assert units == c.shape[1]
    return np.stack(outputs, axis=1), [h, c]


OPTIONS = {
    "layer_norm": {"layer_norm": True},
    "layer_norm tfa": {"layer_norm": "tfa"},
    "layer_norm tf1": {"layer_norm": "tf1", "layer_norm_epsilon": 0.01},
    "cell_clip": {"cell_clip": 0.4},
    "zoneout": {"zoneout_h": 0.2, "zoneout_c": 0.3},
    "zoneout of h": {"zoneout_h": 0.4},
    "projection": {"projection": 3},
    "projection_clip": {"projection": 3, "projection_clip": 0.2},
    "all": {
        "layer_norm": True,
        "cell_clip": 0.7,
        "zoneout_h": 0.1,
        "zoneout_c": 0.2,
        "projection": 3,
        "projection_clip": 0.3,
    },
    "all tfa": {"layer_norm": "tfa", "cell_clip": 0.7, "projection": 3},
}
LAYERS = {PeepholeLSTM: "ifco", CoupledLSTM: "fco", WeightDropLSTM: "ifco"}
each_layer = pytest.mark.parametrize("layer_class", LAYERS)
each_option = pytest.mark.parametrize("name", OPTIONS)


def loop_of(layer_class, name):
    return functools.partial(optional, gates=LAYERS[layer_class], **OPTIONS[name])


@each_option
@each_layer
def test_agrees_with_numpy_loop(layer_class, name, rng):
    layer = random_layer(layer_class, 4, 5, rng, **OPTIONS[name])
    assert_agrees(layer, loop_of(layer_class, name), rng)


@each_option
def test_gradients_agree_with_central_differences(name, rng):
    dtype, tolerance = "float32", 2e-5
    if keras.backend.backend() == "tensorflow":
        dtype, tolerance = "float64", 1e-7
    layer = random_layer(PeepholeLSTM, 4, 3, rng, dtype=dtype, **OPTIONS[name])
    loop = loop_of(PeepholeLSTM, name)
    x, states = rng.uniform(-1, 1, (2, 5, 3)), random_states(layer, 2, rng, "float64")
    weights = weights_by_name(layer)
    results = loop(x, states, weights)
    seeds = [rng.uniform(-1, 1, value.shape) for value in [results[0], *results[1]]]

    def loss():
        outputs, new_states = loop(x, states, weights)
        pairs = zip(seeds, [outputs, *new_states], strict=True)
        return sum(np.sum(a * b) for a, b in pairs)

    given = [state.astype(dtype) for state in states]
    actual = gradients(layer, x.astype(dtype), given, seeds)
    assert actual.keys() == weights.keys()
    step = 1e-6
    for weight_name, value in weights.items():
        expected = np.zeros_like(value)
        for index in np.ndindex(value.shape):
            at = value[index]
            value[index] = at + step
            above = loss()
            value[index] = at - step
            expected[index] = (above - loss()) / (2 * step)
            value[index] = at
        assert np.any(expected != 0), weight_name
        assert np.max(np.abs(actual[weight_name] - expected)) < tolerance, weight_name


# Planted mistakes.


class ClipAfterTheOutputGate(PeepholeLSTMCell):
    options = tuple(options.OFF)

    @staticmethod
    def equations(z, p, states, σ, φ):
        _, c = states
        c = σ(z.f + p.f * c) * c + σ(z.i + p.i * c) * φ(z.g)
        h = σ(z.o + p.o * c) * φ(p.norm(p.clip(c)))
        return {"c": p.clip(c), "h": h}


class OutputSeesTheCellItself(PeepholeLSTMCell):
    options = tuple(options.OFF)

    @staticmethod
    def equations(z, p, states, σ, φ):
        values = PeepholeLSTMCell.equations(z, p, states, σ, φ)
        return values | {"h": values["o"] * φ(values["c"])}


class NormOfTheSum(PeepholeLSTMCell):
    options = tuple(options.OFF)

    def around(self):
        around = super().around()

        class Whole(options.Around):
            def pre_activations(self, products, x, h):
                (product,) = products
                z = options.normalize(product.times_W(x) + product.times_U(h), 1e-3)
                return z * self.weights["kernel_gamma"] + product.b

        return Whole(*around)


class ProjectionBeforeZoneoutOfTheOther(PeepholeLSTMCell):
    """Zoneout's rates of h and c are exchanged."""

    options = tuple(options.OFF)

    def around(self):
        around = super().around()
        h, c = around.zoneout["h"], around.zoneout["c"]
        return around._replace(zoneout={"h": c, "c": h})


def with_around(change):
    """Return a cell whose options do something else around the equations."""

    class Mutant(PeepholeLSTMCell):
        options = tuple(options.OFF)

        def around(self):
            return change(super().around())

    return Mutant


def with_option(name, value):
    """Return a cell that takes another value of an option than the one it has."""
    return with_around(lambda around: around._replace(**{name: value}))


class CarriesTheCellItself(PeepholeLSTMCell):
    """The normalised c is shown, and c carried on: layer_norm=True."""

    options = tuple(options.OFF)

    def parameters(self):
        vectors, constants = super().parameters()
        norm = constants["clip"]
        return vectors, constants | {"clip": options.clip(None), "norm": norm}


class WithoutGains(options.Around):
    """The products of layer normalisation are not multiplied with their gains."""

    def pre_activations(self, products, x, h):
        ones = {
            name: keras.ops.ones_like(it) if name != "state_gamma" else it
            for name, it in self.weights.items()
        }
        return options.Around.pre_activations(
            self._replace(weights=ones), products, x, h
        )


class AllGatesTogether(options.Around):
    def pre_activations(self, products, x, h):
        (product,) = products
        z = product.times_W(x) + product.times_U(h)
        z = options.normalize(z, self.epsilon) * self.weights["gates_gamma"]
        return z + product.b


class ClipsBeforeTheProjection(options.Around):
    def after(self, values, states, masks):
        values = values | {"h": self.projection_clip(values["h"])}
        plain = self._replace(projection_clip=options.clip(None))
        return options.Around.after(plain, values, states, masks)


def transposed(around):
    P = around.weights["projection_kernel"]
    P = keras.ops.reshape(keras.ops.transpose(P), P.shape)
    return around._replace(weights=around.weights | {"projection_kernel": P})


MUTANTS = [
    (with_around(lambda around: AllGatesTogether(*around)), "layer_norm tf1"),
    (NormOfTheSum, "layer_norm tfa"),
    (with_option("epsilon", 0.1), "layer_norm tf1"),
    (with_option("epsilon", 0.1), "layer_norm tfa"),
    (CarriesTheCellItself, "layer_norm tfa"),
    (CarriesTheCellItself, "layer_norm tf1"),
    (with_around(lambda around: WithoutGains(*around)), "layer_norm tfa"),
    (with_around(lambda around: WithoutGains(*around)), "layer_norm tf1"),
    (with_around(transposed), "projection"),
    (with_option("projection_clip", options.clip(None)), "projection_clip"),
    (with_around(lambda around: ClipsBeforeTheProjection(*around)), "projection_clip"),
    (ClipAfterTheOutputGate, "cell_clip"),
    (OutputSeesTheCellItself, "layer_norm"),
    (NormOfTheSum, "layer_norm"),
    (ProjectionBeforeZoneoutOfTheOther, "zoneout"),
]


@pytest.mark.parametrize(("mutant", "name"), MUTANTS)
def test_a_planted_mistake_is_caught(mutant, name, rng, monkeypatch):
    monkeypatch.setattr(PeepholeLSTM, "cell_class", mutant)
    layer = random_layer(PeepholeLSTM, 4, 5, rng, **OPTIONS[name])
    with pytest.raises(AssertionError, match="relative error"):
        assert_agrees(layer, loop_of(PeepholeLSTM, name), rng)


# Limits: off, an option changes no bit.


@each_layer
def test_options_that_are_off_change_no_bit(layer_class, rng):
    """Beside the same cell, whose equations know nothing of ``clip`` and ``norm``."""
    off = options.OFF | {"projection_clip": None, "seed": 3}
    same = random_layer(layer_class, 4, 5, rng, **off)
    plain = random_layer(layer_class, 4, 5, rng, seed=3)
    plain.set_weights(same.get_weights())

    def equations(z, p, states, σ, φ):
        c = states[1]
        f = σ(z.f + p.f * c)
        i = 1 - f if layer_class is CoupledLSTM else σ(z.i + p.i * c)
        c = f * c + i * φ(z.g)
        return {"c": c, "h": σ(z.o + p.o * c) * φ(c)}

    plain.cell.equations = equations
    x, states = rng.uniform(-1, 1, (3, 20, 5)), random_states(plain, 3, rng)
    x = x.astype("float32")
    for training in (False, True):
        actual, expected = (
            run(layer, x, states, training=training) for layer in (same, plain)
        )
        actual, expected = map(keras.tree.flatten, (actual, expected))
        for a, b in zip(actual, expected, strict=True):
            np.testing.assert_array_equal(a, b)
    seeds = [rng.uniform(-1, 1, shape) for shape in ((3, 20, 4), (3, 4), (3, 4))]
    seeds = [seed.astype("float32") for seed in seeds]
    actual, expected = (gradients(layer, x, states, seeds) for layer in (same, plain))
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert np.any(value)
        assert_close(actual[name], value, 5e-6)  # XLA adds up in another order
    kernels = [kernel_report(layer)[layer.name]["cpu"] for layer in (plain, same)]
    assert kernels[0] == kernels[1]


@pytest.mark.parametrize("name", OURS)
def test_a_cell_whose_options_are_off_is_its_equations_alone(name):
    """Nothing is wrapped around the step, and nothing is done to c."""
    layer = OURS[name](4)
    layer.build((None, None, 5))
    assert layer.cell.around() is None
    for cell in getattr(layer.cell, "levels", [layer.cell]):
        assert cell.around() is None and not getattr(cell, "option_weights", None)
        _, constants = cell.parameters()
        changes = [constants.get(it, unchanged) for it in ("clip", "norm")]
        assert changes == [unchanged, unchanged]


LIMITS = {
    "cell_clip": {"cell_clip": 1e6},
    "zoneout": {"zoneout_h": 1e-9, "zoneout_c": 1e-9},
    "projection": {"projection": 4},
}


@pytest.mark.parametrize("name", LIMITS)
@each_layer
def test_the_limit_of_an_option_is_the_plain_cell(layer_class, name, rng):
    plain = random_layer(layer_class, 4, 5, rng)
    limit = random_layer(layer_class, 4, 5, rng, **LIMITS[name])
    identity = [np.eye(4)] if name == "projection" else []
    limit.set_weights([*plain.get_weights(), *identity])
    x, states = rng.uniform(-1, 1, (3, 20, 5)), random_states(plain, 3, rng)
    x = x.astype("float32")
    for actual, expected in zip(
        run(limit, x, states), run(plain, x, states), strict=True
    ):
        for a, b in zip(actual, expected, strict=True):
            assert_close(a, b, 1e-6)


# Zoneout in training.


@pytest.mark.skipif(JAX, reason="keras.layers.RNN cannot draw in a step on JAX")
def test_each_step_of_zoneout_keeps_states_at_its_rates(rng):
    """A unit is that of the step before, or the new one, at its rate; ever anew."""
    cell = PeepholeLSTMCell(50, zoneout_h=0.3, zoneout_c=0.6, seed=3)
    cell.build((None, 5))
    plain = PeepholeLSTMCell(50)
    plain.build((None, 5))
    plain.set_weights(cell.get_weights()[: len(plain.weights)])
    states = [rng.uniform(-1, 1, (40, 50)).astype("float32") for _ in range(2)]
    kept = {"h": [], "c": []}
    for _ in range(4):
        x = rng.uniform(-1, 1, (40, 5)).astype("float32")
        _, new = plain(x, states)
        _, mixed = cell(x, states, training=True)
        for name, old, candidate, got in zip("hc", states, new, mixed, strict=True):
            old, candidate, got = (
                keras.ops.convert_to_numpy(each) for each in (old, candidate, got)
            )
            is_kept = got == old
            np.testing.assert_allclose(got[~is_kept], candidate[~is_kept], atol=1e-6)
            kept[name].append(is_kept)
        states = mixed
    for name, rate in {"h": 0.3, "c": 0.6}.items():
        # 8,000 draws: a standard deviation of 0.0055.
        assert abs(np.mean(kept[name]) - rate) < 0.025
        assert np.any(kept[name][0] != kept[name][1])
    assert np.any(kept["h"][0] != kept["c"][0])


def test_a_layer_with_zoneout_keeps_outputs_at_its_rate(rng):
    """In a layer all masks are drawn before the loop: also on JAX."""
    layer = random_layer(PeepholeLSTM, 50, 5, rng, zoneout_h=0.3, seed=3)
    x = rng.uniform(-1, 1, (40, 9, 5)).astype("float32")
    outputs, _ = run(layer, x, training=True)
    is_kept = outputs[:, 1:] == outputs[:, :-1]
    assert abs(is_kept.mean() - 0.3) < 0.02  # 16,000 draws: 0.0036
    assert not np.all(is_kept.all(axis=(0, 2)) | ~is_kept.any(axis=(0, 2)))
    again, _ = run(layer, x, training=True)
    assert np.any(again != outputs)
    inference, _ = run(layer, x)
    assert not np.any(inference[:, 1:] == inference[:, :-1])


@pytest.mark.skipif(not JAX, reason="elsewhere a step can draw")
def test_on_jax_a_cell_alone_refuses_to_train_with_zoneout(rng):
    rnn = keras.layers.RNN(PeepholeLSTMCell(4, zoneout_h=0.5))
    x = rng.uniform(-1, 1, (2, 3, 5)).astype("float32")
    assert tuple(rnn(x).shape) == (2, 4)
    with pytest.raises(ValueError, match="use the layer"):
        rnn(x, training=True)


# As any layer.


@pytest.mark.parametrize(
    ("layer_class", "name"),
    [
        (PeepholeLSTM, "all"),
        (PeepholeLSTM, "layer_norm tf1"),
        (CoupledLSTM, "all tfa"),
        (WeightDropLSTM, "zoneout"),
    ],
)
def test_fit_save_and_load(layer_class, name, rng, tmp_path):
    keras.utils.set_random_seed(1)
    arguments = OPTIONS[name] | {"dropout": 0.1, "recurrent_dropout": 0.2}
    if layer_class is WeightDropLSTM:
        arguments = dict(OPTIONS[name])
    x = rng.uniform(-1, 1, (64, 6, 5)).astype("float32")
    model = keras.Sequential(
        [
            keras.Input((6, 5)),
            keras.layers.Masking(),
            layer_class(4, return_sequences=True, **arguments),
            layer_class(4, go_backwards=True, **arguments),
            keras.layers.Dense(1),
        ]
    )
    before = model.get_weights()
    model.compile("adam", "mse")
    model.fit(x, np.ones((64, 1)), batch_size=32, epochs=1, verbose=0)
    trained = {weight.path: weight.numpy() for weight in model.trainable_weights}
    assert all(np.isfinite(value).all() for value in trained.values())
    moved = [np.any(a != b) for a, b in zip(before, model.get_weights(), strict=True)]
    assert all(moved)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        loaded.predict(x, verbose=0), model.predict(x, verbose=0)
    )
    assert loaded.layers[-2].get_config() == model.layers[-2].get_config()


@each_option
def test_traces_are_what_the_layer_computes(name, rng):
    layer = random_layer(PeepholeLSTM, 4, 5, rng, **OPTIONS[name])
    x = rng.uniform(-1, 1, (3, 8, 5)).astype("float32")
    outputs, (_, c) = run(layer, x)
    traces = trace_gates(layer, x)
    np.testing.assert_allclose(traces["h"], outputs, atol=1e-6)
    np.testing.assert_allclose(traces["c"][:, -1], c, atol=1e-6)


@each_option
def test_masks_states_and_cell_in_rnn(name, rng):
    layer = random_layer(PeepholeLSTM, 4, 5, rng, **OPTIONS[name])
    x = rng.uniform(-1, 1, (3, 8, 5)).astype("float32")
    states = random_states(layer, 3, rng)
    mask = np.arange(8) < 5
    padded = run(layer, x, states, mask=np.tile(mask, (3, 1)))
    short = run(layer, x[:, :5], states)
    for a, b in zip(padded[1], short[1], strict=True):
        assert_close(a, b, 1e-6)
    _, between = run(layer, x[:, :3], states)
    whole = run(layer, x, states)
    for a, b in zip(run(layer, x[:, 3:], between)[1], whole[1], strict=True):
        assert_close(a, b, 1e-6)
    rnn = keras.layers.RNN(layer.cell, return_sequences=True)
    outputs = keras.ops.convert_to_numpy(rnn(x, initial_state=states))
    assert_close(outputs, whole[0], 1e-6)
    unrolled = PeepholeLSTM.from_config(layer.get_config() | {"unroll": True})
    unrolled.build(x.shape)
    unrolled.set_weights(layer.get_weights())
    assert_close(run(unrolled, x, states)[0], whole[0], 1e-6)


@pytest.mark.parametrize("name", [name for name in OPTIONS if name != "all"])
def test_mixed_precision(name, rng):
    arguments = OPTIONS[name]
    wide = random_layer(PeepholeLSTM, 8, 5, rng, scale=0.5, **arguments)
    half = random_layer(PeepholeLSTM, 8, 5, rng, dtype="mixed_bfloat16", **arguments)
    half.set_weights(wide.get_weights())
    x = rng.uniform(-1, 1, (4, 6, 5)).astype("float32")
    outputs = keras.ops.cast(half(x, training=True)[0], "float32")
    assert keras.backend.standardize_dtype(half(x)[0].dtype) == "bfloat16"
    assert np.isfinite(keras.ops.convert_to_numpy(outputs)).all()
    half_outputs = keras.ops.cast(half(x)[0], "float32")
    difference = keras.ops.convert_to_numpy(half_outputs) - run(wide, x)[0]
    assert np.max(np.abs(difference)) < 0.06


@pytest.mark.parametrize("name", ["zoneout", "projection", "all"])
def test_stateful_bidirectional_and_shapes(name, rng):
    size = OPTIONS[name].get("projection", 4)
    layer = random_layer(PeepholeLSTM, 4, 5, rng, **OPTIONS[name])
    x = rng.uniform(-1, 1, (3, 8, 5)).astype("float32")
    whole, _ = run(layer, x)
    stateful = PeepholeLSTM.from_config(layer.get_config() | {"stateful": True})
    stateful.build((3, None, 5))
    stateful.set_weights(layer.get_weights())
    parts = [run(stateful, x[:, part])[0] for part in (slice(0, 3), slice(3, 8))]
    assert_close(np.concatenate(parts, axis=1), whole, 1e-6)
    both = keras.layers.Bidirectional(
        PeepholeLSTM(4, return_sequences=True, **OPTIONS[name])
    )
    assert tuple(both(x).shape) == (3, 8, 2 * size)
    assert both.compute_output_shape((3, 8, 5)) == (3, 8, 2 * size)
    functional = keras.Input((8, 5))
    assert PeepholeLSTM(4, **OPTIONS[name])(functional).shape == (None, size)


def test_the_kernel_report_names_the_option():
    layer = PeepholeLSTM(64, peepholes=(), projection=8)
    report = str(kernel_report(layer))
    assert "projection is 8, cuDNN needs None" in report
    with pytest.raises(ValueError, match="projection is 8"):
        PeepholeLSTM(64, peepholes=(), projection=8, use_cudnn=True)(
            np.ones((1, 2, 3), "float32")
        )


# Refusals.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer_norm": "keras"}, "layer_norm must be False, True, 'tfa' or 'tf1'"),
        (
            {"layer_norm_epsilon": 0},
            "layer_norm_epsilon must be a positive number, got",
        ),
        (
            {"layer_norm_epsilon": None, "layer_norm": True},
            "layer_norm_epsilon must be a positive number, got None",
        ),
        ({"cell_clip": -1}, "cell_clip must be None or a positive number, got -1"),
        ({"cell_clip": True}, "cell_clip must be None or a positive number, got True"),
        ({"zoneout_h": 1}, r"zoneout_h must be a number in \[0, 1\), got 1"),
        ({"zoneout_c": "0.5"}, r"zoneout_c must be a number in \[0, 1\)"),
        ({"projection": 0}, "projection must be a positive integer, got 0"),
        ({"projection": 2.5}, "projection must be a positive integer, got 2.5"),
        ({"projection_clip": 1.0}, "projection is None: there is nothing to clip"),
    ],
)
@pytest.mark.parametrize("make", [PeepholeLSTM, CoupledLSTMCell])
def test_wrong_values_are_named(make, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(4, **arguments)


class OwnEquations(PeepholeLSTMCell):
    @staticmethod
    def equations(z, p, states, σ, φ):
        return PeepholeLSTMCell.equations(z, p, states, σ, φ)


class OwnCell(GatedCell):
    gates = ("i",)

    @staticmethod
    def equations(z, p, states, σ, φ):
        return {"h": σ(z.i)}


@pytest.mark.parametrize("name", ["layer_norm", "cell_clip", "zoneout", "projection"])
@pytest.mark.parametrize("make", [DepthGatedLSTM, OwnEquations, OwnCell])
def test_a_cell_refuses_what_its_equations_do_not_provide(make, name):
    with pytest.raises(ValueError, match=f"has no {name}"):
        make(4, **OPTIONS[name])


class OneMoreState(PeepholeLSTMCell):
    state_names = ("h", "c", "d")


class GateWithoutH(PeepholeLSTMCell):
    gates, input_gates = ("i", "f", "g"), ("o",)
    options = tuple(options.OFF)


@pytest.mark.parametrize("name", ["layer_norm", "zoneout", "projection"])
@pytest.mark.parametrize("make", [OneMoreState, GateWithoutH])
def test_options_around_the_equations_need_h_and_c_alone(make, name):
    with pytest.raises(ValueError, match=r"need \(\) and \('h', 'c'\)"):
        make(4, **OPTIONS[name])


@pytest.mark.parametrize("make", [ClockworkRNN, ClockworkRNNCell])
@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("layer_norm", True),
        ("layer_norm_epsilon", 0.1),
        ("cell_clip", 1.0),
        ("zoneout_h", 0.1),
        ("zoneout_c", 0.0),
        ("projection", 3),
        ("projection_clip", 0.5),
        ("projection_initializer", "ones"),
    ],
)
def test_a_cell_without_gates_has_no_option(make, option, value):
    message = f"^ClockworkRNNCell has no {option}, got {value!r}: the papers define it"
    with pytest.raises(ValueError, match=message):
        make(4, **{option: value})


def test_the_layers_under_test_are_all_that_have_options():
    have = [
        layer
        for layer in RecurrentLayer.__subclasses__()
        if layer.__module__.startswith("custom_layers") and layer.cell_class.options
    ]
    assert set(have) == set(LAYERS)
