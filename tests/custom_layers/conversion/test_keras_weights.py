"""Between layers of Keras and ours, and files that Keras 2 wrote."""

import json
import re
import shutil

import keras
import numpy as np
import pytest
from cells import assert_close, random_layer, random_states, run
from saved_files import (
    BOTH,
    FOLDER,
    assert_computes,
    assert_same_weights,
    in_rnn,
)

from custom_layers import (
    ClockworkRNN,
    CoupledLSTM,
    PeepholeLSTM,
    PeepholeLSTMCell,
    WeightDropLSTM,
)
from custom_layers.conversion import (
    convert_layer,
    from_keras2,
    from_onnx_node,
    from_tf1,
    from_tfa,
    from_torch,
    to_onnx_node,
    to_tf1,
    to_tfa,
    to_torch,
)

LSTM = keras.layers.LSTM


@pytest.mark.parametrize(
    ("layer_class", "arguments", "other_class", "other"),
    [
        (LSTM, {}, PeepholeLSTM, {}),
        (LSTM, {"use_bias": False, "activation": "relu"}, PeepholeLSTM, {}),
        (PeepholeLSTM, {"peepholes": ()}, LSTM, {}),
        (CoupledLSTM, {}, LSTM, {}),
        (CoupledLSTM, {}, PeepholeLSTM, {}),
        (CoupledLSTM, {"peepholes": ("f", "o")}, PeepholeLSTM, {}),
        (CoupledLSTM, {"peepholes": ("f",), "cell_clip": 0.5}, PeepholeLSTM, {}),
        (CoupledLSTM, {"peepholes": ("f",), "layer_norm": "tf1"}, PeepholeLSTM, {}),
        (PeepholeLSTM, {"peepholes": ("f",)}, PeepholeLSTM, {"peepholes": ("f", "o")}),
    ],
)
def test_there_and_back_is_exact(layer_class, arguments, other_class, other, rng):
    layer = random_layer(layer_class, 4, 5, rng, name="mine", **arguments)
    between = convert_layer(layer, other_class, **other)
    assert type(between) is other_class and between.name == "mine"
    x, states = rng.uniform(-1, 1, (3, 20, 5)), random_states(layer, 3, rng)
    outputs, end = run(between, x.astype("float32"), states)
    wanted, wanted_end = run(layer, x.astype("float32"), states)
    assert_close(outputs, wanted)
    for array, expected in zip(end, wanted_end, strict=True):
        assert_close(array, expected)
    own = {"peepholes": arguments.get("peepholes", ())}
    again = convert_layer(between, layer_class, **({} if layer_class is LSTM else own))
    assert_same_weights(again, layer)


def test_arguments_stay():
    layer = LSTM(4, dropout=0.25, kernel_regularizer="l2", return_sequences=True)
    layer.build((None, None, 3))
    new = convert_layer(layer, PeepholeLSTM, return_sequences=False)
    assert new.dropout == 0.25 and not new.return_sequences
    assert isinstance(new.cell.kernel_regularizer, keras.regularizers.L2)
    assert convert_layer(new, LSTM).dropout == 0.25


def test_what_would_be_lost_is_refused(rng):
    peephole = random_layer(PeepholeLSTM, 4, 5, rng)
    cases = [
        (peephole, LSTM, "peephole_i of .* is not zero: LSTM has no such peephole"),
        (peephole, CoupledLSTM, "has an input gate of its own"),
        (random_layer(WeightDropLSTM, 4, 5, rng), LSTM, "weight_dropout=0.5: LSTM"),
        (random_layer(PeepholeLSTM, 4, 5, rng, cell_clip=1.0), LSTM, "cell_clip=1.0"),
        (random_layer(keras.layers.GRU, 4, 5, rng), LSTM, "is a GRU: LSTM has no such"),
        (random_layer(ClockworkRNN, 4, 5, rng), LSTM, "is a ClockworkRNN"),
        (PeepholeLSTM(4), LSTM, "has no weights yet: call it"),
        (peephole, keras.layers.GRU, "layer_class must be one of LSTM, PeepholeLSTM"),
    ]
    for layer, layer_class, message in cases:
        with pytest.raises(ValueError, match=message):
            convert_layer(layer, layer_class)
    with pytest.raises(ValueError, match="peephole_f of .* is not zero"):
        convert_layer(peephole, PeepholeLSTM, peepholes=("i", "o"))
    with pytest.raises(ValueError, match="peephole_f .* is not zero: CoupledLSTM"):
        coupled = random_layer(CoupledLSTM, 4, 5, rng, peepholes=("f",))
        convert_layer(coupled, CoupledLSTM, peepholes=())


