"""Which kernel runs, as documented; and the tied or dropped weights that reach the
fused LSTM."""

import keras
import numpy as np
import pytest
from cells import OURS, assert_close, gradients, random_layer, random_states, run

from custom_layers import (
    LAYERS,
    ClockworkRNNCell,
    CoupledLSTM,
    PeepholeLSTM,
    PeepholeLSTMCell,
    WeightDropLSTM,
    kernel_report,
)
from custom_layers.engine import cudnn, dispatch
from custom_layers.engine.recurrent_layer import RecurrentLayer

LSTM, GRU = keras.layers.LSTM, keras.layers.GRU


@pytest.fixture
def gpu(monkeypatch):
    """Pretend that there is one."""
    monkeypatch.setattr(dispatch, "device", lambda: "gpu")


@pytest.fixture
def cudnn_calls(gpu, monkeypatch):
    """Record the weights that cuDNN gets; Keras's loop runs them in its place."""
    calls = []

    def lstm_step(cell, x, states):
        """Gers et al. 2000, with the weights that the cell was given."""
        (h, c), ops = states, keras.ops
        z = ops.matmul(x, cell.kernel) + ops.matmul(h, cell.recurrent_kernel)
        i, f, g, o = ops.split(z if cell.bias is None else z + cell.bias, 4, axis=-1)
        c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(g)
        h = ops.sigmoid(o) * ops.tanh(c)
        return h, [h, c]

    class Recorded(cudnn._Cell):
        def __init__(self, cell, weights, step):
            super().__init__(cell, weights, step)
            calls.append(list(weights))

        __call__ = call = lstm_step

    monkeypatch.setattr(cudnn, "_Cell", Recorded)
    return calls


CONDITIONS = [
    (LSTM, {}, None),
    (LSTM, {"dropout": 0.3}, None),
    (LSTM, {"go_backwards": True, "stateful": True, "return_sequences": True}, None),
    (LSTM, {"activation": "relu"}, "activation is relu, cuDNN needs tanh"),
    (
        LSTM,
        {"recurrent_activation": "hard_sigmoid"},
        "recurrent_activation is hard_sigmoid, cuDNN needs",
    ),
    (
        LSTM,
        {"recurrent_dropout": 0.2},
        "recurrent_dropout is 0.2, cuDNN needs 0; WeightDropLSTM",
    ),
    (LSTM, {"unroll": True}, "unroll is True, cuDNN needs False"),
    (LSTM, {"use_bias": False}, "use_bias is False, cuDNN needs True"),
    (LSTM, {"use_cudnn": False}, "use_cudnn is False, cuDNN needs 'auto' or True"),
    (GRU, {}, None),
    (GRU, {"reset_after": False}, "reset_after is False, cuDNN needs True"),
    (GRU, {"recurrent_dropout": 0.2}, "recurrent_dropout is 0.2, cuDNN needs 0"),
    (keras.layers.SimpleRNN, {}, "cuDNN has no kernel for SimpleRNN(SimpleRNNCell)"),
    (PeepholeLSTM, {}, "peepholes is ('i', 'f', 'o'), cuDNN needs ()"),
    (PeepholeLSTM, {"peepholes": ()}, None),
    (PeepholeLSTM, {"peepholes": (), "use_cudnn": False}, "use_cudnn is False, cuDNN"),
    (LAYERS["clockwork"], {}, "cuDNN has no kernel for ClockworkRNN(Clockwork"),
    (
        LAYERS["clockwork"],
        {"use_cudnn": False},
        "cuDNN has no kernel for ClockworkRNN(",
    ),
    (LAYERS["depth-gated"], {}, "cuDNN has no kernel for DepthGatedLSTM("),
    (LAYERS["depth-gated"], {"peepholes": ()}, "cuDNN has no kernel for DepthGated"),
    (CoupledLSTM, {}, None),
    (CoupledLSTM, {"dropout": 0.3}, None),
    (CoupledLSTM, {"peepholes": ("f",)}, "peepholes is ('f',), cuDNN needs ()"),
    (CoupledLSTM, {"activation": "relu"}, "activation is relu, cuDNN needs tanh"),
    (
        CoupledLSTM,
        {"recurrent_activation": "relu"},
        "recurrent_activation is relu, cuDNN needs sigmoid",
    ),
    (
        CoupledLSTM,
        {"recurrent_dropout": 0.2},
        "recurrent_dropout is 0.2, cuDNN needs 0",
    ),
    (CoupledLSTM, {"unroll": True}, "unroll is True, cuDNN needs False"),
    (CoupledLSTM, {"use_bias": False}, "use_bias is False, cuDNN needs True"),
    (
        CoupledLSTM,
        {"use_cudnn": False},
        "use_cudnn is False, cuDNN needs 'auto' or True",
    ),
    (WeightDropLSTM, {}, None),
    (WeightDropLSTM, {"dropout": 0.3}, None),
    (WeightDropLSTM, {"unroll": True}, "unroll is True, cuDNN needs False"),
    (
        WeightDropLSTM,
        {"use_cudnn": False},
        "use_cudnn is False, cuDNN needs 'auto' or True",
    ),
]


