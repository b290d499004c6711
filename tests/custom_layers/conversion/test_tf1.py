"""Cells of TensorFlow 1: its checkpoint, its kernel, its published values."""

import re

import keras
import numpy as np
import pytest
from cells import assert_close, random_layer, random_states, run
from saved_files import BOTH, FOLDER, assert_computes, assert_same_weights, in_rnn

from custom_layers import CoupledLSTM, PeepholeLSTM
from custom_layers.conversion import from_tf1, to_tf1

tf = pytest.importorskip("tensorflow")

CHECKPOINT = FOLDER / "tf1.ckpt"
NORM = "LayerNormBasicLSTMCell"
COUPLED = "CoupledInputForgetGateLSTMCell"


@pytest.mark.parametrize(
    ("cell", "scope", "layer_class", "arguments"),
    [
        ("LSTMCell", "peephole", PeepholeLSTM, {}),
        ("LSTMCell", "plain", PeepholeLSTM, {"forget_bias": 0.0, "cell_clip": 0.25}),
        ("BasicLSTMCell", "basic", keras.layers.LSTM, {}),
        ("LSTMBlockCell", "block", PeepholeLSTM, {"forget_bias": 0.5}),
        (COUPLED, "coupled", CoupledLSTM, {}),
        (COUPLED, "coupled_norm", CoupledLSTM, {}),
        ("LSTMCell", "projected", PeepholeLSTM, {}),
        (NORM, "norm", PeepholeLSTM, {"forget_bias": 0.5}),
        (NORM, "no_norm", keras.layers.LSTM, {}),
    ],
)
def test_layer_computes_what_tensorflow_1_did(cell, scope, layer_class, arguments):
    """Beside the weights the checkpoint has the slots of an optimizer."""
    layer = from_tf1(CHECKPOINT, cell, scope, **BOTH, **arguments)
    assert type(layer) is layer_class
    assert_computes(layer, "tf1.npz", scope)


@pytest.mark.parametrize("peepholes", [(), ("i", "f", "o"), ("o",)])
def test_block_cell_computes_what_its_kernel_does(peepholes, rng):
    """With weights that `to_tf1` wrote: of absent peepholes it writes zeros."""
    layer = random_layer(PeepholeLSTM, 4, 5, rng, peepholes=peepholes)
    x, states = rng.uniform(-1, 1, (3, 7, 5)), random_states(layer, 3, rng)
    outputs, (new_h, new_c) = run(layer, x.astype("float32"), states)
    weights = to_tf1(layer, "LSTMBlockCell", "", forget_bias=0.5)
    zeros = np.zeros(4, "float32")
    (h, c), wanted = states, []
    for t in range(7):
        result = tf.raw_ops.LSTMBlockCell(
            x=x[:, t].astype("float32"),
            cs_prev=c,
            h_prev=h,
            w=weights["kernel"],
            b=weights["bias"],
            wci=weights.get("w_i_diag", zeros),
            wcf=weights.get("w_f_diag", zeros),
            wco=weights.get("w_o_diag", zeros),
            forget_bias=0.5,
            cell_clip=-1,
            use_peephole=bool(peepholes),
        )
        h, c = result.h, result.cs
        wanted.append(h.numpy())
    assert_close(outputs, np.stack(wanted, axis=1))
    assert_close(new_h, h)
    assert_close(new_c, c)


def test_coupled_cell_gives_the_published_values():
    """tensorflow/contrib/rnn/python/kernel_tests/rnn_cell_test.py of TensorFlow 1,
    testCoupledInputForgetGateLSTMCell: all weights 0.5, all states 0.1."""
    weights = {"W_0": np.full((6, 6), 0.5), "B": np.zeros(6)}
    layer = from_tf1(weights, COUPLED, **BOTH)
    x = np.repeat(np.array([[[1.0]], [[2.0]], [[3.0]]], "float32"), 4, axis=2)
    _, (h, c) = run(layer, x, [np.full((3, 2), 0.1, "float32")] * 2)
    assert np.allclose(h.T, [[0.121753, 0.103349, 0.100178]] * 2, atol=1e-6)
    assert np.allclose(c.T, [[0.137523, 0.105450, 0.100742]] * 2, atol=1e-6)