@pytest.mark.parametrize(
    ("options", "override", "message"),
    [
        ({}, {"use_bias": False}, r"bias \(16,\) would be lost"),
        ({"layer_norm": True}, {"layer_norm": False}, r"kernel_gamma \(16,\) would be"),
        ({"layer_norm": "tf1"}, {"layer_norm": "tfa"}, r"gates_gamma \(16,\) would be"),
        ({"projection": 3}, {"projection": None}, r"projection_kernel \(4, 3\) would"),
        ({"projection": 3}, {"projection": 2}, r"\(2, 16\), got \(3, 16\)"),
        ({"use_bias": False}, {"use_bias": True}, r"bias \(16,\) is missing"),
        ({}, {"layer_norm": True}, r"kernel_gamma \(16,\) is missing"),
        ({}, {"projection": 3}, r"projection_kernel \(4, 3\) is missing"),
        ({}, {"units": 5}, r"kernel must have shape \(5, 20\), got \(5, 16\)"),
    ],
)
def test_arguments_that_change_the_weights_are_refused(options, override, message, rng):
    layer = random_layer(PeepholeLSTM, 4, 5, rng, name="mine", **options)
    with pytest.raises(ValueError, match=f"^mine has other weights .*{message}"):
        convert_layer(layer, PeepholeLSTM, **override)
    if "bias" in message:
        lstm = random_layer(LSTM, 4, 5, rng, name="mine", **options)
        for layer_class in (LSTM, PeepholeLSTM):
            with pytest.raises(ValueError, match=message):
                convert_layer(lstm, layer_class, **override)


def test_options_that_the_new_class_lacks_are_refused(rng):
    lstm = random_layer(LSTM, 4, 5, rng)
    for name, value in {"layer_norm": True, "projection": 3, "peepholes": ()}.items():
        message = re.escape(f"{name} must be left out, got {value!r}: LSTM has no such")
        with pytest.raises(ValueError, match=f"^{message}"):
            convert_layer(lstm, LSTM, **{name: value})


@pytest.mark.parametrize(
    ("name", "prefix", "layer_class", "states"),
    [
        ("lstm", "lstm", LSTM, "hc"),
        ("gru", "gru", keras.layers.GRU, "h"),
        ("gru_cho", "gru_cho", keras.layers.GRU, "h"),
    ],
)
def test_layer_computes_what_keras_2_did(name, prefix, layer_class, states):
    pytest.importorskip("h5py")
    layer = from_keras2(FOLDER / "keras2.h5", prefix, **BOTH)
    assert type(layer) is layer_class
    assert getattr(layer, "reset_after", None) == {"gru": True, "gru_cho": False}.get(
        name
    )
    assert_computes(layer, "keras2.npz", name, states)


def test_both_directions_compute_what_keras_2_did():
    pytest.importorskip("h5py")
    forward, backward = (
        from_keras2(FOLDER / "keras2.h5", f"two/two/{way}_lstm", **BOTH)
        for way in ("forward", "backward")
    )
    data = np.load(FOLDER / "keras2.npz")
    start = [data[f"two_{state}0"] for state in "hcHC"]
    outputs, end = run(forward, data["x"], start[:2])
    turned, turned_end = run(backward, data["x"][:, ::-1], start[2:])
    assert_close(np.concatenate([outputs, turned[:, ::-1]], -1), data["two_y"])
    for state, array in zip("hcHC", [*end, *turned_end], strict=True):
        assert_close(array, data[f"two_{state}"])


