"""Weights of the LSTM cells of TensorFlow 1."""

import functools
import math
import numbers
import re
import typing
from typing import Any

import keras
import numpy as np

from custom_layers.conversion import gates, layers
from custom_layers.conversion.sources import Source, Weights, as_array, check_prefix


class Cell(typing.NamedTuple):
    """What a cell of TensorFlow 1 has, and what it calls it."""

    order: str  # of its gates
    peepholes: dict[str, str]  # the names, by ours
    kernel: str  # (features + units, gates·units): W above U
    bias: str  # (gates·units,)
    scope: str  # the usual one
    activations: tuple[str | None, str]  # φ and σ; None is an argument of the cell
    options: tuple[str, ...]  # those of ours that are arguments of the cell
    make: typing.Callable
    projection: str = "projection/kernel"  # (units, num_proj)
    ignores_bias: bool = False  # with layer normalisation, when it has one all the same


#: The scopes of γ and β of its layer normalisation, by gate, and of that of c.
_NORMS = {"i": "input", "g": "transform", "f": "forget", "o": "output"}
_STATE_NORM = {"state_gamma": "state/gamma", "state_beta": "state/beta"}
_EPSILON = 1e-12  # of its normalisation, which has no argument for it
_NORMALISED = {"layer_norm": "tf1", "layer_norm_epsilon": _EPSILON}
_DIAGONALS = {f"peephole_{gate}": f"w_{gate}_diag" for gate in "ifo"}
_LSTM = Cell(
    order=gates.TF1_LSTM,
    peepholes=_DIAGONALS,
    kernel="kernel",
    bias="bias",
    scope="lstm_cell",
    activations=(None, "sigmoid"),
    options=("cell_clip", "projection", "projection_clip"),
    make=layers.make_lstm,
)
CELLS = {
    "LSTMCell": _LSTM,
    "BasicLSTMCell": _LSTM._replace(peepholes={}, scope="basic_lstm_cell", options=()),
    "LayerNormBasicLSTMCell": _LSTM._replace(
        peepholes={}, scope="layer_norm_basic_lstm_cell", options=("layer_norm",)
    ),
    "LSTMBlockCell": _LSTM._replace(
        activations=("tanh", "sigmoid"), options=("cell_clip",)
    ),
    "CoupledInputForgetGateLSTMCell": _LSTM._replace(
        order=gates.TF1_COUPLED,
        peepholes={"peephole_f": "W_F_diag", "peephole_o": "W_O_diag"},
        kernel="W_0",
        bias="B",
        scope="coupled_input_forget_gate_lstm_cell",
        options=("layer_norm", "projection", "projection_clip"),
        make=layers.make_coupled,
        projection="W_P_0",
        ignores_bias=True,
    ),
}
#: Cells that have no layer here, and why.
REFUSED = {
    "LayerNormLSTMCell": "it clips c after the normalisation of c, a layer before it",
}


