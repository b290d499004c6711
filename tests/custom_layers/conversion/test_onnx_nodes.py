"""Nodes of ONNX: onnxruntime computes what the layers do, in both directions."""

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from cells import assert_close, random_layer
from onnx import helper, numpy_helper
from saved_files import BOTH, assert_same_weights, skip_where_keras_fails

from custom_layers import CoupledLSTM, DepthGatedLSTM, PeepholeLSTM
from custom_layers.conversion import from_onnx_node, to_onnx_node


def outputs_of(model, x, states):
    """Run a model of one node in onnxruntime from given states, each ``(directions,
    batch, units)``; return its outputs, as ``(batch, time, directions·units)``, and
    its final states."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    (node,) = model.graph.node
    inputs = [*node.input, *[""] * 8][:8]
    for place, name in enumerate(["initial_h", "initial_c"][: len(states)], start=5):
        inputs[place] = name
        info = helper.make_tensor_value_info(name, 1, states[0].shape)
        model.graph.input.append(info)
    while not inputs[-1]:
        inputs.pop()
    del node.input[:]
    node.input.extend(inputs)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    feed = {"X": x.transpose(1, 0, 2)}
    feed |= dict(zip(["initial_h", "initial_c"], states, strict=False))
    Y, *new_states = session.run(None, feed)
    return Y.transpose(2, 0, 1, 3).reshape(*x.shape[:2], -1), new_states


def assert_same_function(model, layer, rng, directions=1):
    skip_where_keras_fails(layer)
    x = rng.uniform(-1, 1, (3, 20, 5)).astype("float32")
    count = 1 if "Y_c" not in model.graph.node[0].output else 2
    states = [
        rng.uniform(-1, 1, (directions, 3, 4)).astype("float32") for _ in range(count)
    ]
    wanted, end = outputs_of(model, x, states)
    start = [state[way] for way in range(directions) for state in states]
    outputs, *new = map(keras.ops.convert_to_numpy, layer(x, initial_state=start))
    backwards = directions == 1 and layer.go_backwards
    assert_close(outputs[:, ::-1] if backwards else outputs, wanted)
    for number, array in enumerate(new):
        assert_close(array, end[number % count][number // count])


LAYERS = [
    (keras.layers.LSTM, {}),
    (keras.layers.LSTM, {"use_bias": False, "go_backwards": True}),
    (keras.layers.LSTM, {"activation": "relu", "recurrent_activation": "tanh"}),
    (keras.layers.LSTM, {"activation": "linear"}),
    (PeepholeLSTM, {}),
    (PeepholeLSTM, {"use_bias": False}),
    (PeepholeLSTM, {"recurrent_activation": "hard_sigmoid", "activation": "softplus"}),
    (CoupledLSTM, {}),
    (CoupledLSTM, {"peepholes": ("f", "o")}),
    (CoupledLSTM, {"recurrent_activation": "hard_sigmoid"}),
    (keras.layers.GRU, {}),
    (keras.layers.GRU, {"reset_after": False}),
    (keras.layers.GRU, {"use_bias": False, "activation": "softsign"}),
    (keras.layers.GRU, {"use_bias": False, "reset_after": False}),
    (keras.layers.GRU, {"recurrent_activation": "hard_sigmoid"}),
]


@pytest.mark.parametrize(("layer_class", "arguments"), LAYERS)
def test_onnxruntime_computes_what_a_layer_does(layer_class, arguments, rng):
    """And the way back is exact."""
    layer = random_layer(layer_class, 4, 5, rng, scale=0.5, **arguments)
    model = to_onnx_node(layer)
    assert_same_function(model, layer, rng)
    again = from_onnx_node(model, **BOTH)
    assert_same_weights(again, layer)
    for name in ("activation", "recurrent_activation", "go_backwards"):
        assert getattr(again, name) == getattr(layer, name)
    assert to_onnx_node(again) == model


@pytest.mark.parametrize("layer_class", [PeepholeLSTM, CoupledLSTM])
def test_peepholes_that_a_layer_lacks_come_back_as_zeros(layer_class, rng):
    layer = random_layer(layer_class, 4, 5, rng, peepholes=("o",), use_bias=False)
    again = from_onnx_node(to_onnx_node(layer))
    assert again.peepholes == layer.cell.peephole_gates and not again.use_bias
    old = {weight.name: weight.numpy() for weight in layer.weights}
    for weight in again.weights:
        np.testing.assert_array_equal(weight.numpy(), old.get(weight.name, 0))


@pytest.mark.parametrize("layer_class", [keras.layers.GRU, PeepholeLSTM, CoupledLSTM])
def test_two_directions(layer_class, rng):
    layer = keras.layers.Bidirectional(layer_class(4, **BOTH))
    layer.build((None, None, 5))
    layer.set_weights([rng.uniform(-1, 1, it.shape) for it in layer.get_weights()])
    model = to_onnx_node(layer)
    assert_same_function(model, layer, rng, directions=2)
    again = from_onnx_node(model, **BOTH)
    assert_same_weights(again, layer)
    assert_same_function(model, again, rng, directions=2)


@pytest.mark.parametrize(
    ("forward", "backward"),
    [
        (("hard_sigmoid", "tanh"), ("sigmoid", "linear")),
        (("sigmoid", "linear"), ("hard_sigmoid", "linear")),
        (("sigmoid", "relu"), ("softsign", "softplus")),
    ],
)
def test_each_direction_has_its_activations(forward, backward, rng):
    names = "recurrent_activation", "activation"
    made = [
        PeepholeLSTM(4, **dict(zip(names, values, strict=True)), **BOTH, **way)
        for values, way in ((forward, {}), (backward, {"go_backwards": True}))
    ]
    layer = keras.layers.Bidirectional(made[0], backward_layer=made[1])
    layer.build((None, None, 5))
    layer.set_weights([rng.uniform(-0.3, 0.3, w.shape) for w in layer.get_weights()])
    model = to_onnx_node(layer)
    assert_same_function(model, layer, rng, directions=2)
    again = from_onnx_node(model, **BOTH)
    for each, wanted in zip(
        (again.forward_layer, again.backward_layer), (forward, backward), strict=True
    ):
        config = each.get_config()
        assert tuple(config[name] for name in names) == wanted
    assert_same_weights(again, layer)
    assert to_onnx_node(again) == model


def test_two_directions_in_float64(rng):
    lstm = PeepholeLSTM(4, dtype="float64", **BOTH)
    two = keras.layers.Bidirectional(lstm, dtype="float64")
    two.build((None, None, 5))
    two.set_weights([rng.uniform(-1, 1, it.shape) for it in two.get_weights()])
    again = from_onnx_node(to_onnx_node(two), dtype="float64", **BOTH)
    assert again.dtype_policy.name == "float64"
    x = rng.uniform(-1, 1, (3, 20, 5))
    for output in again(x):
        assert keras.backend.standardize_dtype(output.dtype) == "float64"


def random_node(op, rng, directions=1, **attributes):
    """Return a model of one node with every weight, both biases too, random."""
    gates = {"LSTM": 4, "GRU": 3}[op]
    shapes = {"W": (gates * 4, 5), "R": (gates * 4, 4), "B": (gates * 8,)}
    shapes |= {"P": (12,)} if op == "LSTM" else {}
    arrays = {
        key: rng.uniform(-1, 1, (directions, *shape)).astype("float32")
        for key, shape in shapes.items()
    }
    inputs = ["X", "W", "R", "B"] + (["", "", "", "P"] if op == "LSTM" else [])
    outputs = ["Y", "Y_h"] + (["Y_c"] if op == "LSTM" else [])
    node = helper.make_node(op, inputs, outputs, hidden_size=4, **attributes)
    infos = [
        helper.make_tensor_value_info(key, 1, [None] * rank)
        for key, rank in {"X": 3, "Y": 4, "Y_h": 3, "Y_c": 3}.items()
        if key == "X" or key in outputs
    ]
    constants = [numpy_helper.from_array(array, key) for key, array in arrays.items()]
    graph = helper.make_graph([node], "graph", infos[:1], infos[1:], constants)
    opset = helper.make_opsetid("", 14)
    return helper.make_model(graph, opset_imports=[opset], ir_version=8)


@pytest.mark.parametrize(
    ("op", "attributes", "layer_class"),
    [
        ("LSTM", {}, PeepholeLSTM),
        ("LSTM", {"input_forget": 1}, CoupledLSTM),
        ("LSTM", {"direction": "reverse"}, PeepholeLSTM),
        ("LSTM", {"direction": "bidirectional"}, keras.layers.Bidirectional),
        ("GRU", {}, keras.layers.GRU),
        ("GRU", {"linear_before_reset": 1}, keras.layers.GRU),
        ("GRU", {"direction": "bidirectional"}, keras.layers.Bidirectional),
        ("GRU", {"activations": ["Sigmoid", "Relu"]}, keras.layers.GRU),
        ("GRU", {"activations": ["sigmoid", "SOFTSIGN"]}, keras.layers.GRU),
        (
            "LSTM",
            {
                "activations": ["HardSigmoid", "Tanh", "Tanh"],
                "activation_alpha": [1 / 6],  # and the usual beta
            },
            PeepholeLSTM,
        ),
    ],
)
def test_layer_computes_what_a_node_does(op, attributes, layer_class, rng, tmp_path):
    directions = 2 if attributes.get("direction") == "bidirectional" else 1
    model = random_node(op, rng, directions, **attributes)
    onnx.save(model, tmp_path / "model.onnx")
    layer = from_onnx_node(tmp_path / "model.onnx", **BOTH)
    assert type(layer) is layer_class
    assert_same_function(model, layer, rng, directions)


def test_constants_may_be_nodes(rng):
    """Some exporters write ``Constant`` nodes."""
    model = to_onnx_node(random_layer(keras.layers.GRU, 4, 5, rng))
    wanted = from_onnx_node(model)
    for tensor in model.graph.initializer:
        node = helper.make_node("Constant", [], [tensor.name], value=tensor)
        model.graph.node.append(node)
    del model.graph.initializer[:]
    assert_same_weights(from_onnx_node(model), wanted)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_a_name_is_that_of_the_whole_layer(direction, rng):
    count = 2 if direction == "bidirectional" else 1
    model = random_node("LSTM", rng, count, direction=direction)
    assert from_onnx_node(model, name="enc").name == "enc"


@pytest.mark.parametrize("name", ["W", "R", "B", "P"])
def test_a_planted_fault_is_named(name, rng):
    model = random_node("LSTM", rng)
    (tensor,) = (it for it in model.graph.initializer if it.name == name)
    array = numpy_helper.to_array(tensor)
    model.graph.initializer.remove(tensor)
    with pytest.raises(ValueError, match=f"^{name} of Y is '{name}', no constant"):
        from_onnx_node(model)
    short = array[:, :-1] if name != "R" else array[..., :-1]
    model.graph.initializer.append(numpy_helper.from_array(short, name))
    with pytest.raises(ValueError, match=rf"^{name} of Y \({name}\) must have shape"):
        from_onnx_node(model)


def test_what_no_layer_does_is_refused(rng):
    cases = [
        ({"clip": 1.0}, "Y has clip=1.0, which bounds"),
        (
            {"direction": "sideways"},
            "direction of Y must be 'forward' or .* 'bidirectional', got 'sideways'",
        ),
        ({"activations": ["Sigmoid", "Tanh", "Relu"]}, "activations Sigmoid, Tanh, Re"),
        ({"activations": ["Sigmoid", "Tanh"]}, "must have 3 activations, got Sigmoid,"),
        (
            {"activations": ["Elu", "Tanh", "Tanh"]},
            "out of Sigmoid, .*, HardSigmoid with alpha 0.1667 and beta 0.5, Affine",
        ),
        (  # whose alpha is 0.2
            {"activations": ["HardSigmoid", "Tanh", "Tanh"]},
            "activations HardSigmoid, Tanh, Tanh: a layer has one",
        ),
        (  # which ONNX gives no usual alpha
            {"activations": ["Sigmoid", "Affine", "Affine"]},
            "activations Sigmoid, Affine, Affine: a layer has one",
        ),
        (
            {
                "activations": ["HardSigmoid", "Tanh", "Tanh"],
                "activation_alpha": [0.25],
                "activation_beta": [0.5],
            },
            r"Tanh, activation_alpha \[0.25\], activation_beta \[0.5\]: a layer",
        ),
    ]
    for attributes, message in cases:
        with pytest.raises(ValueError, match=message):
            from_onnx_node(random_node("LSTM", rng, **attributes))
    model = random_node("LSTM", rng)
    model.graph.node[0].input[5] = "P"
    with pytest.raises(ValueError, match="initial_h of Y is a constant other than 0"):
        from_onnx_node(model)


def test_wrong_sources_are_refused(rng, tmp_path):
    model = to_onnx_node(random_layer(PeepholeLSTM, 4, 5, rng), "mine")
    assert from_onnx_node(model, "mine").units == from_onnx_node(model, "Y").units == 4
    with pytest.raises(ValueError, match="got 'other'; there is: mine"):
        from_onnx_node(model, "other")
    model.graph.node.append(to_onnx_node(keras_gru(), "second").graph.node[0])
    with pytest.raises(ValueError, match="got None; there is: mine, second"):
        from_onnx_node(model)
    with pytest.raises(ValueError, match="must be a file or an onnx.ModelProto"):
        from_onnx_node({})
    (tmp_path / "broken.onnx").write_bytes(model.SerializeToString()[:300])
    with pytest.raises(ValueError, match="broken.onnx cannot be read as an ONNX model"):
        from_onnx_node(tmp_path / "broken.onnx")
    with pytest.raises(FileNotFoundError, match="none.onnx"):
        from_onnx_node(tmp_path / "none.onnx")
    (tmp_path / "empty.onnx").touch()
    with pytest.raises(ValueError, match="empty.onnx holds no model: it is empty"):
        from_onnx_node(tmp_path / "empty.onnx")


def test_a_constant_that_cannot_be_read_is_named(rng):
    for change, message in (
        (
            {"data_type": 99},
            r"^R of Y \(R\) must be an array of floats, got .* type 99",
        ),
        (
            {"raw_data": b"short"},
            r"^R of Y \(R\) must be an array of floats, got .* 1 ",
        ),
    ):
        model = random_node("LSTM", rng)
        (tensor,) = (it for it in model.graph.initializer if it.name == "R")
        for name, value in change.items():
            setattr(tensor, name, value)
        with pytest.raises(ValueError, match=message):
            from_onnx_node(model)


def test_reset_after_is_what_the_node_tells(rng):
    model = random_node("GRU", rng, linear_before_reset=1)
    assert from_onnx_node(model, reset_after=True).reset_after
    with pytest.raises(ValueError, match="reset_after must be True, .* got False: lin"):
        from_onnx_node(model, reset_after=False)


def test_of_several_nodes_one_is_chosen_by_any_name(rng):
    """Also of nodes without a name, without Y, or with the same name."""
    layers = [random_layer(keras.layers.LSTM, 4, 5, rng) for _ in "ab"]
    model, other = map(to_onnx_node, layers)
    for tensor in other.graph.initializer:
        tensor.name += "b"
    model.graph.initializer.extend(other.graph.initializer)
    model.graph.node.extend(other.graph.node)
    for node, end, inputs in zip(model.graph.node, "ab", ("", "b"), strict=True):
        node.input[:] = ["X", *(name + inputs for name in "WRB")]
        node.name, node.output[:] = "", ["", f"H{end}", f"C{end}"]
    with pytest.raises(ValueError, match="must choose one .* None; there is: Ha, Hb$"):
        from_onnx_node(model)
    with pytest.raises(ValueError, match="got ''; there is: Ha, Hb$"):
        from_onnx_node(model, "")
    for names, layer in zip((["Ha", "Ca"], ["Hb", "Cb"]), layers, strict=True):
        for name in names:
            assert_same_weights(from_onnx_node(model, name, **BOTH), layer)
    for node in model.graph.node:
        node.name = "rnn"
    message = r"got 'rnn'; there is: rnn \(with Ha, Ca\), rnn \(with Hb, Cb\)$"
    with pytest.raises(ValueError, match=message):
        from_onnx_node(model, "rnn")
    assert_same_weights(from_onnx_node(model, "Cb", **BOTH), layers[1])


def keras_gru():
    layer = keras.layers.GRU(4)
    layer.build((None, None, 5))
    return layer


def test_what_onnx_lacks_is_refused(rng):
    lstm, gru = keras.layers.LSTM(4), keras.layers.GRU(4, go_backwards=True)
    two = keras.layers.Bidirectional(lstm, backward_layer=gru)
    two.build((None, None, 5))
    cases = [
        (random_layer(PeepholeLSTM, 4, 5, rng, cell_clip=1.0), "cell_clip=1.0: ONNX"),
        (random_layer(keras.layers.GRU, 4, 5, rng, activation="elu"), "activation elu"),
        (random_layer(DepthGatedLSTM, 4, 5, rng), "is a DepthGatedLSTM: ONNX has no"),
        (two, "different kinds, sizes or options"),
    ]
    for layer, message in cases:
        with pytest.raises(ValueError, match=message):
            to_onnx_node(layer)
