"""Between layers of Keras and of this package, and from files of Keras 2."""

from typing import Any

import keras
import numpy as np

from custom_layers.cells.coupled_lstm import CoupledLSTM
from custom_layers.cells.peephole_lstm import PeepholeLSTM
from custom_layers.conversion import layers
from custom_layers.conversion.keras2_config import arguments_of
from custom_layers.conversion.sources import Source, Weights, as_array
from custom_layers.engine import options

#: Arguments of ours that matter in training alone, and the value that changes nothing.
NEUTRAL = {"weight_dropout": 0.0, "tied_dropout": False, "zero_output_for_mask": False}


def convert_layer(
    layer: keras.layers.RNN, layer_class: type[keras.layers.RNN], **arguments: Any
) -> keras.layers.RNN:
    """Return a layer of another class that computes the same.

    Between ``keras.layers.LSTM``, `PeepholeLSTM` and `CoupledLSTM`. Peepholes that the
    old layer lacks are zero. Coupled gates become an LSTM whose input gate has the
    weights of the forget gate with the opposite sign, and only such an LSTM becomes
    coupled. Of layer normalisation, ``"tf1"`` alone is the same over three gates and
    over four. There and back gives the same weights, bit by bit.

    Args:
        layer: A built layer, also a ``keras.layers.RNN`` of such a layer's cell.
        layer_class: ``keras.layers.LSTM``, `PeepholeLSTM` or `CoupledLSTM`.
        **arguments: Arguments of the new layer, in place of those of the old one.

    Returns:
        A built layer, with the arguments and the name of the old one. A ``stateful``
        one is built for batches of the same size, and starts from zeros.

    Raises:
        ValueError: Something would be lost: a peephole that is not zero, an input gate
            of its own, an option, a weight that the new arguments leave out. Or they
            add a weight other than a peephole, or change a shape. Or a class is none
            of these three, or ``stateful=True`` is given for a layer that is not.

    Example:
    >>> import keras
    >>> from custom_layers import PeepholeLSTM
    >>> lstm = keras.layers.LSTM(4, return_sequences=True)
    >>> lstm.build((None, None, 3))
    >>> layer = convert_layer(lstm, PeepholeLSTM)
    >>> layer.return_sequences, layer.peepholes
    (True, ('i', 'f', 'o'))
    """
    allowed = (keras.layers.LSTM, PeepholeLSTM, CoupledLSTM)
    if layer_class not in allowed:
        names = ", ".join(each.__name__ for each in allowed)
        raise ValueError(f"layer_class must be one of {names}, got {layer_class!r}")
    target = layer_class.__name__
    known = layer_class(1).get_config().keys()
    for name in (*options.OFF, *options.DETAILS, *NEUTRAL, "peepholes"):
        if name in arguments and name not in known:
            raise ValueError(
                f"{name} must be left out, got {arguments[name]!r}: {target} has no "
                "such option"
            )
    kept = known & {*options.OFF, "projection_clip"}
    if layers.is_coupled(layer) != (layer_class is CoupledLSTM):
        cell = getattr(layer, "cell", None)
        if getattr(cell, "layer_norm", False) != "tf1":  # which is gate by gate
            kept -= {"layer_norm"}  # over three gates it is another one than over four
    weights = layers.lstm_weights(layer, target, (None, None), kept=kept)
    if layer_class is CoupledLSTM:
        σ = layers.activation_name(layer.cell.recurrent_activation)
        layers.check_symmetric(σ, layer.name, target)
    config = _config(layer)
    for name, neutral in NEUTRAL.items():
        if name not in known and config.get(name, neutral) != neutral:
            raise ValueError(
                f"{layer.name} has {name}={config[name]!r}: {target} has no such option"
            )
    if layer_class is CoupledLSTM:
        weights = layers.coupled_weights(weights, layer.name, target)
    config = {name: config[name] for name in config.keys() & known - {"peepholes"}}
    peepholes = [name[-1] for name in layers.PEEPHOLES if name in weights]
    if peepholes and "peepholes" in known:  # else those that the class has by itself
        config["peepholes"] = peepholes
    config |= arguments
    batch = None
    if config.get("stateful") and layer.stateful:
        batch = layer.states[0].shape[0]
    else:
        layers.check_not_stateful(config)
    new = layer_class.from_config(config)
    new.build((batch, None, len(weights["kernel"])))
    own = {weight.name for weight in new.weights}
    lost = [name for name in layers.PEEPHOLES if name not in own]
    weights = layers.without_peepholes(weights, layer.name, target, lost)
    added = {name: np.zeros(new.units) for name in layers.PEEPHOLES if name in own}
    layers.assign(new, added | weights, layer.name, arguments)
    return new