def from_tf1(
    source: Source,
    cell: str,
    prefix: str | None = None,
    *,
    forget_bias: float = 1.0,
    **arguments: Any,
) -> keras.layers.RNN:
    """Return a layer with the weights of a cell of TensorFlow 1.

    Args:
        source: A checkpoint, as in ``"model.ckpt-1000"``, or a mapping from names to
            arrays. It has ``kernel (features + units, 4·units)`` with the gates in the
            order i, g, f, o and ``bias (4·units,)``; with peepholes ``w_i_diag``,
            ``w_f_diag`` and ``w_o_diag``, each ``(units,)``; with ``num_proj``
            ``projection/kernel (units, num_proj)``, and then ``kernel (features +
            num_proj, 4·units)``. With coupled gates these
            are ``W_0``, of the gates g, f, o, ``B``, ``W_F_diag`` and ``W_O_diag``.
            With layer normalisation there are, in place of ``bias``, ``gamma`` and
            ``beta`` in ``input``, ``transform``, ``forget``, ``output`` and ``state``,
            each ``(units,)``. With coupled gates ``input`` is not there, and ``B`` is,
            which the cell then does not add; its projection is ``W_P_0``.
        cell: The class of the cell: ``"LSTMCell"``, ``"BasicLSTMCell"``,
            ``"LayerNormBasicLSTMCell"``, ``"LSTMBlockCell"`` or
            ``"CoupledInputForgetGateLSTMCell"``.
        prefix: The beginning of their names, if the source has several cells: a
            variable scope, as in ``"rnn/multi_rnn_cell/cell_0"``.
        forget_bias: The cell's argument, 1 by default there too. The cell adds it at
            every step to the bias of f; here it becomes a part of the bias.
        **arguments: Arguments of the layer, such as ``return_sequences=True``. What
            was an argument of the cell is not in its weights: give ``activation``,
            ``cell_clip`` and ``projection_clip`` here if they were not the usual ones.

    Returns:
        A built ``keras.layers.LSTM``; with peepholes, ``cell_clip``, a projection or
        layer normalisation a `PeepholeLSTM`; for coupled gates a `CoupledLSTM`.

    Raises:
        ValueError: A weight is missing, too many, or has another shape: the error
            names it. Or the file is broken.
        FileNotFoundError: There is no such file.
        ImportError: TensorFlow, which reads the checkpoint, is not installed.

    Example:
    >>> import numpy as np
    >>> weights = {"kernel": np.ones((3 + 4, 16)), "bias": np.zeros(16)}
    >>> layer = from_tf1(weights, "BasicLSTMCell")
    >>> kernel, recurrent_kernel, bias = layer.get_weights()
    >>> bias.reshape(4, 4)[1].tolist()  # of the gate f
    [1.0, 1.0, 1.0, 1.0]
    """
    it = _cell(cell)
    _check_forget_bias(forget_bias)
    order = gates.COUPLED if it.make is layers.make_coupled else gates.LSTM
    can_normalise = "layer_norm" in it.options
    has_one = it.ignores_bias or not can_normalise
    endings = it.bias if has_one else (it.bias, "state/gamma")
    fits, dtype = functools.partial(_may_be, it), layers.weight_dtype(arguments)
    weights = Weights(source, endings, prefix, fits=fits, dtype=dtype)
    result = {}
    if can_normalise and weights.has("state/gamma"):
        result, bias = _take_norms(weights, it.order, order)
        if it.ignores_bias:
            weights.take(it.bias, len(bias))
        arguments = _NORMALISED | arguments
    else:
        bias = weights.take(it.bias, None)
    units, rest = divmod(len(bias), len(it.order))
    if rest or not units:
        raise ValueError(
            f"{weights.prefix}{it.bias} must have shape ({len(it.order)}·units,) for "
            f"{cell}, got {bias.shape}"
        )
    kernel = weights.take(it.kernel, None, len(bias))
    P, size = None, units  # of h
    if "projection" in it.options and weights.has(it.projection):
        P = weights.take(it.projection, units, None)
        size = P.shape[1]
    features = len(kernel) - size
    if features < 1:
        of_h = "num_proj of the projection" if P is not None else "units of the bias"
        raise ValueError(
            f"{weights.prefix}{it.kernel} must have more rows than the {size} {of_h}, "
            f"got shape {kernel.shape}"
        )
    kernel, bias = (gates.reorder(array, it.order, order) for array in (kernel, bias))
    result |= {
        "kernel": kernel[:features],
        "recurrent_kernel": kernel[features:],
        "bias": _add_to_forget_gate(bias, order, forget_bias),
    }
    if P is not None:
        result["projection_kernel"] = P
    if any(map(weights.has, it.peepholes.values())):
        for name, theirs in it.peepholes.items():
            result[name] = weights.take(theirs, units)
    weights.finish(
        f"it belongs to no {cell} that has a layer here; kernels in shards have none, "
        f"and layer normalisation only that of {' and '.join(_normalising())}"
    )
    return it.make(result, arguments)


def to_tf1(
    layer: keras.layers.RNN,
    cell: str,
    prefix: str | None = None,
    *,
    forget_bias: float = 1.0,
) -> dict[str, np.ndarray]:
    """Return the weights of a layer for a cell of TensorFlow 1.

    Args:
        layer: A built ``keras.layers.LSTM``, `PeepholeLSTM` or `CoupledLSTM`, or a
            ``keras.layers.RNN`` of such a cell.
        cell: The class of the cell, as in `from_tf1`.
        prefix: What the names begin with: the variable scope. By default the usual one
            of the cell, as in ``"rnn/lstm_cell"``.
        forget_bias: The cell's argument. The bias of f is less by so much, which rounds
            it to the precision of the weights; 0 keeps every bit.

    Returns:
        The arrays by name, with a bias and, where the cell has them and the layer has
        one, all peepholes; zero where the layer has none.

    Raises:
        ValueError: The layer is not built, or has what the cell lacks.

    Example:
    >>> import keras
    >>> lstm = keras.layers.LSTM(4)
    >>> lstm.build((None, None, 3))
    >>> list(to_tf1(lstm, "BasicLSTMCell"))
    ['rnn/basic_lstm_cell/kernel', 'rnn/basic_lstm_cell/bias']
    """
    it = _cell(cell)
    check_prefix(prefix)
    _check_forget_bias(forget_bias)
    weights = layers.lstm_weights(
        layer, cell, it.activations, peepholes=bool(it.peepholes), kept=it.options
    )
    if "layer_norm" in it.options:
        _check_norm(layer, cell)
    order = gates.LSTM
    if it.make is layers.make_coupled:
        weights = layers.coupled_weights(weights, layer.name, cell)
        order = gates.COUPLED
    kernel = np.concatenate([weights["kernel"], weights["recurrent_kernel"]])
    bias = weights.get("bias", np.zeros(kernel.shape[1], kernel.dtype))
    bias = _add_to_forget_gate(bias, order, -forget_bias)
    result = {it.kernel: gates.reorder(kernel, order, it.order)}
    if "gates_gamma" in weights:
        result |= _give_norms(weights, bias, order)
        if it.ignores_bias:
            result[it.bias] = np.zeros_like(bias)
    else:
        result[it.bias] = gates.reorder(bias, order, it.order)
    if it.peepholes.keys() & weights.keys():
        zeros = np.zeros(layer.cell.units, kernel.dtype)
        for name, theirs in it.peepholes.items():
            result[theirs] = weights.get(name, zeros)
    if "projection_kernel" in weights:
        result[it.projection] = weights["projection_kernel"]
    start = f"rnn/{it.scope}" if prefix is None else prefix.rstrip("/")
    return {f"{start}/{name}" if start else name: result[name] for name in result}