def coupled_cell(weights, x, h, c, proj_clip=np.inf):
    """tensorflow/contrib/rnn/python/ops/rnn_cell.py of TensorFlow 1.15, with a
    ``forget_bias`` of 1: with layer normalisation, B is not added."""

    def norm(z, scope):
        γ, β = (weights.get(f"{scope}/{it}") for it in ("gamma", "beta"))
        if γ is None:
            return z
        z = z - z.mean(axis=1, keepdims=True)
        return γ * z / np.sqrt(np.square(z).mean(axis=1, keepdims=True) + 1e-12) + β

    def sigmoid(z):
        return 1 / (1 + np.exp(-z))

    outputs = []
    for x_t in x.transpose(1, 0, 2).astype("float64"):
        z = np.concatenate([x_t, h], axis=1) @ weights["W_0"]
        z = z if "state/gamma" in weights else z + weights["B"]
        scopes = "transform", "forget", "output"
        g, f, o = map(norm, np.split(z, 3, axis=1), scopes)
        f = sigmoid(f + 1 + weights.get("W_F_diag", 0) * c)
        c = norm(f * c + (1 - f) * np.tanh(g), "state")
        h = sigmoid(o + weights.get("W_O_diag", 0) * c) * np.tanh(c)
        if "W_P_0" in weights:
            h = np.clip(h @ weights["W_P_0"], -proj_clip, proj_clip)
        outputs.append(h)
    return np.stack(outputs, axis=1), h, c


@pytest.mark.parametrize("norm", [False, True], ids=["plain", "norm"])
@pytest.mark.parametrize("proj_clip", [None, 0.3], ids=["", "clipped"])
@pytest.mark.parametrize("peepholes", [False, True], ids=["", "peepholes"])
def test_coupled_cell_with_a_projection(norm, proj_clip, peepholes, rng):
    """The saved files have none, so a loop of NumPy computes beside the layer."""
    shapes = {"W_0": (5 + 3, 12), "B": (12,), "W_P_0": (4, 3)}
    if norm:
        scopes = "transform", "forget", "output", "state"
        shapes |= {f"{it}/{end}": (4,) for it in scopes for end in ("gamma", "beta")}
    if peepholes:
        shapes |= {"W_F_diag": (4,), "W_O_diag": (4,)}
    weights = {name: rng.uniform(-1, 1, shape) for name, shape in shapes.items()}
    layer = from_tf1(weights, COUPLED, projection_clip=proj_clip, **BOTH)
    assert type(layer) is CoupledLSTM and layer.projection == 3
    x, states = rng.uniform(-1, 1, (3, 7, 5)), random_states(layer, 3, rng)
    outputs, (h, c) = run(layer, x.astype("float32"), states)
    wanted, wanted_h, wanted_c = coupled_cell(weights, x, *states, proj_clip or np.inf)
    assert_close(outputs, wanted)
    assert_close(h, wanted_h)
    assert_close(c, wanted_c)


TF1_NORM = {"layer_norm": "tf1", "layer_norm_epsilon": 1e-12, "peepholes": ()}
TF1_COUPLED_NORM = TF1_NORM | {"peepholes": ("f", "o")}
LAYERS = [
    ("LSTMCell", PeepholeLSTM, {}),
    ("LSTMCell", keras.layers.LSTM, {}),
    ("LSTMCell", PeepholeLSTM, {"projection": 3}),
    ("BasicLSTMCell", keras.layers.LSTM, {}),
    ("LSTMBlockCell", PeepholeLSTM, {}),
    (NORM, PeepholeLSTM, TF1_NORM),
    (NORM, keras.layers.LSTM, {}),
    (COUPLED, CoupledLSTM, {}),
    (COUPLED, CoupledLSTM, {"peepholes": ("f", "o")}),
    (COUPLED, CoupledLSTM, {"projection": 3}),
    (COUPLED, CoupledLSTM, TF1_NORM),
    (COUPLED, CoupledLSTM, TF1_COUPLED_NORM | {"projection": 3}),
]


@pytest.mark.parametrize(("cell", "layer_class", "arguments"), LAYERS)
def test_there_and_back_through_a_checkpoint(
    cell, layer_class, arguments, rng, tmp_path
):
    """Every bit is kept without a forget bias; with one, the bias of f is rounded."""
    layer = random_layer(layer_class, 4, 5, rng, **arguments)
    names, path = to_tf1(layer, cell, "a/b", forget_bias=0.0), str(tmp_path / "model")
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        for name, array in names.items():
            tf.compat.v1.get_variable(name, initializer=array)
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver().save(session, path)
    again = from_tf1(path, cell, forget_bias=0.0, **BOTH)
    assert_same_weights(again, layer)
    rounded = from_tf1(to_tf1(layer, cell), cell, **BOTH)
    for array, wanted in zip(rounded.get_weights(), layer.get_weights(), strict=True):
        np.testing.assert_allclose(array, wanted, rtol=0, atol=2e-7)


