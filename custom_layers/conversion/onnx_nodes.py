"""``LSTM`` and ``GRU`` nodes of ONNX."""

import os
import typing
from typing import Any

import keras
import numpy as np

from custom_layers.conversion import gates, layers, onnx_activations
from custom_layers.conversion.sources import checked, listing, need, read

#: The directions of a node, and whether each of its parts reads backwards.
_BACKWARDS = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}


def from_onnx_node(
    source: Any, node: str | None = None, **arguments: Any
) -> keras.layers.Layer:
    """Return a layer with the weights of an ``LSTM`` or ``GRU`` node of ONNX.

    ``input_forget=1`` becomes a `CoupledLSTM`: ONNX keeps the weights of the input
    gate, and f = 1 − i, so all signs of f are turned. ``linear_before_reset`` is
    ``reset_after`` of a GRU. With ``direction="reverse"`` the layer has
    ``go_backwards``, and returns a sequence in the order of reading, which ONNX turns.

    Args:
        source: A ``.onnx`` file, or an ``onnx.ModelProto``. The node's W ``(directions,
            4·units, features)``, R ``(directions, 4·units, units)``, B ``(directions,
            8·units)`` and P ``(directions, 3·units)``, with 3 in place of 4 and 6 in
            place of 8 for a GRU, must be constants of the model.
        node: The name of the node, or of one of its outputs, if the model has several.
        **arguments: Arguments of the layer, such as ``return_sequences=True``.

    Returns:
        A built ``keras.layers.LSTM``, `PeepholeLSTM`, `CoupledLSTM` or
        ``keras.layers.GRU``, or a ``keras.layers.Bidirectional`` of two, whose outputs
        are side by side.

    Raises:
        ValueError: A weight is missing or has another shape, the model has no such
            node, or the node does what no layer does, such as ``clip``. Or the file is
            broken.
        FileNotFoundError: There is no such file.
        ImportError: The package onnx is not installed.

    Example:
    >>> import keras
    >>> gru = keras.layers.GRU(4, reset_after=False)
    >>> gru.build((None, None, 3))
    >>> from_onnx_node(to_onnx_node(gru)).reset_after
    False
    """
    onnx = need("onnx", "ONNX")
    if isinstance(source, str | os.PathLike):
        path, source = source, read(source, "an ONNX model", onnx.load)
        if not source.ByteSize():
            raise ValueError(f"{os.fspath(path)} holds no model: it is empty")
    if not isinstance(source, onnx.ModelProto):
        raise ValueError(
            f"source must be a file or an onnx.ModelProto, got {type(source).__name__}"
        )
    chosen = _choose(source.graph, node)
    return _Reader(onnx, source.graph, chosen).layer(arguments)


def to_onnx_node(layer: keras.layers.Layer, name: str = "rnn") -> Any:
    """Return an ONNX model of one node with the weights of a layer.

    The node is as ONNX has it: from X ``(time, batch, features)`` to Y ``(time,
    directions, batch, units)``, and the final states Y_h and, of an LSTM, Y_c
    ``(directions, batch, units)``. It has no mask.

    Args:
        layer: A built ``keras.layers.LSTM``, `PeepholeLSTM`, `CoupledLSTM` or
            ``keras.layers.GRU``, or a ``keras.layers.Bidirectional`` of two. With
            ``go_backwards`` the node has ``direction="reverse"``.
        name: Name of the node.

    Returns:
        An ``onnx.ModelProto``, of opset 14.

    Raises:
        ValueError: The layer is not built, or has what ONNX lacks.
        ImportError: The package onnx is not installed.

    Example:
    >>> import keras
    >>> lstm = keras.layers.LSTM(4)
    >>> lstm.build((None, None, 3))
    >>> to_onnx_node(lstm).graph.node[0].op_type
    'LSTM'
    """
    pair = layers.directions(layer, "ONNX")
    backwards = [each.go_backwards for each in pair]
    if pair[1:] and backwards != [False, True]:
        raise ValueError(
            f"{layer.name} must read forwards and then backwards, got go_backwards "
            f"{backwards}"
        )
    written = [_write(each) for each in pair]
    if any(it.alike() != written[0].alike() for it in written):
        raise ValueError(
            f"{layer.name} has two directions of different kinds, sizes or options: "
            "in ONNX they are one node"
        )
    direction = "bidirectional" if pair[1:] else ("forward", "reverse")[backwards[0]]
    return _model(need("onnx", "ONNX"), name, direction, written)


