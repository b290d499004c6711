"""Weights of ``torch.nn.LSTM`` and ``torch.nn.GRU``; torch itself is not needed."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from custom_layers.conversion import gates, layers
from custom_layers.conversion.sources import Source, Weights, check_prefix

_NAME = re.compile(r"weight_[ih]h_l(\d+)(_reverse)?")


def from_torch(
    source: Source, prefix: str | None = None, **arguments: Any
) -> list[keras.layers.Layer]:
    """Return layers with the weights of a ``torch.nn.LSTM`` or ``torch.nn.GRU``.

    Whether it is an LSTM or a GRU, how many layers it has, in one direction or two,
    with or without a bias: all that follows from names and shapes. PyTorch has two
    biases for each gate. Those of an LSTM are added up; those of a GRU are kept, as
    ``reset_after`` has both.

    Args:
        source: A state dict of arrays or tensors, such as ``torch.load(path,
            weights_only=True)`` returns, or a ``.safetensors`` file. Of layer k it has
            ``weight_ih_l{k} (4·units, features)``, ``weight_hh_l{k} (4·units, units)``,
            ``bias_ih_l{k}`` and ``bias_hh_l{k}``, each ``(4·units,)``; with 3 in place
            of 4 of a GRU; and the same with ``_reverse`` of the other direction. An
            LSTM with ``proj_size`` has ``weight_hr_l{k} (proj_size, units)``, too, and
            ``weight_hh_l{k} (4·units, proj_size)``.
        prefix: The beginning of their names, if the source has several: the name of
            the module, as in ``"encoder.lstm"``.
        **arguments: Arguments of every layer, but ``stateful``. All layers but the last
            one return sequences; the last one does with ``return_sequences=True``, as
            Keras has it. Of several layers ``name="enc"`` makes ``"enc_0"``,
            ``"enc_1"`` and so on.

    Returns:
        The built layers from the bottom up, each a ``keras.layers.LSTM``, a
        ``keras.layers.GRU``, with ``proj_size`` a `PeepholeLSTM` without peepholes and
        with a ``projection``, or a ``keras.layers.Bidirectional`` of two.

    Raises:
        ValueError: A weight is missing, too many, or has another shape: the error
            names it. Or an argument is not what the weights tell, such as ``units``.
            Or the file is broken.
        FileNotFoundError: There is no such file.
        ImportError: safetensors, which reads the file, is not installed.

    Example:
    >>> import keras, numpy as np
    >>> state = {"weight_ih_l0": np.ones((16, 3)), "weight_hh_l0": np.ones((16, 4))}
    >>> model = keras.Sequential([keras.Input((None, 3)), *from_torch(state)])
    >>> model.output_shape
    (None, 4)
    """
    dtype = layers.weight_dtype(arguments)
    weights = Weights(source, "weight_hh_l0", prefix, separator=".", dtype=dtype)
    make, stack = _read(weights)
    if make is layers.make_gru:
        told = {"reset_after": True}
        layers.check_told(arguments, told, "PyTorch has no other GRU")
    last = arguments.pop("return_sequences", False)
    name = arguments.pop("name", None)
    result = []
    for number, level in enumerate(stack):
        own = {**arguments, "return_sequences": last or number + 1 < len(stack)}
        named = {}
        if name is not None:
            named = {"name": f"{name}_{number}" if len(stack) > 1 else name}
        if len(level) == 1:
            result.append(make(level[0], own | named))
        else:
            forward, backward = level
            backward = make(backward, {**own, "go_backwards": True})
            pair = make(forward, own), backward
            result.append(layers.make_bidirectional(*pair, **named))
    return result


def to_torch(
    stack: keras.layers.Layer | Sequence[keras.layers.Layer], prefix: str = ""
) -> dict[str, np.ndarray]:
    """Return the weights of layers as the state dict of one PyTorch module.

    In PyTorch, turn the arrays into tensors with ``torch.from_numpy`` and give them to
    ``load_state_dict``. All of the bias of an LSTM is in ``bias_ih``: ``bias_hh`` is
    zero.

    Args:
        stack: A built layer, or the layers of a stack from the bottom up:
            ``keras.layers.LSTM``, `PeepholeLSTM` whose peepholes are zero,
            `CoupledLSTM`, ``keras.layers.GRU`` with ``reset_after``, or a
            ``Bidirectional`` of these. The first three may have a ``projection``,
            which is PyTorch's ``proj_size``.
        prefix: What the names begin with, as in ``"encoder.lstm"``.

    Returns:
        The arrays by name, as in `from_torch`.

    Raises:
        ValueError: The layers do not make one module, a layer is not built, or has
            what PyTorch lacks.

    Example:
    >>> import keras
    >>> lstm = keras.layers.LSTM(4)
    >>> lstm.build((None, None, 3))
    >>> state = to_torch(lstm)
    >>> {name: array.shape for name, array in state.items() if "weight" in name}
    {'weight_ih_l0': (16, 3), 'weight_hh_l0': (16, 4)}
    """
    alone = isinstance(stack, keras.layers.Layer | str | Mapping)
    alone = alone or not isinstance(stack, Iterable)
    stack = [stack] if alone else list(stack)
    check_prefix(prefix)
    start = f"{prefix.rstrip('.')}." if prefix else ""
    result = {}
    for number, layer in enumerate(stack):
        pair = layers.directions(layer, "PyTorch")
        for each, end in zip(pair, ("", "_reverse"), strict=False):
            if getattr(each, "go_backwards", False) != bool(end):
                raise ValueError(
                    f"{layer.name} has go_backwards={not end}: PyTorch reads backwards "
                    "beside a layer that reads forwards, and only there"
                )
            for name, array in _write(each).items():
                result[f"{start}{name}_l{number}{end}"] = array
    _read(Weights(result, "weight_hh_l0", prefix, separator="."))  # do they fit?
    return result


def _read(weights):
    """Return what makes a layer, and the weights of all, by Keras names.

    Args:
        weights: The `Weights` of the module.

    Returns:
        `make_lstm` or `make_gru`; a list with an entry for each layer: the weights of
        its one or two directions.
    """
    rows, size = weights.take("weight_hh_l0", None, None).shape
    units = size
    if projected := weights.has("weight_hr_l0"):  # proj_size, of an LSTM alone
        units = weights.take("weight_hr_l0", size, None).shape[1]
    if not units or rows not in (4 * units, () if projected else 3 * units):
        raise ValueError(
            f"{weights.prefix}weight_hh_l0 must have shape (4·units, units) of an LSTM "
            "or (3·units, units) of a GRU, or (4·units, proj_size) where weight_hr_l0 "
            f"is (proj_size, units), got {(rows, size)}"
        )
    names = weights.names()
    found = [match for name in names if (match := _NAME.fullmatch(name))]
    ends = ["", "_reverse"] if any(match[2] for match in found) else [""]
    has_bias = any(name.startswith("bias_") for name in names)
    stack, features = [], None
    for number in range(1 + max(int(match[1]) for match in found)):
        level = []
        for end in (f"_l{number}{end}" for end in ends):
            W = weights.take("weight_ih" + end, rows, features)
            features = W.shape[1]
            U = weights.take("weight_hh" + end, rows, size)
            b = [
                weights.take(f"bias_{of}{end}", rows) for of in ("ih", "hh") if has_bias
            ]
            level.append(_by_keras_names(W.T, U.T, b, is_gru=rows == 3 * units))
            if projected:
                P = weights.take("weight_hr" + end, size, units)
                level[-1]["projection_kernel"] = P.T
        stack.append(level)
        features = len(ends) * size
    weights.finish("it belongs to no LSTM and no GRU of PyTorch")
    return layers.make_gru if rows == 3 * units else layers.make_lstm, stack


def _by_keras_names(kernel, recurrent_kernel, biases, is_gru):
    """Return the weights of one direction."""
    result = {"kernel": kernel, "recurrent_kernel": recurrent_kernel}
    if biases:
        result["bias"] = np.stack(biases) if is_gru else np.add(*biases)
    if not is_gru:
        return result  # the gates have the order of Keras
    order = gates.TORCH_GRU, gates.GRU
    return {name: gates.reorder(array, *order) for name, array in result.items()}


def _write(layer):
    """Return the weights of one direction, by their names in PyTorch."""
    if layers.is_gru(layer):
        weights = layers.gru_weights(layer, "PyTorch")
        if not layer.cell.reset_after:
            raise ValueError(
                f"{layer.name} has reset_after=False: PyTorch has reset_after=True "
                "alone, which computes something else"
            )
        order = gates.GRU, gates.TORCH_GRU
        weights = {name: gates.reorder(it, *order) for name, it in weights.items()}
    else:
        weights = layers.lstm_weights(
            layer, "PyTorch", peepholes=False, kept=("projection",)
        )
        if "bias" in weights:
            weights["bias"] = np.stack(
                [weights["bias"], np.zeros_like(weights["bias"])]
            )
    result = {
        "weight_ih": weights["kernel"].T.copy(),
        "weight_hh": weights["recurrent_kernel"].T.copy(),
    }
    if "bias" in weights:
        result["bias_ih"], result["bias_hh"] = weights["bias"].copy()
    if "projection_kernel" in weights:
        result["weight_hr"] = weights["projection_kernel"].T.copy()
    return result