@pytest.mark.parametrize(("layer_class", "options", "obstacle"), CONDITIONS)
def test_report_and_dispatch(layer_class, options, obstacle, cudnn_calls):
    """The report names the condition, and our layers do what the report says."""
    layer = layer_class(4, **options)
    report = kernel_report(layer)[layer.name]
    if (
        layer_class is GRU
        and keras.backend.backend() == "jax"
        and not options.get("recurrent_dropout")
    ):
        obstacle = "Keras has no cuDNN GRU on JAX"
    if obstacle is None:
        assert report["gpu"] == "cuDNN"
    else:
        assert report["gpu"].startswith("Keras's loop: " + obstacle)
    if isinstance(layer, RecurrentLayer):
        layer(np.ones((2, 3, 5), "float32"))
        assert bool(cudnn_calls) == (obstacle is None)


TENSORFLOW = keras.backend.backend() == "tensorflow"
BOTH = "TensorFlow's CPU loop in training, Keras's loop at inference"


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (LSTM(4), "Keras's loop: cuDNN needs an NVIDIA GPU"),
        (
            keras.layers.RNN(PeepholeLSTM(4).cell),
            "Keras's loop: keras.layers.RNN has no",
        ),
        (PeepholeLSTM(4), BOTH),
        (LAYERS["clockwork"](4), BOTH),
        (PeepholeLSTM(4, unroll=True), "Keras's loop: unroll is True"),
        (LAYERS["clockwork"](4, unroll=True), "an unrolled loop of its own"),
        (LAYERS["depth-gated"](4), "Keras's loop: DepthGatedLSTMCell is more than"),
        (
            PeepholeLSTM(4, activation=lambda x: x),
            "Keras's loop: activation is none of keras.activations",
        ),
    ],
)
def test_report_on_a_cpu(layer, text):
    if not TENSORFLOW and text == BOTH:
        text = f"Keras's loop: the backend is {keras.backend.backend()}, not tensorflow"
    ours = text.startswith("Keras's loop") and isinstance(layer, RecurrentLayer)
    if not TENSORFLOW and ours:
        text = "Keras's loop: the backend is"
    assert kernel_report(layer)[layer.name]["cpu"].startswith(text)


def test_coupled_with_a_mask(cudnn_calls):
    """TensorFlow's cuDNN takes a mask, JAX's and torch's do not."""
    mask = np.array([[True] * 3, [True, False, False]])
    CoupledLSTM(4)(np.ones((2, 3, 5), "float32"), mask=mask)
    assert bool(cudnn_calls) == TENSORFLOW


def test_without_gpu_coupled_runs_its_own_gates(cudnn_calls, monkeypatch):
    monkeypatch.setattr(dispatch, "device", lambda: "cpu")
    CoupledLSTM(4)(np.ones((2, 3, 5), "float32"))
    assert not cudnn_calls


@pytest.mark.parametrize("layer_class", OURS.values())
def test_wrong_use_cudnn(layer_class):
    message = "use_cudnn must be 'auto', True or False, got 'yes'"
    with pytest.raises(ValueError, match=message):
        layer_class(4, use_cudnn="yes")


@pytest.mark.parametrize("layer_class", OURS.values())
def test_use_cudnn_is_kept(layer_class):
    layer = layer_class(4, use_cudnn=False)
    assert type(layer).from_config(layer.get_config()).use_cudnn is False


@pytest.mark.parametrize("layer_class", [*[LSTM] * TENSORFLOW, *OURS.values()])
def test_use_cudnn_true_insists_as_in_keras(layer_class):
    """Without a GPU: an error that says why, as from ``keras.layers.LSTM``."""
    layer = layer_class(4, use_cudnn=True)
    match = "use_cudnn"
    if layer_class is not LSTM:
        match = r"use_cudnn is True, but (\w.* )?cuDNN (has|needs) .+: 'auto' uses"
    for training in (False, True):
        with pytest.raises(ValueError, match=match):
            layer(np.ones((2, 3, 5), "float32"), training=training)


class ForgetsAlwaysCell(PeepholeLSTMCell):
    @staticmethod
    def equations(z, p, states, σ, φ):
        return {"h": z.g, "c": z.g}


class IdleCell(ClockworkRNNCell):
    @staticmethod
    def equations(z, p, states, σ, φ):
        h, clock = states
        return {"g": h, "h": h + 7, "clock": clock}


class ForgetsAlways(RecurrentLayer):
    cell_class = ForgetsAlwaysCell


