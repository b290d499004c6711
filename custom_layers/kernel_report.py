"""Which recurrent kernel a model's layers use on each device, and why."""

import keras


def kernel_report(model):
    """Tell which kernel every recurrent layer of a model uses on each device.

    Keras runs a recurrent layer as a loop over its cell, except where the device has one fused kernel
    for the whole sequence: cuDNN's LSTM and GRU on an NVIDIA GPU. `CoupledLSTM` and `WeightDropLSTM`
    use it too. One condition depends on the data and is not seen here: with cuDNN a mask must be
    right-padded, without a fully masked row, and on JAX and torch there must be none.

    Args:
        model: A Keras model or layer. It is looked into: models and wrappers such as ``Bidirectional``
            in it, and what your own classes hold as attributes, also in lists and dicts.

    Returns:
        Dict from the name of each recurrent layer, with " (2)" and so on where a name repeats, to
        ``{"cpu": kernel, "gpu": kernel}``. A kernel is ``"cuDNN"``, or ``"generic loop: "`` and the
        first condition that keeps the layer from cuDNN.

    Example:
    >>> import keras
    >>> model = keras.Sequential([keras.layers.LSTM(8, recurrent_dropout=0.2, name="lstm")])
    >>> kernel_report(model)["lstm"]["gpu"]
    'generic loop: recurrent_dropout is 0.2, cuDNN needs 0; WeightDropLSTM drops weights instead'
    """
    report = {}
    for layer in _recurrent_layers(model, set()):
        obstacle = cudnn_obstacle(layer)
        name, count = layer.name, 1
        while name in report:  # models inside the model may repeat a name
            name, count = f"{layer.name} ({count + 1})", count + 1
        report[name] = {
            "cpu": "generic loop: cuDNN needs an NVIDIA GPU",
            "gpu": f"generic loop: {obstacle}" if obstacle else "cuDNN",
        }
    return report


def _recurrent_layers(thing, seen):
    """Yield every recurrent layer in ``thing``, a layer or a container of anything, once each.

    Args:
        thing: A layer is looked into by its attributes; a dict, list, tuple or set by its values.
        seen: The ids of what was looked into before.
    """
    parts = ()
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, dict):
        parts = thing.values()
    elif isinstance(thing, (list, tuple, set)):
        parts = thing
    elif isinstance(thing, keras.layers.Layer):
        if isinstance(thing, keras.layers.RNN):
            yield thing
        else:
            parts = (
                getattr(thing, "layers", ()),
                vars(thing),
            )  # a model's in order, then all others
    for part in parts:
        yield from _recurrent_layers(part, seen)


def cudnn_obstacle(layer):
    """Return the first condition that keeps a recurrent layer from cuDNN on any GPU, or None."""
    cell = layer.cell
    fused = getattr(layer, "fused", None)  # CoupledLSTM, WeightDropLSTM
    if fused is None and not isinstance(layer, (keras.layers.LSTM, keras.layers.GRU)):
        return f"cuDNN has no kernel for {type(cell).__name__}"
    if (fused.lstm if fused else layer).use_cudnn is False:
        return "use_cudnn is False, cuDNN needs 'auto' or True"
    if getattr(cell, "peepholes", ()):
        return f"peepholes is {cell.peepholes!r}, cuDNN needs ()"
    if cell.activation is not keras.activations.tanh:
        return f"activation is {_name(cell.activation)}, cuDNN needs tanh"
    if cell.recurrent_activation is not keras.activations.sigmoid:
        return f"recurrent_activation is {_name(cell.recurrent_activation)}, cuDNN needs sigmoid"
    if cell.recurrent_dropout:
        instead = "; WeightDropLSTM drops weights instead"
        hint = instead if type(layer) is keras.layers.LSTM else ""
        return f"recurrent_dropout is {cell.recurrent_dropout}, cuDNN needs 0{hint}"
    if layer.unroll:
        return "unroll is True, cuDNN needs False"
    if not cell.use_bias:
        return "use_bias is False, cuDNN needs True"
    if isinstance(layer, keras.layers.GRU) and keras.backend.backend() == "jax":
        return "Keras has no cuDNN GRU on JAX"
    if not getattr(cell, "reset_after", True):
        return "reset_after is False, cuDNN needs True"
    return None


def _name(activation):
    return getattr(activation, "__name__", repr(activation))


def has_gpu():
    """Return whether Keras's backend computes on a GPU."""
    if keras.backend.backend() == "torch":
        import torch

        return torch.cuda.is_available()
    return keras.distribution.list_devices()[0].startswith("gpu")
