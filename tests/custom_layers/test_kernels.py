"""Which kernel runs, as documented; and the tied or dropped weights that reach the fused LSTM."""

import keras
import numpy as np
import pytest
from cells import assert_close, gradients, random_layer, random_states, run

from custom_layers import (
    LAYERS,
    CoupledLSTM,
    PeepholeLSTM,
    WeightDropLSTM,
    coupled_lstm,
    kernel_report,
)

LSTM, GRU = keras.layers.LSTM, keras.layers.GRU


@pytest.fixture
def rng():
    return np.random.default_rng(23)


@pytest.fixture
def gpu(monkeypatch):
    """Pretend that there is one: the fused LSTM then falls back to Keras's loop, on the same weights."""
    monkeypatch.setattr(coupled_lstm, "has_gpu", lambda: True)


def use_of_fused(layer, x, monkeypatch, **call):
    """Run a layer; return whether it used the fused LSTM."""
    calls, original = [], layer.fused.inner_loop

    def record(*arguments):
        calls.append(arguments)
        return original(*arguments)

    monkeypatch.setattr(layer.fused, "inner_loop", record)
    layer(x, **call)
    return bool(calls)


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
    (keras.layers.SimpleRNN, {}, "cuDNN has no kernel for SimpleRNNCell"),
    (PeepholeLSTM, {}, "cuDNN has no kernel for PeepholeLSTMCell"),
    (LAYERS["clockwork"], {}, "cuDNN has no kernel for ClockworkRNNCell"),
    (LAYERS["depth-gated"], {}, "cuDNN has no kernel for DepthGatedLSTMCell"),
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
def test_report_and_dispatch(layer_class, options, obstacle, gpu, monkeypatch):
    """The report names the condition, and CoupledLSTM does what the report says."""
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
        assert report["gpu"].startswith("generic loop: " + obstacle)
    assert report["cpu"] == "generic loop: cuDNN needs an NVIDIA GPU"
    if layer_class is CoupledLSTM:
        used = use_of_fused(layer, np.ones((2, 3, 5), "float32"), monkeypatch)
        assert used == (obstacle is None)


def test_coupled_with_a_mask(gpu, monkeypatch):
    """TensorFlow's cuDNN takes a mask, JAX's and torch's do not."""
    x, mask = (
        np.ones((2, 3, 5), "float32"),
        np.array([[True] * 3, [True, False, False]]),
    )
    used = use_of_fused(CoupledLSTM(4), x, monkeypatch, mask=mask)
    assert used == (keras.backend.backend() == "tensorflow")


def test_without_gpu_coupled_runs_its_own_gates(monkeypatch):
    assert not use_of_fused(CoupledLSTM(4), np.ones((2, 3, 5), "float32"), monkeypatch)


def test_wrong_use_cudnn():
    for layer_class in (CoupledLSTM, WeightDropLSTM):
        with pytest.raises(
            ValueError, match="use_cudnn must be 'auto', True or False, got 'yes'"
        ):
            layer_class(4, use_cudnn="yes")


@pytest.mark.parametrize(
    "options", [{}, {"go_backwards": True}, {"return_sequences": False}]
)
@pytest.mark.parametrize("masked", [False, True])
def test_tied_weights_give_the_loop(options, masked, rng, gpu):
    """Outputs, states and gradients of the three gates and of the tied LSTM, in float64."""
    tied = random_layer(CoupledLSTM, 4, 5, rng, dtype="float64", **options)
    loop = CoupledLSTM.from_config(tied.get_config() | {"use_cudnn": False})
    loop.build((None, None, 5))
    loop.set_weights(tied.get_weights())
    x, states = rng.uniform(-1, 1, (3, 8, 5)), random_states(tied, 3, rng, "float64")
    call = {"mask": np.arange(8) < np.array([[8], [5], [1]])} if masked else {}
    (outputs, new_states), (wanted, wanted_states) = (
        run(it, x, states, **call) for it in (tied, loop)
    )
    for actual, expected in zip([outputs, *new_states], [wanted, *wanted_states]):
        assert_close(actual, expected, 1e-6)
    if not masked:
        seeds = [rng.uniform(-1, 1, value.shape) for value in [wanted, *wanted_states]]
        expected = gradients(loop, x, states, seeds)
        for name, gradient in gradients(tied, x, states, seeds).items():
            assert_close(gradient, expected[name], 1e-6)


def test_tied_weights_use_the_same_dropout(rng, gpu):
    tied = random_layer(CoupledLSTM, 4, 5, rng, dropout=0.5, seed=3)
    loop = CoupledLSTM.from_config(tied.get_config() | {"use_cudnn": False})
    loop.build((None, None, 5))
    loop.set_weights(tied.get_weights())
    x = rng.uniform(-1, 1, (3, 8, 5)).astype("float32")
    assert_close(run(tied, x, training=True)[0], run(loop, x, training=True)[0], 1e-6)


def test_weight_drop_is_an_lstm_with_dropped_weights(rng):
    """Each entry of U is 0 or twice itself; the LSTM with that U gives the same; masks change."""
    dropping = random_layer(WeightDropLSTM, 6, 5, rng, weight_dropout=0.5, seed=4)
    plain = random_layer(LSTM, 6, 5, rng)
    drawn, original = [], dropping.fused.inner_loop

    def record(weights, *arguments):
        drawn.append([keras.ops.convert_to_numpy(weight) for weight in weights])
        return original(weights, *arguments)

    dropping.fused.inner_loop = record
    x = rng.uniform(-1, 1, (3, 8, 5)).astype("float32")
    for _ in range(2):
        outputs = run(dropping, x, training=True)[0]
        plain.set_weights(drawn[-1])
        assert_close(outputs, run(plain, x)[0], 1e-6)
    kernel, recurrent_kernel, bias = dropping.get_weights()
    for weights in drawn:
        np.testing.assert_array_equal(weights[0], kernel)
        np.testing.assert_array_equal(weights[2], bias)
        ratio = weights[1] / recurrent_kernel
        assert np.all(np.isclose(ratio, 0) | np.isclose(ratio, 2))
        assert 0.3 < np.mean(np.isclose(ratio, 2)) < 0.7
    assert np.any(drawn[0][1] != drawn[1][1])
    plain.set_weights([kernel, recurrent_kernel, bias])
    assert_close(run(dropping, x)[0], run(plain, x)[0], 1e-6)


def test_weight_drop_keeps_the_expected_weight(rng):
    """The scale 1 / (1 − rate): the mean over many masks is U."""
    layer = random_layer(WeightDropLSTM, 32, 5, rng, weight_dropout=0.3, seed=4)
    drawn, original = [], layer.fused.inner_loop

    def record(weights, *arguments):
        drawn.append(keras.ops.convert_to_numpy(weights[1]))
        return original(weights, *arguments)

    layer.fused.inner_loop = record
    for _ in range(20):
        layer(np.zeros((1, 1, 5), "float32"), training=True)
    recurrent_kernel = layer.get_weights()[1]
    assert abs(np.mean(np.array(drawn) / recurrent_kernel) - 1) < 0.02


def test_weight_drop_reports_no_fusion_to_bidirectional():
    """Bidirectional must not hand the undropped weights to a fused kernel of its own."""
    both = keras.layers.Bidirectional(WeightDropLSTM(4, use_cudnn="auto"))
    assert both.forward_layer.use_cudnn is False
    assert {kernel["gpu"] for kernel in kernel_report(both).values()} == {"cuDNN"}


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
    assert report["rnn"]["gpu"] == "generic loop: cuDNN has no kernel for LSTMCell"


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