@pytest.fixture
def changed(tmp_path):
    """A function that returns a copy of keras2.h5 whose layer has other arguments."""
    h5py = pytest.importorskip("h5py")

    def copy(layer, where=(), **arguments):
        path = tmp_path / "changed.h5"
        shutil.copy(FOLDER / "keras2.h5", path)
        with h5py.File(path, "r+") as file:
            model = json.loads(file.attrs["model_config"])
            (entry,) = (it for it in model["config"]["layers"] if it["name"] == layer)
            entry["name"] = arguments.get("name", layer)
            config = entry["config"]
            for key in where:
                config = config[key]
            config.update(arguments)
            file.attrs["model_config"] = json.dumps(model)
        return path

    return copy


@pytest.mark.parametrize(
    ("layer", "where", "prefix"),
    [
        ("lstm", (), "lstm"),
        ("gru", (), "gru"),
        ("two", ("layer", "config"), "two/two/forward_lstm"),
        ("two", ("layer", "config"), "two/two/backward_lstm"),
    ],
)
def test_activations_of_a_whole_model_are_taken(layer, where, prefix, changed):
    path = changed(layer, where, activation="relu", recurrent_activation="softsign")
    made = from_keras2(path, prefix)
    assert made.activation is keras.activations.relu
    assert made.recurrent_activation is keras.activations.softsign
    other = from_keras2(path, "gru_cho")
    assert other.activation is keras.activations.tanh
    given = from_keras2(path, prefix, activation="elu")
    assert given.activation is keras.activations.elu
    assert given.recurrent_activation is keras.activations.softsign


def hard_sigmoid_of_keras_2(x):
    return keras.ops.clip(0.2 * x + 0.5, 0, 1)


@pytest.mark.parametrize("name", ["activation", "recurrent_activation"])
def test_an_activation_that_keras_3_lacks_is_refused(name, changed):
    path = changed("lstm", **{name: "hard_sigmoid"})
    message = f"^{name} of lstm/lstm/lstm_cell is hard_sigmoid, which is 0.2 x .0.5"
    with pytest.raises(ValueError, match=message.replace(" .0", r" \+ 0")):
        from_keras2(path, "lstm")
    layer = from_keras2(path, "lstm", **{name: hard_sigmoid_of_keras_2})
    assert getattr(layer, name) is hard_sigmoid_of_keras_2
    with pytest.raises(ValueError, match=f"^{name} must not be hard_sigmoid, which"):
        from_keras2(FOLDER / "keras2.h5", "lstm", **{name: "hard_sigmoid"})
    for value in ("swishy", "get", {"class_name": "LeakyReLU", "config": {}}, None):
        path = changed("lstm", **{name: value})
        with pytest.raises(
            ValueError, match=f"^{name} of lstm/.* is none of keras.act"
        ):
            from_keras2(path, "lstm")