@pytest.mark.parametrize(("cell", "layer_class", "arguments"), LAYERS)
def test_a_cell_in_rnn_is_written_like_its_layer(cell, layer_class, arguments, rng):
    layer = random_layer(layer_class, 4, 5, rng, **arguments)
    written, wanted = to_tf1(in_rnn(layer), cell), to_tf1(layer, cell)
    assert list(written) == list(wanted)
    for name, array in wanted.items():
        np.testing.assert_array_equal(written[name], array)


@pytest.mark.parametrize(
    ("cell", "scope"),
    [
        ("LSTMCell", "peephole"),
        (NORM, "norm"),
        (COUPLED, "coupled"),
        (COUPLED, "coupled_norm"),
    ],
)
def test_arrays_there_and_back_are_the_same(cell, scope):
    """But for a bias that the cell has and does not add: it is zero."""
    layer = from_tf1(CHECKPOINT, cell, scope, forget_bias=0)
    reader = tf.train.load_checkpoint(str(CHECKPOINT))
    names = {
        name
        for name in reader.get_variable_to_shape_map()
        if name.startswith(scope + "/") and "Adam" not in name
    }
    (kernel,) = (name for name in names if name.endswith(("/kernel", "/W_0")))
    written = to_tf1(layer, cell, kernel.rpartition("/")[0], forget_bias=0)
    assert written.keys() == names
    for name, array in written.items():
        is_added = scope != "coupled_norm" or not name.endswith("/B")
        wanted = reader.get_tensor(name)
        assert np.any(wanted)
        np.testing.assert_array_equal(array, wanted if is_added else 0 * wanted)


@pytest.mark.parametrize(
    ("cell", "scope", "message"),
    [
        (
            "LSTMBlockCell",
            "projected",
            "/projection/kernel cannot be converted: .* no LSTMBlockCell",
        ),
        ("BasicLSTMCell", "norm", "prefix must choose one of .*'norm', which"),
        (NORM, "peephole", "w_f_diag, .* no LayerNormBasicLSTMCell"),
        (COUPLED, "norm", "prefix must choose one of .*'norm', which chooses none"),
        ("LSTMCell", "norm", "prefix must choose one of .*'norm', which"),
        (
            "LayerNormLSTMCell",
            "norm",
            "LayerNormLSTMCell has no layer here: it clips c after the normalisation",
        ),
        (COUPLED, "basic", "prefix must choose one of .*'basic', which chooses none"),
        ("BasicLSTMCell", "peephole", "w_f_diag, .*w_i_diag.* no BasicLSTMCell"),
        ("LSTMCell", "coupled", "prefix must choose one of .*'coupled', which"),
        ("LSTMCell", None, "prefix must choose one of .*'peephole/rnn/lstm_cell/'"),
        ("GRUCell", "basic", "cell must be one of LSTMCell, .*got 'GRUCell'"),
    ],
)
def test_what_has_no_layer_is_refused(cell, scope, message):
    with pytest.raises(ValueError, match=message):
        from_tf1(CHECKPOINT, cell, scope)


def test_layers_that_are_no_cells_are_not_offered(rng):
    cell = to_tf1(random_layer(keras.layers.LSTM, 4, 5, rng), "BasicLSTMCell", "cell")
    others = {
        "dense": ((4, 16), (16,)),
        "a/dense_1": ((20, 8), (8,)),
        "head": ((4, 10), (10,)),
        "conv": ((3, 5, 16), (16,)),
    }
    for name, shapes in others.items():
        for end, shape in zip(("kernel", "bias"), shapes, strict=True):
            cell[f"{name}/{end}"] = np.ones(shape)
    assert from_tf1(cell, "BasicLSTMCell").units == 4
    two = cell | to_tf1(from_tf1(cell, "BasicLSTMCell"), "BasicLSTMCell", "more")
    with pytest.raises(
        ValueError, match=r"^prefix must .* \['cell/', 'more/'\], got N"
    ):
        from_tf1(two, "BasicLSTMCell")
    assert from_tf1(two, "BasicLSTMCell", "a").units == 2  # whoever says so, gets it
    with pytest.raises(ValueError, match=r"^head/bias must have shape \(4·units,\)"):
        from_tf1(two, "BasicLSTMCell", "head")


