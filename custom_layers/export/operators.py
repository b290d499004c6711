"""ONNX's own LSTM, GRU and RNN: which cell is which, and with which weights."""

import functools
import typing

import keras
import numpy as np

from custom_layers.cells.coupled_lstm import CoupledLSTMCell
from custom_layers.cells.peephole_lstm import PeepholeLSTMCell
from custom_layers.cells.weight_drop_lstm import WeightDropLSTMCell
from custom_layers.conversion import gates, layers, onnx_activations
from custom_layers.engine.options import turned_on


class Operator(typing.NamedTuple):
    """One of ONNX's recurrent operators.

    Attributes:
        name: ``"LSTM"``, ``"GRU"`` or ``"RNN"``.
        weights: Its inputs ``W``, ``R`` and ``B``, and ``P`` where there are peepholes:
            float32, each for one direction.
        attributes: Its attributes, but for the direction.
    """

    name: str
    weights: dict[str, np.ndarray]
    attributes: dict[str, typing.Any]


def native_operator(layer: keras.layers.RNN) -> Operator | None:
    """Return the operator that computes what a built layer does, or None.

    There is none for `DepthGatedLSTM` and `ClockworkRNN`, for the options of
    `GatedCell`, a subclass with equations or a loop of its own, or an activation that
    ONNX lacks: those remain loops, which ONNX has, too.

    Args:
        layer: The layer, built.

    Example:
        >>> layer = keras.layers.LSTM(4)
        >>> layer.build((None, None, 3))
        >>> native_operator(layer).weights["W"].shape
        (1, 16, 3)
    """
    cell = layer.cell
    make = CELLS.get(type(cell))
    own_loop = layers.overwritten(layer, ("inner_loop",), layers.KNOWN_LAYERS)
    if make is None or own_loop:
        return None
    used = [cell.activation, getattr(cell, "recurrent_activation", None)]
    known = all(onnx_activations.has(it) for it in used if it is not None)
    if not known or turned_on(cell):
        return None
    if make is _coupled:
        σ = layers.activation_name(cell.recurrent_activation)
        if σ not in layers.SYMMETRIC:
            return None
    return make(cell)


def _lstm(cell):
    """Return a cell with gates i, f, g, o as ONNX's LSTM."""
    order = functools.partial(gates.reorder, have=gates.LSTM, want=gates.ONNX_LSTM)
    return _with_peepholes(cell, _weights(cell, order), {})


def _coupled(cell):
    """Return a cell with gates f, g, o as ONNX's LSTM, whose f is 1 − i.

    ONNX keeps the input gate's weights: those of f with the opposite sign.
    """

    def with_i(w):
        parts = gates.split(w, gates.COUPLED)
        return gates.join(parts | {"i": -parts["f"]}, gates.ONNX_LSTM)

    return _with_peepholes(cell, _weights(cell, with_i), {"input_forget": 1})


def _gru(cell):
    """Return Keras's GRU as ONNX's: the gates z, r, h are in the same order."""
    W, R = _array(cell.kernel), _array(cell.recurrent_kernel)
    B = np.zeros((2, W.shape[-1]), "float32")
    if cell.use_bias:
        B[: 2 if cell.reset_after else 1] = _array(cell.bias)
    weights = {"W": W.T[None], "R": R.T[None], "B": B.reshape(1, -1)}
    reset = {"linear_before_reset": int(cell.reset_after)}
    functions = [cell.recurrent_activation, cell.activation]
    return Operator("GRU", weights, _attributes(cell, functions) | reset)


def _rnn(cell):
    """Return Keras's simple RNN as ONNX's."""
    weights = _weights(cell, lambda w: w)
    return Operator("RNN", weights, _attributes(cell, [cell.activation]))


#: Class of a cell -> function that makes an `Operator` of such a cell.
CELLS = {
    keras.layers.LSTMCell: _lstm,
    PeepholeLSTMCell: _lstm,
    WeightDropLSTMCell: _lstm,
    CoupledLSTMCell: _coupled,
    keras.layers.GRUCell: _gru,
    keras.layers.SimpleRNNCell: _rnn,
}


def _array(weight):
    return keras.ops.convert_to_numpy(weight).astype("float32")


def _weights(cell, order):
    """Return W, R and B; ``order`` puts the gates of a fused weight in ONNX's order."""
    W, R = order(_array(cell.kernel)), order(_array(cell.recurrent_kernel))
    b = order(_array(cell.bias)) if cell.use_bias else np.zeros(W.shape[-1], "float32")
    B = np.concatenate([b, np.zeros_like(b)])
    return {"W": W.T[None], "R": R.T[None], "B": B[None]}


def _with_peepholes(cell, weights, attributes):
    """Return ONNX's LSTM, from W, R and B, and attributes of its own."""
    if peepholes := getattr(cell, "peepholes", ()):
        P = dict.fromkeys(gates.ONNX_PEEPHOLES, np.zeros(cell.units, "float32"))
        P |= {gate: _array(cell.vector_weights[gate]) for gate in peepholes}
        if "input_forget" in attributes:
            P["i"] = -P["f"]
        weights = weights | {"P": gates.join(P, gates.ONNX_PEEPHOLES)[None]}
    functions = [cell.recurrent_activation, cell.activation, cell.activation]
    return Operator("LSTM", weights, _attributes(cell, functions) | attributes)


def _attributes(cell, functions):
    """Return the attributes that all operators have."""
    return {"hidden_size": cell.units, **onnx_activations.to_attributes(functions)}
