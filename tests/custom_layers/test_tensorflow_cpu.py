"""TensorFlow's training loop on a CPU against Keras's own loop around the same cell."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from custom_layers import (
    ClockworkRNN,
    CoupledLSTM,
    PeepholeLSTM,
    PeepholeLSTMCell,
    WeightDropLSTM,
)
from custom_layers.engine import tensorflow_cpu
from custom_layers.engine.recurrent_layer import RecurrentLayer

pytestmark = pytest.mark.usefixtures("halve_small_layers")

BATCH, TIME, FEATURES, UNITS = 6, 7, 3, 5
DROPOUTS = {"dropout": 0.3, "recurrent_dropout": 0.4, "seed": 3}


LAYERS = {
    "peephole": (PeepholeLSTM, {}),
    "peephole-f": (PeepholeLSTM, {"peepholes": ("f",)}),
    "coupled": (CoupledLSTM, {}),
    "coupled-f-o": (CoupledLSTM, {"peepholes": ("f", "o")}),
    "clockwork": (ClockworkRNN, {"periods": (1, 2, 4, 5, 7)}),
    "weight-drop": (WeightDropLSTM, {"seed": 3}),
}


@pytest.fixture
def calls(monkeypatch):
    """Count how often the loop of our own is built."""
    counted, train = [], tensorflow_cpu.train
    monkeypatch.setattr(
        tensorflow_cpu, "train", lambda *a, **k: counted.append(1) or train(*a, **k)
    )
    return counted


def pair(layer_class, cell_options=None, batch=BATCH, **options):
    """Return a layer, and Keras's RNN around a cell of the same configuration and
    random weights."""
    rng = np.random.default_rng(1)
    options["dtype"] = "float64"
    layer = layer_class(UNITS, **(cell_options or {}), **options)
    cell = layer.cell_class.from_config(layer.cell.get_config())
    reference = keras.layers.RNN(cell, **options)
    for each in (layer, reference):
        each.build((batch, TIME, FEATURES))
    reference.set_weights(
        [rng.normal(size=weight.shape) for weight in reference.get_weights()]
    )
    layer.set_weights(reference.get_weights())
    return layer, reference


def data(batch=BATCH):
    """Return sequences, a mask that also starts with masked steps, and states."""
    rng = np.random.default_rng(2)
    mask = rng.random((batch, TIME)) < 0.6
    mask[0] = False
    return (
        rng.normal(size=(batch, TIME, FEATURES)),
        mask,
        rng.integers(0, 1, (2, batch, UNITS)) + rng.normal(size=(2, batch, UNITS)),
    )


def values_and_gradients(layer, x, states, mask=None):
    """Return a layer's results in training, and the gradients of inputs, states and
    weights."""
    x, states = (
        tf.convert_to_tensor(x),
        [tf.convert_to_tensor(state) for state in tf.unstack(states)],
    )
    with tf.GradientTape() as tape:
        tape.watch([x, *states])
        results = tf.nest.flatten(
            layer(x, initial_state=states, mask=mask, training=True)
        )
        weights = [tf.range(1, tf.size(each) + 1) for each in results]
        weights = [
            tf.sin(tf.reshape(tf.cast(w, x.dtype), tf.shape(r)))
            for w, r in zip(weights, results, strict=True)
        ]
        loss = tf.add_n(
            [tf.reduce_sum(w * r) for w, r in zip(weights, results, strict=True)]
        )
    sources = [x, *states, *(weight.value for weight in layer.trainable_weights)]
    # Nobody asks for the gradient of a clock.
    return results, tape.gradient(loss, sources, unconnected_gradients="zero")


def assert_equal(ours, theirs, tolerance=1e-10):
    for mine, other in zip(tf.nest.flatten(ours), tf.nest.flatten(theirs), strict=True):
        np.testing.assert_allclose(mine, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("masked", [False, True], ids=["unmasked", "masked"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"return_sequences": True, "return_state": True},
        {"return_sequences": True, "go_backwards": True},
        {"return_sequences": True, "return_state": True, "zero_output_for_mask": True},
        {"return_state": True, "zero_output_for_mask": True, "go_backwards": True},
    ],
    ids=lambda options: " ".join(options) or "last",
)
@pytest.mark.parametrize("name", LAYERS)
def test_values_and_gradients_are_those_of_keras_loop(name, options, masked, calls):
    layer_class, cell_options = LAYERS[name]
    layer, reference = pair(layer_class, cell_options, **options)
    x, mask, states = data()
    if layer_class is ClockworkRNN:
        states[1] = layer.cell.clock.at(3)
    mask = mask if masked else None
    compute = tf.function(values_and_gradients, jit_compile=False)
    assert_equal(
        compute(layer, x, states, mask),
        values_and_gradients(reference, x, states, mask),
    )
    assert len(calls) == 1


@pytest.mark.parametrize(("masked", "use_bias"), [(False, True), (True, False)])
@pytest.mark.parametrize(
    "dropouts",
    [
        DROPOUTS,
        {**DROPOUTS, "tied_dropout": True},
        {**DROPOUTS, "dropout": 0.0},
        {**DROPOUTS, "recurrent_dropout": 0.0},
    ],
    ids=["by gate", "tied", "of states", "of inputs"],
)
@pytest.mark.parametrize("name", ["peephole", "coupled"])
def test_dropout_is_that_of_keras_loop(name, dropouts, masked, use_bias, calls):
    layer, reference = pair(
        LAYERS[name][0], {**dropouts, "use_bias": use_bias}, return_sequences=True
    )
    x, mask, states = data()
    mask = mask if masked else None
    compute = tf.function(values_and_gradients, jit_compile=False)
    ours = compute(layer, x, states, mask)
    assert_equal(ours, values_and_gradients(reference, x, states, mask))
    without, _ = values_and_gradients(
        pair(LAYERS[name][0], {"use_bias": use_bias})[0], x, states, mask
    )
    assert not np.allclose(ours[0][0][:, -1], without[0])
    assert len(calls) == 1


OPTIONS = {
    "cell_clip": {"cell_clip": 0.3},
    "cell_clip and dropouts": {"cell_clip": 0.3, **DROPOUTS},
    "layer_norm": {"layer_norm": True},
    "layer_norm tfa, cell_clip": {"layer_norm": "tfa", "cell_clip": 0.3},
    "layer_norm tf1, cell_clip": {"layer_norm": "tf1", "cell_clip": 0.3},
    "zoneout": {"zoneout_h": 0.3, "zoneout_c": 0.4, "seed": 3},
    "projection": {"projection": UNITS},  # `data` makes h and c of one size
    "projection_clip": {"projection": UNITS, "projection_clip": 0.1},
}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("layer", ["peephole", "coupled-f-o"])
def test_options_in_training_are_those_of_keras_loop(layer, name, calls):
    """The loop of our own has ``cell_clip`` alone; outside a graph no layer runs it."""
    layer_class, arguments = LAYERS[layer]
    both = {"return_sequences": True, "return_state": True}
    (in_graph, _), (eager, _) = (
        pair(layer_class, arguments | OPTIONS[name], **both) for _ in "12"
    )
    x, mask, states = data()
    compute = tf.function(values_and_gradients, jit_compile=False)
    ours = compute(in_graph, x, states, mask)
    assert_equal(ours, values_and_gradients(eager, x, states, mask))
    assert len(calls) == name.startswith("cell_clip")
    clipped = OPTIONS[name].keys() & {"cell_clip", "projection_clip"}
    for option in clipped:  # else nothing would show that it is there
        without = arguments | OPTIONS[name] | {option: None}
        (plain, *_), _ = values_and_gradients(
            pair(layer_class, without, **both)[0], x, states, mask
        )
        assert not np.allclose(ours[0][0], plain, atol=0.01)


@pytest.mark.parametrize("batch", [1, 7, 40])
@pytest.mark.parametrize("name", ["peephole", "coupled"])
def test_batch_and_time_of_unknown_size(name, batch, calls):
    layer, reference = pair(LAYERS[name][0], batch=None, return_sequences=True)
    x, mask, states = data(batch)
    some = (
        tf.TensorSpec((None, None, FEATURES), tf.float64),
        tf.TensorSpec((None, None), tf.bool),
    )
    compute = tf.function(
        lambda x, mask: values_and_gradients(layer, x, states, mask),
        input_signature=some,
        jit_compile=False,
    )
    assert_equal(compute(x, mask), values_and_gradients(reference, x, states, mask))
    assert len(calls) == 2  # two halves


@pytest.mark.parametrize("name", ["peephole", "coupled"])
@pytest.mark.parametrize("dropouts", [{}, DROPOUTS], ids=["", "dropouts"])
def test_a_cell_in_keras_loop_in_a_graph(name, dropouts, calls):
    """Its products with U have a gradient of ours."""
    (_, in_graph), (_, eager) = (
        pair(LAYERS[name][0], dropouts, return_sequences=True, return_state=True)
        for _ in "12"
    )
    x, mask, states = data()
    compute = tf.function(values_and_gradients, jit_compile=False)
    assert_equal(
        compute(in_graph, x, states, mask), values_and_gradients(eager, x, states, mask)
    )
    assert not calls


def test_a_batch_in_halves(calls):
    layer, reference = pair(
        PeepholeLSTM, batch=33, return_sequences=True, return_state=True
    )
    x, mask, states = data(33)
    compute = tf.function(values_and_gradients, jit_compile=False)
    assert_equal(
        compute(layer, x, states, mask),
        values_and_gradients(reference, x, states, mask),
    )
    assert len(calls) == 2


def assert_slope_is_the_gradient(layer, x, states):
    """Check the gradient of the bias against differences, with the same random numbers
    each time."""
    layer.build(x.shape)
    seed, bias, step = layer.cell.seed_generator.state, layer.cell.bias.numpy(), 1e-5

    @tf.function(jit_compile=False)
    def compute():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(
                layer(x, initial_state=tf.unstack(states), training=True)
            )
        return loss, tape.gradient(loss, layer.cell.bias.value)

    def loss_at(changed):
        seed.assign(start)
        layer.cell.bias.assign(changed)
        return compute()

    start = seed.numpy()
    slope = [
        (loss_at(bias + d)[0] - loss_at(bias - d)[0]) / 2 / step
        for d in np.eye(len(bias)) * step
    ]
    np.testing.assert_allclose(loss_at(bias)[1], slope, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("tied_dropout", [False, True])
def test_halves_with_dropout(tied_dropout, calls):
    layer = PeepholeLSTM(UNITS, dtype="float64", tied_dropout=tied_dropout, **DROPOUTS)
    x, _, states = data(40)
    assert_slope_is_the_gradient(layer, x, states)
    assert len(calls) == 2
    outputs = tf.function(lambda x: layer(x, training=True), jit_compile=False)(
        np.repeat(x[:1], 40, axis=0)
    )
    assert (
        len({tuple(row) for row in outputs.numpy()}) > 20
    )  # the halves share no masks


def test_xla(calls):
    layer, reference = pair(PeepholeLSTM, return_sequences=True)
    x, mask, states = data()
    compute = tf.function(values_and_gradients, jit_compile=True)
    assert_equal(
        compute(layer, x, states, mask),
        values_and_gradients(reference, x, states, mask),
        1e-8,
    )
    assert len(calls) == 1


def test_second_derivative(calls):
    def curvature(layer, x, states):
        x = tf.convert_to_tensor(x)
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                loss = tf.reduce_sum(
                    tf.sin(layer(x, initial_state=tf.unstack(states), training=True))
                )
            slope = inner.gradient(loss, x)
            length = tf.reduce_sum(slope**2)
        return outer.gradient(
            length, [x, *(weight.value for weight in layer.trainable_weights)]
        )

    layer, reference = pair(PeepholeLSTM)
    x, _, states = data()
    compute, exact = (
        tf.function(curvature, jit_compile=False),
        curvature(reference, x, states),
    )
    assert_equal(compute(layer, x, states), exact)
    assert_equal(compute(reference, x, states), exact)
    assert len(calls) == 1


def test_half_precision(calls):
    layer = PeepholeLSTM(UNITS, dtype="mixed_float16", return_sequences=True)
    exact = PeepholeLSTM(UNITS, return_sequences=True)
    x, _, states = data()
    for each in (layer, exact):
        each.build(x.shape)
    exact.set_weights(layer.get_weights())
    compute = tf.function(values_and_gradients, jit_compile=False)
    (ours,), gradients = compute(layer, x.astype("float16"), states.astype("float16"))
    (theirs,), true_gradients = compute(
        exact, x.astype("float32"), states.astype("float32")
    )
    assert len(calls) == 2
    assert ours.dtype == tf.float16
    np.testing.assert_allclose(ours, theirs, atol=0.01)
    for mine, other in zip(gradients[3:], true_gradients[3:], strict=True):
        assert mine.dtype == tf.float32
        np.testing.assert_allclose(
            mine, other, atol=0.03 * float(tf.reduce_max(tf.abs(other)))
        )


@pytest.mark.parametrize("layer_class", [PeepholeLSTM, CoupledLSTM])
def test_integers_are_read_as_numbers(layer_class, calls):
    layer = layer_class(UNITS, seed=1)
    x = np.random.default_rng(1).integers(0, 9, (4, TIME, FEATURES)).astype("uint8")
    layer.build(x.shape)
    train = tf.function(lambda x: layer(x, training=True), jit_compile=False)
    np.testing.assert_allclose(
        train(x), layer(x.astype("float32")), rtol=1e-5, atol=1e-6
    )
    assert len(calls) == 1


class ConstantInputGateCell(PeepholeLSTMCell):
    """A step that leaves out one of its gates: the input gate is half open at all
    times."""

    @staticmethod
    def equations(z, p, states, σ, φ):
        z.i = keras.ops.zeros_like(z.f)
        return PeepholeLSTMCell.equations(z, p, states, σ, φ)


def layer_of(cell):
    """Return a layer class for a cell class."""

    class Layer(RecurrentLayer):
        cell_class = cell

    return Layer


def test_a_step_that_leaves_out_a_gate(calls):
    options = {**DROPOUTS, "peepholes": ()}
    layer, reference = pair(layer_of(ConstantInputGateCell), options)
    x, mask, states = data()
    compute = tf.function(values_and_gradients, jit_compile=False)
    ours, gradients = compute(layer, x, states, mask)
    theirs, expected = values_and_gradients(reference, x, states, mask)
    assert_equal(ours, theirs)
    assert_equal(gradients, expected)
    assert len(calls) == 1


class ZoneoutCell(PeepholeLSTMCell):
    """Krueger et al. 2016, arXiv 1606.01305: a step that draws random numbers."""

    def values(self, inputs, states, training=False):
        values = super().values(inputs, states, training)
        shape, seed = values["c"].shape, self.seed_generator
        kept = keras.random.uniform(shape, dtype="float64", seed=seed) < 0.5
        return {**values, "c": tf.where(kept, states[1], values["c"])}


class DoubledCell(PeepholeLSTMCell):
    """A cell that computes more than its equations."""

    def call(self, inputs, states, training=False):
        return super().call(2 * inputs, states, training)


@pytest.mark.parametrize("cell_class", [ZoneoutCell, DoubledCell])
def test_other_cells_train_in_keras_loop(cell_class, calls):
    x, _, states = data()
    layer = layer_of(cell_class)(UNITS, dtype="float64", seed=1)
    assert_slope_is_the_gradient(layer, x, states)
    assert not calls


class ScaledCell(PeepholeLSTMCell):
    """A cell with a weight of its own, which its equations are given."""

    vectors = ("scale",)

    @staticmethod
    def equations(z, p, states, σ, φ):
        z.g = z.g * p.scale
        return PeepholeLSTMCell.equations(z, p, states, σ, φ)


def test_a_weight_of_its_own_has_its_gradient(calls):
    layer, reference = pair(layer_of(ScaledCell), {})
    x, mask, states = data()
    compute = tf.function(values_and_gradients, jit_compile=False)
    assert_equal(
        compute(layer, x, states, mask),
        values_and_gradients(reference, x, states, mask),
    )
    assert len(calls) == 1


def test_a_random_activation_trains_in_keras_loop(calls):
    generator = keras.random.SeedGenerator(1)

    def noisy_tanh(z):
        return keras.ops.tanh(z) * keras.random.uniform(
            z.shape, dtype="float64", seed=generator
        )

    layer = PeepholeLSTM(UNITS, activation=noisy_tanh, dtype="float64", seed=1)
    layer.cell.seed_generator = generator
    x, _, states = data()
    assert_slope_is_the_gradient(layer, x, states)
    assert not calls


@pytest.mark.parametrize("layer_class", [PeepholeLSTM, CoupledLSTM])
def test_fit_and_predict_trace_once_for_each_shape(layer_class, monkeypatch):
    """70 sequences in batches of 32 are batches of two sizes: 32 and 6."""
    model = keras.Sequential(
        [keras.Input((TIME, FEATURES)), layer_class(4), keras.layers.Dense(1)]
    )
    model.compile("adam", "mse", metrics=["mae"], jit_compile=False)
    sizes, inner_loop = [], layer_class.inner_loop

    def counted(layer, sequences, *arguments, **options):
        sizes.append(sequences.shape[0])
        return inner_loop(layer, sequences, *arguments, **options)

    monkeypatch.setattr(layer_class, "inner_loop", counted)
    x = np.ones((70, TIME, FEATURES), "float32")

    def traced(act):
        sizes.clear()
        act()
        return list(sizes)

    # Else TensorFlow traces the training step twice.
    model.optimizer.build(model.trainable_variables)
    model.compute_metrics(None, x[:1, 0, :1], np.zeros((1, 1), "float32"))
    assert traced(lambda: model.fit(x, x[:, 0, :1], batch_size=32, verbose=0)) == [None]
    assert (
        traced(lambda: model.fit(x, x[:, 0, :1], batch_size=32, epochs=2, verbose=0))
        == []
    )
    assert traced(lambda: model.predict(x, batch_size=32, verbose=0)) == [32, None]
    assert traced(lambda: model.predict(x, batch_size=32, verbose=0)) == []