def test_a_file_that_does_not_tell_the_activations_is_refused(changed):
    path = changed("lstm", name="another")
    message = "does not tell the activation and the recurrent_activation of lstm/"
    with pytest.raises(ValueError, match=message):
        from_keras2(path, "lstm")
    both = {"activation": "tanh", "recurrent_activation": "sigmoid"}
    assert from_keras2(path, "lstm", **both).units == 3
    backward = both | {"name": "of its own"}
    path = changed("two", backward_layer={"config": backward})
    assert from_keras2(path, "two/two/forward_lstm").units == 3
    path = changed("two", backward_layer={"config": backward | {"activation": "relu"}})
    with pytest.raises(ValueError, match="does not tell the activation"):
        from_keras2(path, "two/two/forward_lstm")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bias": (3, 12)}, r"^a/bias must have shape \(2, 12\), got \(3, 12\)"),
        ({"bias": (24,)}, r"^a/bias must have shape \(12,\), got \(24,\)"),
        ({"kernel": None}, "^a/kernel is missing; there is: recurrent_kernel, bias"),
        ({"kernel": (5, 16)}, r"^a/kernel must have shape \(any, 12\), got \(5, 16\)"),
        ({"recurrent_kernel": (4, 4)}, r"of an LSTM or \(units, 3·units\) of a GRU"),
        ({"recurrent_kernel": (0, 0)}, "of an LSTM or"),
        ({"recurrent_kernel": None}, "no weight 'recurrent_kernel' is there"),
        ({"input_gate_peephole_weights": (4,)}, "^a/input_gate.* cannot be converted"),
    ],
)
def test_a_planted_fault_is_named(change, message):
    weights = {"kernel": (5, 12), "recurrent_kernel": (4, 12), "bias": (2, 12)} | change
    arrays = {f"a/{name}:0": np.ones(it) for name, it in weights.items() if it}
    with pytest.raises(ValueError, match=message):
        from_keras2(arrays)


@pytest.mark.parametrize("shape", [(12,), (2, 12)])
def test_the_bias_tells_reset_after(shape):
    weights = {"kernel": (3, 12), "recurrent_kernel": (4, 12), "bias": shape}
    weights = {name: np.ones(shape) for name, shape in weights.items()}
    told = len(shape) == 2
    assert from_keras2(weights, reset_after=told).reset_after == told
    message = f"reset_after must be {told}, or left out, got {not told}: the bias has"
    with pytest.raises(ValueError, match=f"^{message} shape "):
        from_keras2(weights, reset_after=not told)
    with pytest.raises(
        ValueError, match="^bias must be an array of floats, got a list"
    ):
        from_keras2(weights | {"bias": [[1.0], [1.0, 2.0]]})


def test_a_file_of_keras_3_is_refused(tmp_path):
    path = tmp_path / "model.keras"
    path.touch()
    message = (
        "model.keras is a file of Keras 3, .* allowed are .h5, .hdf5, .safetensors"
    )
    with pytest.raises(ValueError, match=message):
        from_keras2(path)


def test_numbers_beyond_the_range_of_the_layer_are_refused(rng):
    """They would become infinite; what is infinite already stays so."""
    layer = random_layer(PeepholeLSTM, 4, 5, rng, dtype="float64", name="mine")
    weights = layer.get_weights()
    weights[0][2, 3], weights[2][:] = -1e39, np.inf
    layer.set_weights(weights)
    with pytest.raises(ValueError, match=r"^kernel of mine must hold .* got 1e\+39: a"):
        convert_layer(layer, PeepholeLSTM, dtype="float32")
    assert_same_weights(convert_layer(layer, PeepholeLSTM), layer)
    plain = random_layer(LSTM, 4, 5, rng, dtype="float64")
    plain.set_weights(weights[:3])
    node = to_onnx_node(plain)
    for convert, name in (
        (lambda **dtype: from_tfa(to_tfa(layer), **dtype), "kernel"),
        (
            lambda **dtype: from_tf1(to_tf1(layer, "LSTMCell"), "LSTMCell", **dtype),
            "rn",
        ),
        (lambda **dtype: from_torch(to_torch(plain), **dtype)[0], "weight_ih_l0"),
        (lambda **dtype: from_onnx_node(node, **dtype), r"W of rnn \(W\)"),
        (
            lambda **dtype: from_keras2(
                {weight.name: weight.numpy() for weight in plain.weights}, **dtype
            ),
            "kernel",
        ),
    ):
        message = (
            rf"^{name}.* must hold numbers of float32, up to 3.403e\+38, got 1e\+39"
        )
        with pytest.raises(ValueError, match=message):
            convert()
        kernel = convert(dtype="float64").get_weights()[0]
        np.testing.assert_array_equal(kernel, weights[0])
    with pytest.raises(ValueError, match="numbers of float16, up to 6.55e"):
        # JAX has no orthogonal matrices of float16.
        convert_layer(
            layer, PeepholeLSTM, dtype="float16", recurrent_initializer="zeros"
        )
    sums = {"weight_ih_l0": (16, 5), "weight_hh_l0": (16, 4)}
    sums |= {"bias_ih_l0": (16,), "bias_hh_l0": (16,)}
    with pytest.raises(
        ValueError, match=r"^bias of the source must hold .* got 4e\+38"
    ):
        from_torch({name: np.full(shape, 2e38) for name, shape in sums.items()})


