"""Weights of TensorFlow Addons."""

from typing import Any

import keras
import numpy as np

from custom_layers.conversion import layers
from custom_layers.conversion.keras2_config import (
    ACTIVATIONS,
    HARD_SIGMOID,
    arguments_of,
)
from custom_layers.conversion.keras_weights import read_fused
from custom_layers.conversion.sources import Source, Weights, check_prefix

#: Our names of its peepholes.
PEEPHOLES = {
    "peephole_i": "input_gate_peephole_weights",
    "peephole_f": "forget_gate_peephole_weights",
    "peephole_o": "output_gate_peephole_weights",
}


#: The weights of its layer normalisation that our layer has, by our names.
NORMS = {
    "kernel_gamma": "kernel_norm/gamma",
    "recurrent_gamma": "recurrent_norm/gamma",
    "state_gamma": "state_norm/gamma",
    "state_beta": "state_norm/beta",
}
#: Those that are parts of the bias here.
BETAS = ("kernel_norm/beta", "recurrent_norm/beta")


def from_tfa(
    source: Source, prefix: str | None = None, **arguments: Any
) -> keras.layers.RNN:
    """Return a `PeepholeLSTM` with the weights of a cell of TensorFlow Addons.

    The cell is a ``tfa.rnn.PeepholeLSTMCell``, or a ``tfa.rnn.LayerNormLSTMCell``,
    which becomes a layer without peepholes and with ``layer_norm="tfa"``.

    Args:
        source: A ``.h5`` file of Keras 2, a checkpoint of its ``save_weights``, or a
            mapping from names to arrays. It has ``kernel (features, 4·units)``,
            ``recurrent_kernel (units, 4·units)``, ``bias (4·units,)`` and
            ``input_gate_peephole_weights``, ``forget_gate_peephole_weights``,
            ``output_gate_peephole_weights``, each ``(units,)``; or, in place of these,
            ``gamma`` and ``beta`` in ``kernel_norm`` and ``recurrent_norm``, each
            ``(4·units,)``, and in ``state_norm``, ``(units,)``.
        prefix: The beginning of their names, if the source has several such cells: the
            name of the layer, as in ``"rnn_1"``.
        **arguments: Arguments of the layer, such as ``return_sequences=True``. What
            was an argument of the cell is not in its weights: give ``activation``,
            ``recurrent_activation`` and, for ``norm_epsilon``, ``layer_norm_epsilon``
            if they were not the usual ones. Of the file of a whole model the
            activations are taken.

    Returns:
        A built `PeepholeLSTM`.

    Raises:
        ValueError: A weight is missing, too many, or has another shape: the error
            names it. Or an activation is ``"hard_sigmoid"``, of which Keras 3 has
            another, or is not known. Or the file is broken.
        FileNotFoundError: There is no such file.
        ImportError: The file needs a package, h5py or tensorflow.

    Example:
    >>> from custom_layers import PeepholeLSTM
    >>> layer = PeepholeLSTM(4)
    >>> layer.build((None, None, 3))
    >>> from_tfa(to_tfa(layer, "rnn/peephole_lstm_cell")).units
    4
    """
    endings = PEEPHOLES["peephole_i"], NORMS["state_gamma"]
    dtype = layers.weight_dtype(arguments)
    weights = Weights(source, endings, prefix, dtype=dtype)
    result, _ = read_fused(weights, {4: "an LSTM"})
    units = len(result["recurrent_kernel"])
    if any(map(weights.has, [*NORMS.values(), *BETAS])):
        for name, theirs in NORMS.items():
            result[name] = weights.take(theirs, units * (1 if "state" in name else 4))
        for theirs in BETAS:
            beta = weights.take(theirs, 4 * units)
            result["bias"] = result.get("bias", 0) + beta
        arguments = {"layer_norm": "tfa", "peepholes": ()} | arguments
    else:
        for name, theirs in PEEPHOLES.items():
            result[name] = weights.take(theirs, units)
    weights.finish("it belongs to no PeepholeLSTMCell and no LayerNormLSTMCell")
    arguments = arguments_of(weights, arguments)
    return layers.make_lstm(result, arguments)


def to_tfa(layer: keras.layers.RNN, prefix: str = "") -> dict[str, np.ndarray]:
    """Return the weights of a layer for a cell of TensorFlow Addons.

    They are those of a ``tfa.rnn.PeepholeLSTMCell``, or, for a layer with
    ``layer_norm="tfa"``, of a ``tfa.rnn.LayerNormLSTMCell``. The activations are
    arguments of both cells, and not in the weights, and so is the ε of the
    normalisation: ``layer_norm_epsilon`` here, ``norm_epsilon`` there.

    Args:
        layer: A built `PeepholeLSTM`, ``keras.layers.LSTM`` or `CoupledLSTM`, or a
            ``keras.layers.RNN`` of such a cell; with ``layer_norm="tfa"`` a
            `PeepholeLSTM` whose peepholes are zero.
        prefix: What the names begin with.

    Returns:
        The arrays by name, in the order of the cell's ``get_weights()``. Peepholes that
        the layer lacks are zero.

    Raises:
        ValueError: The layer is not built, or has what the cell lacks, such as the
            ``hard_sigmoid`` of Keras 3.

    Example:
    >>> import keras
    >>> lstm = keras.layers.LSTM(4)
    >>> lstm.build((None, None, 3))
    >>> list(to_tfa(lstm))[2:4]
    ['bias', 'input_gate_peephole_weights']
    """
    kind = getattr(getattr(layer, "cell", None), "layer_norm", False)
    if kind == "tfa" and not layers.is_coupled(layer):
        result = _normalised(layer)
    else:
        target = "tfa.rnn.PeepholeLSTMCell"
        weights = _weights(layer, target)
        zeros = np.zeros(layer.cell.units, weights["kernel"].dtype)
        result = {name: weights[name] for name in layers.FUSED if name in weights}
        for name, theirs in PEEPHOLES.items():
            result[theirs] = weights.get(name, zeros)
    check_prefix(prefix)
    start = f"{prefix.rstrip('/')}/" if prefix else ""
    return {start + name: array for name, array in result.items()}


def _weights(layer, target, *how):
    """Return the weights of a layer whose activations Keras 2 has."""
    weights = layers.lstm_weights(layer, target, (None, None), *how)
    for name in ACTIVATIONS:
        if layers.activation_name(getattr(layer.cell, name)) == "hard_sigmoid":
            raise ValueError(
                f"{layer.name} has {name}={HARD_SIGMOID}: {target} computes that of "
                "Keras 2"
            )
    return weights


def _normalised(layer):
    """Return the weights of a ``tfa.rnn.LayerNormLSTMCell``.

    The β of both products is 0: it is in the bias.
    """
    target, kept = "tfa.rnn.LayerNormLSTMCell", ("layer_norm",)
    weights = _weights(layer, target, False, kept)
    result = {name: weights[name] for name in layers.FUSED if name in weights}
    result |= {theirs: weights[name] for name, theirs in NORMS.items()}
    return result | dict.fromkeys(BETAS, np.zeros_like(weights["kernel_gamma"]))