class Idle(RecurrentLayer):
    cell_class = IdleCell


def test_a_kernel_is_not_inherited_with_other_equations(cudnn_calls):
    """It computes the old ones."""
    layer = ForgetsAlways(4, peepholes=())
    layer(np.ones((2, 3, 5), "float32"))
    assert not cudnn_calls
    assert "no kernel for ForgetsAlways(" in kernel_report(layer)[layer.name]["gpu"]
    unrolled = Idle(4, unroll=True)(np.ones((2, 3, 5), "float32"))
    assert_close(unrolled, np.full((2, 4), 21.0))


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX's cuDNN alone")
def test_on_jax_sequences_are_turned_before_cudnn(cudnn_calls, monkeypatch, x):
    """Keras's cuDNN there puts the outputs of ``go_backwards`` into the wrong order."""
    asked = []

    class Recorded(cudnn._LSTM):
        def __init__(self, cell, layer, go_backwards):
            super().__init__(cell, layer, go_backwards)
            asked.append(go_backwards)

    monkeypatch.setattr(cudnn, "_LSTM", Recorded)
    layer = CoupledLSTM(4, return_sequences=True, go_backwards=True)
    backwards = layer(x)
    layer.go_backwards = False
    assert_close(layer(x[:, ::-1]), backwards)
    assert asked == [False, False]


def test_use_cudnn_true_names_the_obstacle(gpu):
    with pytest.raises(ValueError, match=r"but peepholes is \('i', 'f', 'o'\), cuDNN"):
        PeepholeLSTM(4, use_cudnn=True)(np.ones((2, 3, 5), "float32"))


@pytest.mark.parametrize(
    "options", [{}, {"go_backwards": True}, {"return_sequences": False}]
)
@pytest.mark.parametrize("masked", [False, True])
def test_tied_weights_give_the_loop(options, masked, rng, cudnn_calls):
    """Outputs, states and gradients of the three gates and of the tied LSTM, in
    float64."""
    tied = random_layer(CoupledLSTM, 4, 5, rng, dtype="float64", **options)
    loop = CoupledLSTM.from_config(tied.get_config() | {"use_cudnn": False})
    loop.build((None, None, 5))
    loop.set_weights(tied.get_weights())
    x, states = rng.uniform(-1, 1, (3, 8, 5)), random_states(tied, 3, rng, "float64")
    call = {"mask": np.arange(8) < np.array([[8], [5], [1]])} if masked else {}
    (outputs, new_states), (wanted, wanted_states) = (
        run(it, x, states, **call) for it in (tied, loop)
    )
    for actual, expected in zip(
        [outputs, *new_states], [wanted, *wanted_states], strict=True
    ):
        assert_close(actual, expected, 1e-6)
    if not masked:
        seeds = [rng.uniform(-1, 1, value.shape) for value in [wanted, *wanted_states]]
        expected = gradients(loop, x, states, seeds)
        for name, gradient in gradients(tied, x, states, seeds).items():
            assert_close(gradient, expected[name], 1e-6)


def test_tied_weights_use_the_same_dropout(rng, cudnn_calls):
    tied = random_layer(CoupledLSTM, 4, 5, rng, dropout=0.5, seed=3)
    loop = CoupledLSTM.from_config(tied.get_config() | {"use_cudnn": False})
    loop.build((None, None, 5))
    loop.set_weights(tied.get_weights())
    x = rng.uniform(-1, 1, (3, 8, 5)).astype("float32")
    assert_close(run(tied, x, training=True)[0], run(loop, x, training=True)[0], 1e-6)


def test_tied_weights_reach_cudnn(rng, cudnn_calls):
    layer = random_layer(CoupledLSTM, 2, 5, rng)
    run(layer, np.ones((1, 2, 5), "float32"))
    for given, weight in zip(cudnn_calls[0], layer.get_weights(), strict=True):
        expected = np.concatenate([-weight[..., :2], weight], axis=-1)
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(given), expected)