def test_a_name_that_is_there_twice_is_refused():
    weights = {"kernel": np.ones((3, 16)), "recurrent_kernel": np.ones((4, 16))}
    message = "^source must have the weight kernel once, .*'kernel' and as 'kernel:0'"
    with pytest.raises(ValueError, match=message):
        from_keras2(weights | {"kernel:0": np.zeros((3, 16))})


def test_broken_files_are_refused(tmp_path):
    pytest.importorskip("h5py")
    with pytest.raises(FileNotFoundError, match="no file .*none.h5"):
        from_keras2(tmp_path / "none.h5")
    (tmp_path / "broken.h5").write_bytes((FOLDER / "keras2.h5").read_bytes()[:5000])
    with pytest.raises(ValueError, match="broken.h5 cannot be read as a HDF5 file"):
        from_keras2(tmp_path / "broken.h5")
    for ending in (".index", ".data-00000-of-00001"):
        content = (FOLDER / f"tfa.ckpt{ending}").read_bytes()
        (tmp_path / f"model{ending}").write_bytes(content[: len(content) // 2])
    pytest.importorskip("tensorflow")
    with pytest.raises(ValueError, match="model cannot be read as a TensorFlow check"):
        from_keras2(tmp_path / "model")
    with pytest.raises(ValueError, match="prefix must choose one of .*'lstm/lstm/"):
        from_keras2(FOLDER / "keras2.h5")


@pytest.mark.parametrize("σ", ["tanh", "relu", "linear"])
def test_coupled_gates_need_a_symmetric_activation(σ, rng):
    """1 − σ(z) = σ(−z) alone makes an input gate of the forget gate's weights."""
    coupled = random_layer(CoupledLSTM, 4, 5, rng, recurrent_activation=σ)
    with pytest.raises(
        ValueError, match=f"recurrent_activation='{σ}'.* 'hard_sigmoid'"
    ):
        convert_layer(coupled, PeepholeLSTM)


@pytest.mark.parametrize("layer_norm", [True, "tfa"])
def test_layer_norm_is_not_carried_between_three_and_four_gates(layer_norm, rng):
    coupled = random_layer(CoupledLSTM, 4, 5, rng, layer_norm=layer_norm)
    with pytest.raises(ValueError, match=f"layer_norm={layer_norm!r}"):
        convert_layer(coupled, PeepholeLSTM)
    peephole = random_layer(PeepholeLSTM, 4, 5, rng, layer_norm=layer_norm)
    with pytest.raises(ValueError, match=f"layer_norm={layer_norm!r}"):
        convert_layer(peephole, CoupledLSTM)


def test_projection_clip_is_not_lost(rng):
    options = {"projection": 2, "projection_clip": 0.1, "peepholes": ()}
    layer = random_layer(PeepholeLSTM, 4, 5, rng, **options)
    with pytest.raises(ValueError, match="projection_clip=0.1: PyTorch"):
        to_torch(layer)
    assert convert_layer(layer, PeepholeLSTM).projection_clip == 0.1


@pytest.mark.parametrize(
    ("layer_class", "arguments", "other_class"),
    [
        (LSTM, {"dropout": 0.25, "activation": "relu"}, PeepholeLSTM),
        (PeepholeLSTM, {"layer_norm": True, "projection": 3}, PeepholeLSTM),
        (CoupledLSTM, {"peepholes": ("f",), "cell_clip": 0.5}, PeepholeLSTM),
        (PeepholeLSTM, {"peepholes": (), "dtype": "float64"}, LSTM),
    ],
)
def test_a_cell_in_rnn_is_read_like_its_layer(layer_class, arguments, other_class, rng):
    layer = random_layer(layer_class, 4, 5, rng, **arguments)
    rnn = in_rnn(layer, go_backwards=True)
    new = convert_layer(rnn, other_class)
    wanted = convert_layer(layer, other_class, name=rnn.name, go_backwards=True)
    assert new.get_config() == wanted.get_config()
    assert_same_weights(new, wanted)


def test_options_of_a_cell_in_rnn_are_not_lost(rng):
    for arguments, message in [
        ({"layer_norm": True}, "layer_norm=True: LSTM has no such option"),
        ({"weight_dropout": 0.5}, "weight_dropout=0.5: LSTM has no such option"),
    ]:
        layer = random_layer(PeepholeLSTM, 4, 5, rng, peepholes=(), **arguments)
        with pytest.raises(ValueError, match=message):
            convert_layer(in_rnn(layer), LSTM)
    gru = random_layer(keras.layers.GRU, 4, 5, rng)
    with pytest.raises(ValueError, match="is a RNN of GRUCell: .* RNN of one of their"):
        convert_layer(in_rnn(gru), LSTM)
    cells = keras.layers.RNN([keras.layers.LSTMCell(4), keras.layers.LSTMCell(4)])
    with pytest.raises(ValueError, match="is a RNN of StackedRNNCells"):
        convert_layer(cells, LSTM)


def test_a_stateful_layer_is_built_for_the_same_batches(rng):
    layer = LSTM(4, stateful=True, return_sequences=True)
    layer.build((3, None, 5))
    x = rng.uniform(-1, 1, (3, 8, 5)).astype("float32")
    layer(x)  # the new one starts from zeros all the same
    new = convert_layer(layer, PeepholeLSTM)
    assert new.stateful and type(new) is PeepholeLSTM
    layer.reset_state()
    for part in (x[:, :3], x[:, 3:]):
        outputs, wanted = map(keras.ops.convert_to_numpy, (new(part), layer(part)))
        assert_close(outputs, wanted)
    assert not convert_layer(layer, PeepholeLSTM, stateful=False).stateful
    assert_same_weights(convert_layer(new, LSTM), layer)


def test_stateful_without_a_batch_size_is_refused(rng):
    layer = random_layer(LSTM, 4, 5, rng)
    message = r"^stateful must be False, got True: .*\.set_weights\(layer\.get_weights"
    for convert in (
        lambda: convert_layer(layer, PeepholeLSTM, stateful=True),
        lambda: from_torch(to_torch(layer), stateful=True),
        lambda: from_tfa(to_tfa(layer), stateful=True),
        lambda: from_tf1(to_tf1(layer, "LSTMCell"), "LSTMCell", stateful=True),
    ):
        with pytest.raises(ValueError, match=message):
            convert()
    stateful = LSTM(4, stateful=True)
    stateful.build((2, None, 5))
    stateful.set_weights(layer.get_weights())  # as the message says


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (keras.layers.Dense(3, name="mine"), "^mine is a Dense: "),
        (keras.Sequential(name="mine"), "^mine is a Sequential: "),
        (PeepholeLSTMCell(4, name="mine"), "^mine is a PeepholeLSTMCell: "),
        (keras.layers.LSTMCell(4, name="mine"), "^mine is a LSTMCell: "),
        (keras.layers.SimpleRNN(4, name="mine"), "^mine is a SimpleRNN: "),
        (None, "^None is no layer of Keras: "),
        ("lstm", "^'lstm' is no layer of Keras: "),
        ([None], r"None\]? is no layer of Keras: "),
        ({}, "^{} is no layer of Keras: "),
        (LSTM, "^<class .*LSTM.*> is no layer of Keras: "),
    ],
    ids=lambda it: type(it).__name__,
)
def test_what_is_no_recurrent_layer_is_refused(thing, message):
    for convert, more in (
        (to_torch, ", CoupledLSTM and GRU, .* and a Bidirectional"),
        (to_onnx_node, ", CoupledLSTM and GRU, .* and a Bidirectional"),
        (to_tfa, " and CoupledLSTM, and an RNN of"),
        (lambda layer: to_tf1(layer, "LSTMCell"), " and CoupledLSTM, and an RNN of"),
        (lambda layer: convert_layer(layer, LSTM), " and CoupledLSTM, and an RNN of"),
    ):
        allowed = f"has no such layer; allowed are LSTM, PeepholeLSTM{more}"
        with pytest.raises(ValueError, match=f"{message}.*{allowed}"):
            convert(thing)


