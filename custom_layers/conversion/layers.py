"""From weights by their Keras names to a built layer, and back."""

import reprlib

import keras
import numpy as np

from custom_layers.cells.coupled_lstm import CoupledLSTM, CoupledLSTMCell
from custom_layers.cells.peephole_lstm import PeepholeLSTM, PeepholeLSTMCell
from custom_layers.conversion import gates
from custom_layers.conversion.sources import check_range, to_numpy
from custom_layers.engine import options
from custom_layers.engine.recurrent_layer import RecurrentLayer

FUSED = ("kernel", "recurrent_kernel", "bias")
SYMMETRIC = ("sigmoid", "hard_sigmoid")  # the σ with 1 − σ(z) = σ(−z)
PEEPHOLES = tuple(f"peephole_{gate}" for gate in "ifo")
KNOWN_LAYERS = (
    RecurrentLayer,
    keras.layers.RNN,
    keras.layers.LSTM,
    keras.layers.GRU,
    keras.layers.SimpleRNN,
)
KNOWN_CELLS = (
    PeepholeLSTMCell,
    CoupledLSTMCell,
    keras.layers.LSTMCell,
    keras.layers.GRUCell,
)
#: The methods that decide what a cell and a layer of these classes compute.
_CALL = ("__call__", "call", "get_initial_state")
_STEP = (*_CALL, "values", "equations", "prepare", "parameters", "around")


def make(layer_class, weights, arguments):
    """Return a built layer with given weights.

    Args:
        layer_class: Its class.
        weights: Its weights by name. Without ``bias`` it has none.
        arguments: Its other arguments.

    Raises:
        ValueError: The arguments give it other weights than these, or ``stateful``,
            or other ``units`` or another ``use_bias``.
    """
    check_not_stateful(arguments)
    features = len(weights["kernel"])
    units = len(weights.get("projection_kernel", weights["recurrent_kernel"]))
    told = {"units": units, "use_bias": "bias" in weights}
    check_told(arguments, told, "the weights tell it")
    layer = layer_class(**(arguments | told))
    layer.build((None, None, features))
    assign(layer, weights, "the source", arguments)
    return layer


def assign(layer, weights, owner, arguments):
    """Give a built layer all its weights.

    Args:
        layer: The layer.
        weights: The weights by name.
        owner: What has these weights, for the error.
        arguments: The arguments that decide what weights the layer has, for the error.

    Raises:
        ValueError: The layer has other weights than these, other shapes, or a dtype
            that cannot hold them.
    """
    own = {weight.name: tuple(weight.shape) for weight in layer.weights}
    given = {name: np.shape(array) for name, array in weights.items()}
    problems = [
        f"{name} {shape} would be lost"
        for name, shape in given.items()
        if name not in own
    ]
    for name, shape in own.items():
        if name not in given:
            problems.append(f"{name} {shape} is missing")
        elif given[name] != shape:
            problems.append(f"{name} must have shape {shape}, got {given[name]}")
    if problems:
        raise ValueError(
            f"{owner} has other weights than a {type(layer).__name__} with the "
            f"arguments {arguments}: {', '.join(problems)}; allowed are arguments that "
            "keep all weights and their shapes"
        )
    for weight in layer.weights:
        name = f"{weight.name} of {owner}"
        check_range(name, weights[weight.name], str(weight.dtype))
        weight.assign(weights[weight.name])


def check_told(arguments, told, reason):
    """Raise ValueError for an argument that is not what the source tells.

    Args:
        arguments: Those that the user gives.
        told: What the source tells, by name.
        reason: Why, in words.
    """
    for name, value in told.items():
        if name in arguments and arguments[name] != value:
            raise ValueError(
                f"{name} must be {value!r}, or left out, got {arguments[name]!r}: "
                f"{reason}"
            )


def weight_dtype(arguments):
    """Return the dtype of the weights of a layer with some arguments, as a text."""
    policy = keras.dtype_policies.get(arguments.get("dtype"))
    return policy.variable_dtype


def check_not_stateful(arguments):
    """Raise ValueError for a layer that must know the size of its batches."""
    if arguments.get("stateful"):
        raise ValueError(
            f"stateful must be False, got {arguments['stateful']!r}: a stateful layer "
            "is built for batches of one size, which the weights do not tell. Build "
            "one, and give it the weights: stateful.set_weights(layer.get_weights())"
        )


def make_lstm(weights, arguments):
    """Return an LSTM: that of Keras, unless it needs peepholes or options of ours."""
    peepholes = tuple(name[-1] for name in PEEPHOLES if name in weights)
    arguments = _projection(weights) | arguments
    if not peepholes and not arguments.keys() & {*options.OFF, "peepholes"}:
        return make(keras.layers.LSTM, weights, arguments)
    return make(PeepholeLSTM, weights, {"peepholes": peepholes} | arguments)


def make_coupled(weights, arguments):
    """Return a `CoupledLSTM`."""
    peepholes = tuple(name[-1] for name in PEEPHOLES if name in weights)
    arguments = {"peepholes": peepholes} | _projection(weights) | arguments
    return make(CoupledLSTM, weights, arguments)