def _model(onnx, name, direction, written):
    """Return a model of one node."""
    op, first, _, attributes = written[0]
    functions = [function for it in written for function in it.functions]
    arrays = {key: np.stack([it.arrays[key] for it in written]) for key in first}
    count, _, features = arrays["W"].shape
    units = arrays["R"].shape[2]
    inputs = ["X", "W", "R", "B" if "B" in arrays else ""]
    inputs += ["", "", "", "P"] if "P" in arrays else []
    states = ["Y_h"] if op == "GRU" else ["Y_h", "Y_c"]
    node = onnx.helper.make_node(
        op,
        inputs if inputs[-1] else inputs[:-1],
        ["Y", *states],
        name=name,
        hidden_size=units,
        direction=direction,
        **onnx_activations.to_attributes(functions),
        **attributes,
    )
    dtype = onnx.helper.np_dtype_to_tensor_dtype(arrays["W"].dtype)
    shapes = {
        "X": ["time", "batch", features],
        "Y": ["time", count, "batch", units],
        **dict.fromkeys(states, [count, "batch", units]),
    }
    x, *outputs = (
        onnx.helper.make_tensor_value_info(key, dtype, shape)
        for key, shape in shapes.items()
    )
    constants = [onnx.numpy_helper.from_array(it, key) for key, it in arrays.items()]
    graph = onnx.helper.make_graph([node], name, [x], outputs, constants)
    opset = onnx.helper.make_opsetid("", 14)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)
    onnx.checker.check_model(model)
    return model


class _Written(typing.NamedTuple):
    """One direction, as ONNX has it."""

    op: str
    arrays: dict[str, np.ndarray]
    functions: list[typing.Callable]  # its activations
    attributes: dict[str, int]

    def alike(self):
        """Return what both directions must have in common."""
        shapes = {key: array.shape for key, array in self.arrays.items()}
        return self._replace(arrays=shapes, functions=[])


def _write(layer):
    """Return one direction of a layer, a `_Written`."""
    if layers.is_gru(layer):
        weights = layers.gru_weights(layer, "ONNX", (None, None))
        op, order = "GRU", (gates.GRU, gates.GRU)
        attributes = {"linear_before_reset": int(layer.cell.reset_after)}
    else:
        weights = layers.lstm_weights(layer, "ONNX", (None, None))
        op, order = "LSTM", (gates.LSTM, gates.ONNX_LSTM)
        attributes = {"input_forget": 1} if layers.is_coupled(layer) else {}
    arrays = {
        "W": gates.reorder(weights["kernel"], *order).T,
        "R": gates.reorder(weights["recurrent_kernel"], *order).T,
    }
    if "bias" in weights:
        bias = gates.reorder(weights["bias"], *order)
        both = bias if bias.ndim == 2 else np.stack([bias, np.zeros_like(bias)])
        arrays["B"] = both.reshape(-1)
    if any(name in weights for name in layers.PEEPHOLES):
        zeros = np.zeros(arrays["R"].shape[1], arrays["R"].dtype)
        peepholes = {gate: weights.get(f"peephole_{gate}", zeros) for gate in "ifo"}
        arrays["P"] = gates.join(peepholes, gates.ONNX_PEEPHOLES)
    functions = [layer.cell.recurrent_activation, layer.cell.activation]
    functions += functions[1:] if op == "LSTM" else []  # of the candidate, and of c
    for function in functions:
        if not onnx_activations.has(function):
            known = map(layers.activation_name, onnx_activations.ACTIVATIONS)
            raise ValueError(
                f"{layer.name} has the activation {layers.activation_name(function)}: "
                f"ONNX takes {listing(known)}"
            )
    return _Written(op, arrays, functions, attributes)