def _config(layer):
    """Return the arguments of a layer and of its cell, also where the cell has them."""
    config = layer.get_config()
    if "cell" not in config:
        return config
    del config["cell"]
    cell = layer.cell.get_config()
    return {**cell, **config, "dtype": cell["dtype"]}


def from_keras2(
    source: Source, prefix: str | None = None, **arguments: Any
) -> keras.layers.RNN:
    """Return an LSTM or a GRU with weights that Keras 2 saved.

    A ``.h5`` file, of weights or of a whole model, or a checkpoint of
    ``save_weights``. Which layer it is follows from the shapes, and so does
    ``reset_after`` of a GRU with a bias. To give weights to Keras 2, use
    ``set_weights`` there: the order of all gates and weights is the same.

    Args:
        source: A file, or a mapping from names to arrays. It has ``kernel (features,
            4·units)``, ``recurrent_kernel (units, 4·units)`` and ``bias (4·units,)`` of
            an LSTM, or with 3 in place of 4 of a GRU, whose bias is ``(2, 3·units)``
            with ``reset_after``.
        prefix: The beginning of their names, if the source has several layers: the
            name of the layer, as in ``"lstm_1"``, and for ``Bidirectional`` as in
            ``"bidirectional/bidirectional/forward_lstm"``.
        **arguments: Arguments of the layer, such as ``return_sequences=True``. The
            file of a whole model has the names of the activations, which are taken. All
            other sources have none: give those that are not the usual ones.

    Returns:
        A built ``keras.layers.LSTM`` or ``keras.layers.GRU``.

    Raises:
        ValueError: A weight is missing, too many, or has another shape: the error
            names it. Or an activation is ``"hard_sigmoid"``, of which Keras 3 has
            another, or is not known. Or the file is broken.
        FileNotFoundError: There is no such file.
        ImportError: The file needs a package, h5py or tensorflow.

    Example:
    >>> import numpy as np
    >>> shapes = {"kernel": (3, 12), "recurrent_kernel": (4, 12), "bias": (2, 12)}
    >>> weights = {f"gru/{name}": np.ones(shape) for name, shape in shapes.items()}
    >>> layer = from_keras2(weights)
    >>> layer.units, layer.reset_after
    (4, True)
    """
    dtype = layers.weight_dtype(arguments)
    weights = Weights(source, "recurrent_kernel", prefix, dtype=dtype)
    result, gates = read_fused(weights, {4: "an LSTM", 3: "a GRU"})
    weights.finish("it belongs to no LSTM and no GRU of Keras 2")
    arguments = arguments_of(weights, arguments)
    return (layers.make_lstm if gates == 4 else layers.make_gru)(result, arguments)


def read_fused(weights, allowed):
    """Return the weights of a layer of Keras 2 by name, and the number of its gates.

    Args:
        weights: The `Weights`.
        allowed: What a layer with a number of gates is, in words.
    """
    recurrent_kernel = weights.take("recurrent_kernel", None, None)
    units, width = recurrent_kernel.shape
    count = width // max(units, 1)
    if count not in allowed or width != count * units:
        shapes = " or ".join(f"(units, {n}·units) of {it}" for n, it in allowed.items())
        raise ValueError(
            f"{weights.prefix}recurrent_kernel must have shape {shapes}, got "
            f"{recurrent_kernel.shape}"
        )
    result = {
        "kernel": weights.take("kernel", None, width),
        "recurrent_kernel": recurrent_kernel,
    }
    if weights.has("bias"):
        name = weights.prefix + "bias"
        twice = count == 3 and as_array(name, weights.arrays[name]).ndim == 2
        result["bias"] = weights.take("bias", *([2] if twice else []), width)
    return result, count