def _projection(weights):
    """Return the argument of a layer that has a projection."""
    if "projection_kernel" not in weights:
        return {}
    return {"projection": weights["projection_kernel"].shape[1]}


def make_gru(weights, arguments):
    """Return a GRU of Keras; the shape of its bias tells which, if it has one."""
    if "bias" in weights:
        told = {"reset_after": weights["bias"].ndim == 2}
        shape = weights["bias"].shape
        check_told(arguments, told, f"the bias has shape {shape}, and tells it")
        arguments = arguments | told
    return make(keras.layers.GRU, weights, arguments)


def make_bidirectional(forward, backward, name=None):
    """Return one layer of two, of which the second reads backwards."""
    layer = keras.layers.Bidirectional(
        forward, backward_layer=backward, dtype=forward.dtype_policy, name=name
    )
    layer.build((None, None, forward.cell.kernel.shape[0]))
    layer.forward_layer.set_weights(forward.get_weights())
    layer.backward_layer.set_weights(backward.get_weights())
    return layer


def directions(layer, target):
    """Return a layer as a list of those that read forwards and backwards.

    Raises:
        ValueError: It is no layer that the target has, or a ``Bidirectional`` whose
            outputs are not side by side, or a subclass that computes in its own way.
    """
    if not isinstance(layer, keras.layers.Bidirectional):
        check_kind(layer, target, gru=True)
        return [layer]
    _check_methods(layer.name, layer, _CALL, (keras.layers.Bidirectional,))
    if layer.merge_mode != "concat":
        raise ValueError(
            f"{layer.name} has merge_mode {layer.merge_mode!r}: {target} knows only "
            "'concat'"
        )
    pair = [layer.forward_layer, layer.backward_layer]
    for each in pair:
        check_kind(each, target, gru=True)
    return pair


def is_gru(layer):
    """Return whether a layer is a GRU."""
    is_rnn = isinstance(layer, keras.layers.RNN)
    return is_rnn and isinstance(layer.cell, keras.layers.GRUCell)


def is_coupled(layer):
    """Return whether a layer has coupled gates."""
    is_rnn = isinstance(layer, keras.layers.RNN)
    return is_rnn and _has_equations_of(layer.cell, CoupledLSTMCell)


def check_kind(layer, target, gru=False):
    """Raise ValueError for anything but a recurrent layer that a target has.

    Args:
        layer: What a user gave.
        target: What its weights are for, in words.
        gru: Whether the target has a GRU and ``Bidirectional``, too.
    """
    is_rnn = isinstance(layer, keras.layers.RNN)
    cell = layer.cell if is_rnn else None
    if isinstance(cell, keras.layers.LSTMCell) or is_coupled(layer):
        return
    if _has_equations_of(cell, PeepholeLSTMCell) or (gru and is_gru(layer)):
        return
    allowed = "LSTM, PeepholeLSTM and CoupledLSTM, and an RNN of one of their cells"
    if gru:
        allowed = (
            "LSTM, PeepholeLSTM, CoupledLSTM and GRU, an RNN of one of their cells, "
            "and a Bidirectional of two"
        )
    what = f"{reprlib.repr(layer)} is no layer of Keras"
    if isinstance(layer, keras.layers.Layer):
        what = f"{layer.name} is a {_kind(layer)}"
    raise ValueError(f"{what}: {target} has no such layer; allowed are {allowed}")


def gru_weights(layer, target, activations=("tanh", "sigmoid")):
    """Return the weights of a GRU by name.

    Raises:
        ValueError: As in `lstm_weights`.
    """
    _check(layer, target, activations)
    return _by_name(layer)


def lstm_weights(
    layer, target, activations=("tanh", "sigmoid"), peepholes=True, kept=()
):
    """Return the weights of a layer by name, as those of an LSTM with four gates.

    Since 1 − σ(z) = σ(−z), coupled gates are an LSTM whose input gate has the weights
    of the forget gate with the opposite sign; of ``layer_norm="tf1"``, which has
    norm(−z) = −norm(z), it has the same γ. The other normalisations are of all gates
    together, of three other than of four.

    Args:
        layer: The layer.
        target: What they are for, in words.
        activations: φ and σ of the target, by name; None stands for any.
        peepholes: Whether the target has peepholes. If not, they must be zero, and are
            left out.
        kept: The names of the options that the target has.

    Raises:
        ValueError: The layer is no LSTM, is not built, has what the target lacks, or a
            subclass computes in its own way.
    """
    check_kind(layer, target)
    _check(layer, target, activations, kept)
    weights = _by_name(layer)
    if is_coupled(layer):
        σ = activation_name(layer.cell.recurrent_activation)
        check_symmetric(σ, layer.name, target)
        for name in FUSED:
            if name in weights:
                parts = gates.split(weights[name], gates.COUPLED)
                weights[name] = gates.join({"i": -parts["f"]} | parts, gates.LSTM)
        if "peephole_f" in weights:
            weights["peephole_i"] = -weights["peephole_f"]
        if "gates_gamma" in weights:  # norm(−z) = −norm(z), and β is in the bias
            parts = gates.split(weights["gates_gamma"], gates.COUPLED)
            weights["gates_gamma"] = gates.join({"i": parts["f"]} | parts, gates.LSTM)
    return weights if peepholes else without_peepholes(weights, layer.name, target)