@pytest.mark.parametrize("layer_class", [PeepholeLSTM, CoupledLSTM])
def test_what_a_cell_has_more_comes_back_as_zeros(layer_class, rng):
    """A bias, and all peepholes; as the page says."""
    options = {"use_bias": False, "peepholes": ("o",)}
    layer = random_layer(layer_class, 4, 5, rng, **options)
    cell = COUPLED if layer_class is CoupledLSTM else "LSTMCell"
    again = from_tf1(to_tf1(layer, cell, forget_bias=0), cell, forget_bias=0)
    assert again.use_bias and again.peepholes == layer.cell.peephole_gates
    old = {weight.name: weight.numpy() for weight in layer.weights}
    for weight in again.weights:
        np.testing.assert_array_equal(weight.numpy(), old.get(weight.name, 0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bias": None}, "^no weight 'bias' is there, only: a/kernel"),
        ({"kernel": None}, "^a/kernel is missing; there is: bias, w_i_diag"),
        ({"w_f_diag": None}, "^a/w_f_diag is missing"),
        ({"w_f_diag": (3,)}, r"^a/w_f_diag must have shape \(4,\), got \(3,\)"),
        ({"kernel": (9, 15)}, r"^a/kernel must have shape \(any, 16\), got \(9, 15\)"),
        ({"kernel": (4, 16)}, r"^a/kernel must have more rows than the 4 units"),
        ({"bias": (15,)}, r"^a/bias must have shape \(4·units,\) for LSTMCell, got"),
        ({"bias": (0,)}, r"^a/bias must have shape"),
        ({"gamma": (4,)}, "^a/gamma cannot be converted"),
    ],
)
def test_a_planted_fault_is_named(change, message):
    weights = {"kernel": (9, 16), "bias": (16,)}
    weights |= {f"w_{gate}_diag": (4,) for gate in "ifo"} | change
    arrays = {f"a/{name}": np.ones(it) for name, it in weights.items() if it}
    with pytest.raises(ValueError, match=message):
        from_tf1(arrays, "LSTMCell")


@pytest.mark.parametrize(
    "value", ["x", None, [1, 2], True, float("nan"), float("inf")], ids=repr
)
def test_forget_bias_is_a_finite_number(value, rng):
    layer = random_layer(keras.layers.LSTM, 4, 5, rng)
    weights = to_tf1(layer, "LSTMCell")
    message = re.escape(f"forget_bias must be a finite number, got {value!r}")
    with pytest.raises(ValueError, match=message):
        from_tf1(weights, "LSTMCell", forget_bias=value)
    with pytest.raises(ValueError, match=message):
        to_tf1(layer, "LSTMCell", forget_bias=value)
    for number in (1, np.float32(1), np.int64(1)):
        again = from_tf1(weights, "LSTMCell", forget_bias=number)
        assert_same_weights(again, from_tf1(weights, "LSTMCell"))


def test_wrong_arguments_are_refused(rng):
    layer = random_layer(keras.layers.LSTM, 4, 5, rng)
    for cell in (["LSTMCell"], None, "GRUCell"):
        message = re.escape(f"CoupledInputForgetGateLSTMCell, got {cell!r}")
        for convert in (from_tf1, to_tf1):
            with pytest.raises(
                ValueError, match=f"cell must be one of LSTM.*{message}"
            ):
                convert(layer, cell)
    with pytest.raises(ValueError, match="prefix must be a text or None, got 5"):
        to_tf1(layer, "LSTMCell", 5)
    weights = to_tf1(layer, "LSTMCell", "")
    for name in weights:
        with pytest.raises(
            ValueError, match=f"^{name} must be an array of floats, got"
        ):
            from_tf1(weights | {name: [[1.0], [1.0, 2.0]]}, "LSTMCell")