def _may_be(cell, arrays, start):
    """Return whether the weights with a prefix may be those of a cell, by shape.

    A dense layer has a kernel and a bias, too, whose shapes may fit by chance.
    """
    if re.search(r"(^|/)(dense|fully_connected)(_\d+)?/$", start):
        return False
    if start + cell.bias not in arrays:
        return True  # its β are the bias
    names = start + cell.kernel, start + cell.bias
    try:
        kernel, bias = (as_array(it, arrays.get(it, ())).shape for it in names)
    except ValueError:  # whoever takes it says so
        return False
    units, rest = divmod(math.prod(bias), len(cell.order))
    return len(kernel) == 2 and kernel[1] == len(cell.order) * units and not rest


def _take_norms(weights, order, ours):
    """Return γ of all gates, and γ and β of c, by our names; and the bias, which is β.

    The bias has the gates in ``order``, and γ in that of the layer, ``ours``.
    """
    units = len(weights.take("state/gamma", None))
    γ, β = (
        {gate: weights.take(f"{_NORMS[gate]}/{it}", units) for gate in order}
        for it in ("gamma", "beta")
    )
    result = {name: weights.take(it, units) for name, it in _STATE_NORM.items()}
    result["gates_gamma"] = gates.join(γ, ours)
    return result, gates.join(β, order)


def _give_norms(weights, bias, order):
    """Return γ and β of all gates and of c, by their names: the way back."""
    γ, β = gates.split(weights["gates_gamma"], order), gates.split(bias, order)
    result = {theirs: weights[ours] for ours, theirs in _STATE_NORM.items()}
    for gate in order:
        scope = _NORMS[gate]
        result[f"{scope}/gamma"], result[f"{scope}/beta"] = γ[gate], β[gate]
    return result


def _check_norm(layer, cell):
    """Raise ValueError for a layer with another layer normalisation than a cell's."""
    kind = getattr(layer.cell, "layer_norm", False)
    if kind not in (False, "tf1"):
        raise ValueError(
            f"{layer.name} has layer_norm={kind!r}: {cell} has 'tf1' alone"
        )
    if kind and layer.cell.layer_norm_epsilon != _EPSILON:
        raise ValueError(
            f"{layer.name} has layer_norm_epsilon={layer.cell.layer_norm_epsilon!r}: "
            f"{cell} has {_EPSILON} alone"
        )


def _cell(name):
    """Return what a cell has; raise ValueError for a name that is none."""
    if isinstance(name, str) and name in REFUSED:
        raise ValueError(f"cell {name} has no layer here: {REFUSED[name]}")
    if not isinstance(name, str) or name not in CELLS:
        raise ValueError(f"cell must be one of {', '.join(CELLS)}, got {name!r}")
    return CELLS[name]


def _check_forget_bias(value):
    """Raise ValueError unless the forget bias is a number."""
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not real or not math.isfinite(value):
        raise ValueError(f"forget_bias must be a finite number, got {value!r}")


def _normalising():
    """Return the names of the cells whose layer normalisation a layer has."""
    return [name for name, cell in CELLS.items() if "layer_norm" in cell.options]


def _add_to_forget_gate(bias, order, amount):
    """Return a bias, with a number added to the part of f."""
    parts = gates.split(bias, order)
    parts["f"] = (parts["f"] + amount).astype(bias.dtype)
    return gates.join(parts, order)