def without_peepholes(weights, name, target, lost=PEEPHOLES):
    """Return the weights without some peepholes, which must be zero."""
    for peephole in lost:
        if np.any(weights.get(peephole, 0)):
            raise ValueError(
                f"{peephole} of {name} is not zero: {target} has no such peephole"
            )
    return {key: value for key, value in weights.items() if key not in lost}


def coupled_weights(weights, name, target):
    """Return the weights of an LSTM, by name, as those of coupled gates.

    Raises:
        ValueError: The input gate has not the weights of the forget gate with the
            opposite sign, or not its γ.
    """
    coupled = {key: weights[key] for key in weights if key != "peephole_i"}
    pairs = {"peephole": [weights.get(f"peephole_{gate}", 0) for gate in "if"]}
    for key in FUSED:
        if key in weights:
            parts = gates.split(weights[key], gates.LSTM)
            pairs[key] = [parts["i"], parts["f"]]
            coupled[key] = gates.join(parts, gates.COUPLED)
    if "gates_gamma" in weights:
        parts = gates.split(weights["gates_gamma"], gates.LSTM)
        pairs["gates_gamma"] = [parts["i"], -parts["f"]]
        coupled["gates_gamma"] = gates.join(parts, gates.COUPLED)
    for key, (i, f) in pairs.items():
        if np.any(np.add(i, f)):
            raise ValueError(
                f"{key} of {name} has an input gate of its own: {target} ties it to "
                "the forget gate, with the opposite sign (of gates_gamma with the same)"
            )
    return coupled


def check_symmetric(σ, name, target):
    """Raise ValueError unless 1 − σ(z) = σ(−z), so that −W ties the input gate."""
    if σ not in SYMMETRIC:
        raise ValueError(
            f"{name} has recurrent_activation={σ!r}: between coupled gates and "
            f"{target} it must be {' or '.join(map(repr, SYMMETRIC))}"
        )


def _kind(layer):
    """Return the class of a layer in words; of a bare RNN with that of its cell."""
    name = type(layer).__name__
    if type(layer) is not keras.layers.RNN:
        return name
    return f"{name} of {type(layer.cell).__name__}"


def _has_equations_of(cell, cell_class):
    """Return whether a cell is of a class, and has not overwritten its equations."""
    equations = getattr(type(cell), "equations", None)
    return isinstance(cell, cell_class) and equations is cell_class.equations


def _check(layer, target, activations, kept=()):
    """Raise ValueError unless a layer is built, and has nothing that is lost."""
    if not layer.built:
        raise ValueError(
            f"{layer.name} has no weights yet: call it, or "
            "layer.build((None, None, features))"
        )
    _check_methods(layer.name, layer, (*_CALL, "inner_loop"), KNOWN_LAYERS)
    _check_methods(layer.name, layer.cell, _STEP, KNOWN_CELLS)
    for name, value in options.turned_on(layer.cell).items():
        if name not in kept:
            raise ValueError(
                f"{layer.name} has {name}={value!r}: {target} has no such option"
            )
    bound = getattr(layer.cell, "projection_clip", None)
    if bound is not None and "projection_clip" not in kept:
        raise ValueError(
            f"{layer.name} has projection_clip={bound!r}: {target} has no such option"
        )
    names = "activation", "recurrent_activation"
    for name, allowed in zip(names, activations, strict=True):
        own = activation_name(getattr(layer.cell, name))
        if own != (allowed or own):
            raise ValueError(
                f"{layer.name} has {name}={own!r}: {target} has {allowed!r} alone"
            )


def overwritten(thing, names, known):
    """Return the first of some methods that a subclass has of its own, or None.

    Args:
        thing: A layer or a cell.
        names: The names of the methods.
        known: The classes whose methods are known.

    Returns:
        A text such as ``"Mine.call"``.
    """
    for cls in type(thing).__mro__:
        if cls in known:
            break
        for name in names:
            if name in vars(cls):
                return f"{cls.__name__}.{name}"
    return None


def _check_methods(name, thing, names, known):
    """Raise ValueError for a subclass that computes in its own way."""
    if method := overwritten(thing, names, known):
        raise ValueError(
            f"{name} has {method} of its own: what that computes is not in the weights"
        )


def activation_name(function):
    """Return the name of an activation of Keras."""
    name = keras.activations.serialize(function)
    return name if isinstance(name, str) else repr(name)


def _by_name(layer):
    convert = keras.ops.convert_to_numpy
    return {weight.name: to_numpy(convert(weight)) for weight in layer.weights}
