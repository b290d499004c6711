"""Agreement with onnxruntime, an implementation that shares no code with Keras or with
this project."""

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from cells import assert_close, random_layer, random_states, run, weights_by_name
from onnx import TensorProto, helper

from custom_layers import CoupledLSTM, PeepholeLSTM


def onnx_outputs(op, inputs, **attributes):
    """Run one ONNX operator; return ``(batch, time, units)`` outputs and the final
    states."""
    states = ["h"] if op == "GRU" else ["h", "c"]
    node = helper.make_node(op, list(inputs), ["outputs", *states], **attributes)
    graph = helper.make_graph(
        [node],
        "oracle",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape)
            for name, value in inputs.items()
            if name
        ],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * rank)
            for name, rank in {"outputs": 4, **dict.fromkeys(states, 3)}.items()
        ],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10
    )
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    feed = {name: value.astype("float32") for name, value in inputs.items() if name}
    outputs, *new_states = session.run(None, feed)
    return outputs[:, 0].transpose(1, 0, 2), [state[0] for state in new_states]


def lstm_inputs(x, states, weights, p, i):
    """ONNX's inputs: gates in the order i, o, f, c; peepholes i, o, f; ``i`` gives i's
    weights."""

    def reorder(array):
        gates = dict(
            zip(
                "fco" if i else "ifco",
                np.split(array, 3 if i else 4, axis=-1),
                strict=True,
            )
        )
        if i:
            gates["i"] = i(gates["f"])
        return np.concatenate([gates[gate] for gate in "iofc"], axis=-1)

    bias = reorder(weights["bias"])
    inputs = {
        "X": x.transpose(1, 0, 2),
        "W": reorder(weights["kernel"]).T[None],
        "R": reorder(weights["recurrent_kernel"]).T[None],
        "B": np.concatenate([bias, np.zeros_like(bias)])[None],
        "": np.zeros(0),  # sequence_lens
        "initial_h": states[0][None],
        "initial_c": states[1][None],
    }
    if p is not None:
        inputs["P"] = np.concatenate(p)[None]
    return inputs


def compare(layer, expected, x, states):
    outputs, new_states = run(layer, x, states)
    assert_close(outputs, expected[0])
    for actual, wanted in zip(new_states, expected[1], strict=True):
        assert_close(actual, wanted)


def data(layer, rng):
    return rng.uniform(-1, 1, (3, 60, 5)).astype("float32"), random_states(
        layer, 3, rng
    )


@pytest.mark.parametrize("peepholes", [(), ("i", "f", "o"), ("o",), ("i", "f")])
def test_peephole(peepholes, rng):
    layer = random_layer(PeepholeLSTM, 4, 5, rng, peepholes=peepholes)
    x, states = data(layer, rng)
    weights = weights_by_name(layer)
    p = [weights.get(f"peephole_{gate}", np.zeros(4)) for gate in "iof"]
    inputs = lstm_inputs(x, states, weights, p, None)
    compare(layer, onnx_outputs("LSTM", inputs, hidden_size=4), x, states)


@pytest.mark.parametrize("peepholes", [(), ("f", "o")])
def test_coupled(peepholes, rng):
    """ONNX keeps the input gate, f = 1 − i: the same cell with the sign of f's weights
    turned."""
    layer = random_layer(CoupledLSTM, 4, 5, rng, peepholes=peepholes)
    x, states = data(layer, rng)
    weights = weights_by_name(layer)
    p_f, p_o = (weights.get(f"peephole_{gate}", np.zeros(4)) for gate in "fo")
    inputs = lstm_inputs(x, states, weights, [-p_f, p_o, p_f], np.negative)
    compare(
        layer, onnx_outputs("LSTM", inputs, hidden_size=4, input_forget=1), x, states
    )


@pytest.mark.parametrize("reset_after", [True, False])
def test_gru(reset_after, rng):
    layer = random_layer(keras.layers.GRU, 4, 5, rng, reset_after=reset_after)
    x, states = data(layer, rng)
    weights = weights_by_name(layer)
    bias = weights["bias"] if reset_after else np.stack([weights["bias"], np.zeros(12)])
    inputs = {
        "X": x.transpose(1, 0, 2),
        "W": weights["kernel"].T[None],
        "R": weights["recurrent_kernel"].T[None],
        "B": bias.reshape(1, -1),
        "": np.zeros(0),
        "initial_h": states[0][None],
    }
    expected = onnx_outputs(
        "GRU", inputs, hidden_size=4, linear_before_reset=int(reset_after)
    )
    compare(layer, expected, x, states)