def test_what_a_cell_lacks_is_refused(rng):
    peephole = random_layer(PeepholeLSTM, 4, 5, rng)
    with pytest.raises(ValueError, match="peephole_i .* not zero: BasicLSTMCell"):
        to_tf1(peephole, "BasicLSTMCell")
    with pytest.raises(ValueError, match="an input gate of its own"):
        to_tf1(peephole, COUPLED)
    relu = random_layer(PeepholeLSTM, 4, 5, rng, activation="relu")
    assert to_tf1(relu, "LSTMCell")  # an argument of the cell
    with pytest.raises(ValueError, match="activation='relu'.* 'tanh' alone"):
        to_tf1(relu, "LSTMBlockCell")
    clipped = random_layer(PeepholeLSTM, 4, 5, rng, cell_clip=1.0, peepholes=())
    assert to_tf1(clipped, "LSTMCell")  # an argument of the cell
    with pytest.raises(ValueError, match="cell_clip=1.0: BasicLSTMCell has no such"):
        to_tf1(clipped, "BasicLSTMCell")


@pytest.mark.parametrize("layer_norm", [True, "tfa", "tf1"])
def test_coupled_gates_with_layer_normalisation_as_four_gates(layer_norm, rng):
    """Gate by gate γ of i is that of f, and β has the opposite sign; else the sums are
    over three gates, and not over four."""
    arguments = TF1_NORM | {"layer_norm": layer_norm}
    layer = random_layer(CoupledLSTM, 4, 5, rng, **arguments)
    if layer_norm != "tf1":
        with pytest.raises(ValueError, match=f"layer_norm={layer_norm!r}.*'tf1' alone"):
            to_tf1(layer, NORM)
        return
    again = from_tf1(to_tf1(layer, NORM), NORM, **BOTH)
    assert type(again) is PeepholeLSTM
    x = rng.uniform(-1, 1, (3, 20, 5)).astype("float32")
    states = random_states(layer, 3, rng)
    outputs, end = run(again, x, states)
    wanted, wanted_end = run(layer, x, states)
    for array, expected in zip([outputs, *end], [wanted, *wanted_end], strict=True):
        assert_close(array, expected)
    exact = from_tf1(to_tf1(layer, NORM, forget_bias=0), NORM, forget_bias=0)
    back = to_tf1(exact, COUPLED, forget_bias=0)
    for name, array in to_tf1(layer, COUPLED, forget_bias=0).items():
        np.testing.assert_array_equal(back[name], array)
    own = random_layer(PeepholeLSTM, 4, 5, rng, **TF1_NORM)
    with pytest.raises(ValueError, match="an input gate of its own"):
        to_tf1(own, COUPLED)


def test_gains_of_an_input_gate_of_its_own_are_refused(rng):
    layer = random_layer(CoupledLSTM, 4, 5, rng, **TF1_NORM)
    weights = to_tf1(layer, NORM, "", forget_bias=0)
    assert to_tf1(from_tf1(weights, NORM, forget_bias=0), COUPLED)
    weights["input/gamma"] = 2 * weights["input/gamma"]
    with pytest.raises(ValueError, match="gates_gamma of .* an input gate of its own"):
        to_tf1(from_tf1(weights, NORM, forget_bias=0), COUPLED)


def test_another_layer_normalisation_is_refused(rng):
    for arguments, message in [
        ({"layer_norm": True}, "layer_norm=True: LayerNormBasicLSTMCell has 'tf1'"),
        ({"layer_norm": "tf1"}, "layer_norm_epsilon=0.001: .* has 1e-12 alone"),
    ]:
        layer = random_layer(PeepholeLSTM, 4, 5, rng, peepholes=(), **arguments)
        for each in (layer, in_rnn(layer)):
            with pytest.raises(ValueError, match=message):
                to_tf1(each, NORM)
    layer = random_layer(PeepholeLSTM, 4, 5, rng, **TF1_NORM)
    with pytest.raises(ValueError, match="layer_norm='tf1': BasicLSTMCell has no such"):
        to_tf1(layer, "BasicLSTMCell")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"forget/beta": None}, "^forget/beta is missing"),
        ({"input/gamma": (3,)}, r"^input/gamma must have shape \(4,\), got \(3,\)"),
        ({"state/beta": None}, "^state/beta is missing"),
        ({"bias": (16,)}, "^bias cannot be converted"),
    ],
)
def test_a_planted_fault_in_normalisation_is_named(change, message):
    scopes = ("input", "transform", "forget", "output", "state")
    shapes = {f"{it}/{name}": (4,) for it in scopes for name in ("gamma", "beta")}
    shapes |= {"kernel": (9, 16)} | change
    arrays = {name: np.ones(shape) for name, shape in shapes.items() if shape}
    with pytest.raises(ValueError, match=message):
        from_tf1(arrays, NORM)