def _choose(graph, name):
    """Return the node of a graph with a name or an output, or the only one there is."""
    found = [it for it in graph.node if it.op_type in ("LSTM", "GRU")]
    chosen = found
    if name is not None:
        chosen = [it for it in found if name and name in (it.name, *it.output)]
    if len(chosen) != 1:
        names = [it.name for it in found]
        there = [
            f"{it.name} (with {listing(filter(None, it.output))})"
            if it.name and names.count(it.name) > 1
            else _name(it)
            for it in found
        ]
        raise ValueError(
            "node must choose one LSTM or GRU of the model, by its name or one of its "
            f"outputs, got {name!r}; there is: {listing(there)}"
        )
    return chosen[0]


def _name(node):
    """Return the name of a node, or of the first output that it has."""
    return node.name or next(filter(None, node.output), f"a nameless {node.op_type}")


class _Reader:
    """Reads a node.

    Args:
        onnx: The package.
        graph: The graph with the constants.
        node: The node.
    """

    def __init__(self, onnx, graph, node):
        self.name, self.is_gru = _name(node), node.op_type == "GRU"
        self.attributes = {
            it.name: onnx.helper.get_attribute_value(it) for it in node.attribute
        }
        names = "X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"
        self.inputs = dict(zip(names, node.input, strict=False))
        tensors = {it.name: it for it in graph.initializer}
        for it in graph.node:
            values = [each.t for each in it.attribute if each.name == "value"]
            if it.op_type == "Constant" and values:
                tensors[it.output[0]] = values[0]
        self.arrays = {
            key: self._array(onnx, key, tensors[name])
            for key, name in self.inputs.items()
            if name in tensors
        }
        self.is_coupled = bool(self.attributes.get("input_forget", 0))
        self.reset_after = bool(self.attributes.get("linear_before_reset", 0))

    def _array(self, onnx, key, tensor):
        """Return a constant input as an array."""
        try:
            return onnx.numpy_helper.to_array(tensor)
        except Exception as error:  # a KeyError of a type, a ValueError of a size
            raise ValueError(
                f"{key} of {self.name} ({tensor.name}) must be an array of floats, got "
                f"one of data type {tensor.data_type} that cannot be read: {error!r}"
            ) from error

    def layer(self, arguments):
        """Return the layer."""
        self._check()
        self.dtype = layers.weight_dtype(arguments)
        direction = _text(self.attributes.get("direction", "forward"))
        if direction not in _BACKWARDS:
            raise ValueError(
                f"direction of {self.name} must be {' or '.join(map(repr, _BACKWARDS))}"
                f", got {direction!r}"
            )
        backwards = _BACKWARDS[direction]
        name, made = {}, []
        if len(backwards) > 1 and "name" in arguments:  # of both together
            arguments = dict(arguments)
            name = {"name": arguments.pop("name")}
        for number, activations in enumerate(self._activations(len(backwards))):
            weights = self._weights(number, len(backwards))
            way = {"go_backwards": True} if backwards[number] else {}
            made.append(self._make(weights, {**activations, **way, **arguments}))
        return layers.make_bidirectional(*made, **name) if made[1:] else made[0]

    def _make(self, weights, arguments):
        if self.is_gru:
            told = {"reset_after": self.reset_after}
            layers.check_told(arguments, told, "linear_before_reset tells it")
            arguments = arguments | told
            return layers.make(keras.layers.GRU, weights, arguments)
        make = layers.make_lstm
        if self.is_coupled:
            σ = arguments.get("recurrent_activation", "sigmoid")
            layers.check_symmetric(σ, self.name, "ONNX")
            make = layers.make_coupled
        return make(weights, arguments)

    def _check(self):
        """Raise ValueError for what no layer does."""
        if self.attributes.get("clip", 0):
            raise ValueError(
                f"{self.name} has clip={self.attributes['clip']}, which bounds what "
                "goes into every activation: no layer does that"
            )
        for key in ("initial_h", "initial_c"):
            if np.any(self.arrays.get(key, 0)):
                raise ValueError(
                    f"{key} of {self.name} is a constant other than 0: a layer takes "
                    "its initial state when it is called"
                )

    def _weights(self, number, count):
        """Return the weights of one direction of ``count``, by their Keras names."""
        units = self.attributes.get("hidden_size")
        units = units or self._take("R", count, None, None).shape[2]
        width = (3 if self.is_gru else 4) * units
        weights = {
            "kernel": self._take("W", count, width, None)[number].T,
            "recurrent_kernel": self._take("R", count, width, units)[number].T,
        }
        if self.inputs.get("B"):
            both = self._take("B", count, 2 * width)[number].reshape(2, width)
            keep_both = self.is_gru and self.reset_after
            weights["bias"] = both if keep_both else both.sum(axis=0)
        if self.is_gru:
            return weights  # the gates have the order of Keras
        order = gates.ONNX_LSTM, gates.LSTM
        weights = {key: gates.reorder(it, *order) for key, it in weights.items()}
        if self.inputs.get("P"):
            parts = self._take("P", count, 3 * units)[number]
            parts = gates.split(parts, gates.ONNX_PEEPHOLES)
            weights |= {f"peephole_{gate}": parts[gate] for gate in "ifo"}
        return _coupled(weights) if self.is_coupled else weights

    def _activations(self, count):
        """Return the activations of each direction, as arguments of a layer."""
        usual = ["Sigmoid", "Tanh"] if self.is_gru else ["Sigmoid", "Tanh", "Tanh"]
        given = [_text(it) for it in self.attributes.get("activations", usual * count)]
        if len(given) != len(usual) * count:
            raise ValueError(
                f"{self.name} must have {len(usual) * count} activations, got "
                f"{listing(given)}"
            )
        numbers = {
            name: list(self.attributes.get(name, ()))
            for name in onnx_activations.PARAMETERS
        }
        found = onnx_activations.from_attributes(given, *numbers.values())
        ours = [None if it is None else layers.activation_name(it) for it in found]
        result = []
        for start in range(0, len(ours), len(usual)):
            σ, *φ = ours[start : start + len(usual)]
            if len(set(φ)) != 1 or None in (σ, *φ):
                told = [f", {name} {it}" for name, it in numbers.items() if it]
                raise ValueError(
                    f"{self.name} has the activations {', '.join(given)}"
                    f"{''.join(told)}: a layer has one for all gates and one for "
                    f"candidate and output, out of {_known_activations()}"
                )
            result.append({"activation": φ[0], "recurrent_activation": σ})
        return result

    def _take(self, key, *shape):
        """Return a constant input of the node."""
        name = self.inputs.get(key)
        if key not in self.arrays:
            problem = f"is {name!r}, no constant of the model" if name else "is missing"
            raise ValueError(f"{key} of {self.name} {problem}")
        full, array = f"{key} of {self.name} ({name})", self.arrays[key]
        return checked(full, array, *shape, dtype=self.dtype)


def _known_activations():
    """Return the activations of ONNX that Keras has, in words."""
    return listing(
        f"{name} with alpha {parameters[0]:.4g} and beta {parameters[1]:.4g}"
        if parameters
        else name
        for name, parameters in onnx_activations.ACTIVATIONS.values()
    )


def _coupled(weights):
    """Return the weights of f, g and o: f has those of i with the opposite sign."""
    result = {}
    for key in layers.FUSED:
        if key in weights:
            parts = gates.split(weights[key], gates.LSTM)
            result[key] = gates.join({**parts, "f": -parts["i"]}, gates.COUPLED)
    if "peephole_i" in weights:
        result["peephole_f"] = -weights["peephole_i"]
        result["peephole_o"] = weights["peephole_o"]
    return result


def _text(value):
    return value.decode() if isinstance(value, bytes) else value