class OwnCall(PeepholeLSTM):
    def call(self, sequences, **arguments):
        return super().call(2 * sequences, **arguments)


class OwnLoop(LSTM):
    def inner_loop(self, sequences, initial_state, mask, training=False):
        return super().inner_loop(2 * sequences, initial_state, mask, training)


class OwnStates(CoupledLSTM):
    def get_initial_state(self, batch_size):
        return [state + 1 for state in super().get_initial_state(batch_size)]


class OwnGRU(keras.layers.GRU):
    def call(self, sequences, **arguments):
        return super().call(2 * sequences, **arguments)


class OwnLSTMCell(keras.layers.LSTMCell):
    def call(self, inputs, states, training=False):
        return super().call(2 * inputs, states, training)


class OwnPeepholeCell(PeepholeLSTMCell):
    def values(self, inputs, states, training=False):
        return super().values(2 * inputs, states, training)


class OwnTwo(keras.layers.Bidirectional):
    def call(self, sequences, **arguments):
        return super().call(2 * sequences, **arguments)


class SameLSTM(LSTM):
    """Has a name and an attribute of its own, and nothing that computes."""

    purpose = "translation"

    def build(self, shape):
        super().build(shape)


@pytest.mark.parametrize(
    ("layer", "method"),
    [
        (OwnCall(4, peepholes=()), "OwnCall.call"),
        (OwnLoop(4), "OwnLoop.inner_loop"),
        (OwnStates(4), "OwnStates.get_initial_state"),
        (OwnGRU(4), "OwnGRU.call"),
        (keras.layers.RNN(OwnLSTMCell(4)), "OwnLSTMCell.call"),
        (
            keras.layers.RNN(OwnPeepholeCell(4, peepholes=())),
            "OwnPeepholeCell.values",
        ),
        (OwnTwo(LSTM(4)), "OwnTwo.call"),
    ],
    ids=lambda it: it if isinstance(it, str) else "",
)
def test_a_subclass_that_computes_in_its_own_way_is_refused(layer, method):
    layer.build((None, None, 5))
    converters = [to_torch, to_onnx_node]
    if not isinstance(layer, (OwnGRU, OwnTwo)):
        converters += [to_tfa, lambda layer: to_tf1(layer, "LSTMCell")]
        converters += [lambda layer: convert_layer(layer, PeepholeLSTM)]
    for convert in converters:
        with pytest.raises(ValueError, match=f"has {method} of its own"):
            convert(layer)


def test_a_subclass_that_computes_the_same_is_converted(rng):
    layer = random_layer(SameLSTM, 4, 5, rng)
    (again,) = from_torch(to_torch(layer), **BOTH)
    for array, wanted in zip(again.get_weights(), layer.get_weights(), strict=True):
        np.testing.assert_array_equal(array, wanted)