def test_weight_drop_is_an_lstm_with_dropped_weights(rng, cudnn_calls):
    """Entries of U are 0 or doubled; an LSTM with that U gives the same."""
    dropping = random_layer(WeightDropLSTM, 6, 5, rng, weight_dropout=0.5, seed=4)
    loop = WeightDropLSTM.from_config(dropping.get_config() | {"use_cudnn": False})
    loop.build((None, None, 5))
    loop.set_weights(dropping.get_weights())
    plain = random_layer(LSTM, 6, 5, rng, use_cudnn=False)
    x = rng.uniform(-1, 1, (3, 8, 5)).astype("float32")
    for _ in range(2):
        outputs = run(dropping, x, training=True)[0]
        plain.set_weights([keras.ops.convert_to_numpy(w) for w in cudnn_calls[-1]])
        assert_close(outputs, run(plain, x)[0], 1e-6)
        assert_close(run(loop, x, training=True)[0], outputs, 1e-6)
    kernel, recurrent_kernel, bias = dropping.get_weights()
    drawn = [
        [keras.ops.convert_to_numpy(w) for w in weights] for weights in cudnn_calls
    ]
    for weights in drawn:
        np.testing.assert_array_equal(weights[0], kernel)
        np.testing.assert_array_equal(weights[2], bias)
        ratio = weights[1] / recurrent_kernel
        assert np.all(np.isclose(ratio, 0) | np.isclose(ratio, 2))
        assert 0.3 < np.mean(np.isclose(ratio, 2)) < 0.7
    assert np.any(drawn[0][1] != drawn[1][1])
    plain.set_weights([kernel, recurrent_kernel, bias])
    assert_close(run(dropping, x)[0], run(plain, x)[0], 1e-6)


@pytest.mark.parametrize("layer_class", OURS.values())
def test_every_cell_drops_weights(layer_class, rng):
    """All sequences alike, with a new mask at each call."""
    layer = random_layer(layer_class, 4, 5, rng, weight_dropout=0.5, seed=2)
    x = rng.uniform(-1, 1, (3, 8, 5)).astype("float32")
    x[1] = x[0]
    dropped, kept = run(layer, x, training=True)[0], run(layer, x)[0]
    assert np.max(np.abs(dropped - kept)) > 1e-3
    np.testing.assert_allclose(dropped[0], dropped[1], atol=1e-6)
    assert np.max(np.abs(run(layer, x, training=True)[0] - dropped)) > 1e-3


def test_weight_drop_keeps_the_expected_weight(rng, cudnn_calls):
    """The scale 1 / (1 − rate): the mean over many masks is U."""
    layer = random_layer(WeightDropLSTM, 32, 5, rng, weight_dropout=0.3, seed=4)
    for _ in range(20):
        layer(np.zeros((1, 1, 5), "float32"), training=True)
    drawn = [keras.ops.convert_to_numpy(weights[1]) for weights in cudnn_calls]
    recurrent_kernel = layer.get_weights()[1]
    assert abs(np.mean(np.array(drawn) / recurrent_kernel) - 1) < 0.02


def test_report_finds_every_layer():
    inner = keras.Sequential(
        [keras.Input((3, 5)), LSTM(4, name="inner", return_sequences=True)]
    )
    inputs = keras.Input((3, 5))
    x = inner(inputs)
    x = keras.layers.Bidirectional(GRU(4, name="both", return_sequences=True))(x)
    x = keras.layers.TimeDistributed(keras.layers.Dense(4))(x)
    x = keras.layers.RNN(keras.layers.LSTMCell(4), name="rnn")(x)
    report = kernel_report(keras.Model(inputs, x))
    assert report.keys() == {"inner", "forward_both", "backward_both", "rnn"}
    assert report["rnn"]["gpu"] == "Keras's loop: cuDNN has no kernel for RNN(LSTMCell)"


class OwnLayer(keras.layers.Layer):
    """Holds recurrent layers in containers."""

    def __init__(self, shared, **options):
        super().__init__(**options)
        self.shared = shared
        self.stack = [
            LSTM(4, name="first"),
            (GRU(4, name="second"), LSTM(4, name="third")),
        ]
        self.by_name = {
            "deep": {"wrapped": keras.layers.TimeDistributed(LSTM(4, name="within"))}
        }
        self.words = ["no", "layer"]
        self._again = self.stack[0]


class OwnModel(keras.Model):
    """Holds layers, one of them twice, and a model."""

    def __init__(self):
        super().__init__()
        self.lstm = LSTM(4, name="lstm")
        self.both = keras.layers.Bidirectional(GRU(4, name="both"))
        self.own = OwnLayer(self.lstm)
        self.model = keras.Sequential(
            [keras.Input((3, 5)), CoupledLSTM(4, name="coupled")]
        )
        self.owner = [self]


def test_report_finds_what_own_classes_hold():
    inside = {"first", "second", "third", "within"}
    alone = kernel_report(OwnLayer(LSTM(4, name="shared")))
    assert alone.keys() == {"shared", *inside}
    found = {"lstm", "forward_both", "backward_both", "coupled", *inside}
    assert kernel_report(OwnModel()).keys() == found
    assert kernel_report(keras.Sequential([OwnModel()])).keys() == found


class ExtraModel(keras.Sequential):
    """Holds a layer that its own list lacks."""

    def __init__(self):
        super().__init__([keras.Input((3, 5)), LSTM(4, name="listed")])
        self.extra = LSTM(4, name="extra")


def test_report_finds_a_layer_beside_a_model_s_list():
    assert list(kernel_report(ExtraModel())) == ["listed", "extra"]
