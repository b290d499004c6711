"""Which recurrent kernel a model's layers use on each device, and why."""

import keras


def kernel_report(model):
    """Tell which kernel every recurrent layer of a model uses on each device.

    Keras runs a recurrent layer as a loop over its cell, except where the device has one fused
    kernel for the whole sequence: cuDNN's LSTM and GRU on an NVIDIA GPU. The conditions for that are
    in the documentation of ``keras.layers.LSTM`` and ``keras.layers.GRU``.

    Args:
        model: A Keras model or layer. Models inside it, and wrappers such as ``Bidirectional``, are
            looked into.

    Returns:
        Dict from the name of each recurrent layer to ``{"cpu": kernel, "gpu": kernel}``. A kernel is
        ``"cuDNN"``, or ``"generic loop: "`` and the first condition that keeps the layer from cuDNN.

    Example:
    >>> import keras
    >>> model = keras.Sequential([keras.layers.LSTM(8, recurrent_dropout=0.2, name="lstm")])
    >>> kernel_report(model)["lstm"]["gpu"]
    'generic loop: recurrent_dropout is 0.2, cuDNN needs 0'
    """
    report = {}
    for layer in _recurrent_layers(model):
        obstacle = _obstacle(layer)
        report[layer.name] = {
            "cpu": "generic loop: cuDNN needs an NVIDIA GPU",
            "gpu": f"generic loop: {obstacle}" if obstacle else "cuDNN",
        }
    return report


def _recurrent_layers(layer):
    """Yield every recurrent layer in a layer, once each."""
    if isinstance(layer, keras.layers.RNN):
        yield layer
    elif isinstance(layer, keras.layers.Bidirectional):
        yield from (layer.forward_layer, layer.backward_layer)
    elif isinstance(layer, keras.layers.Wrapper):
        yield from _recurrent_layers(layer.layer)
    elif isinstance(layer, keras.Model):
        for inner in layer.layers:
            yield from _recurrent_layers(inner)


def _obstacle(layer):
    """Return the first condition that keeps a layer from cuDNN, or None."""
    if not isinstance(layer, (keras.layers.LSTM, keras.layers.GRU)):
        return f"cuDNN has no kernel for {type(layer.cell).__name__}"
    if layer.use_cudnn is False:
        return "use_cudnn is False, cuDNN needs 'auto' or True"
    if layer.activation is not keras.activations.tanh:
        return f"activation is {layer.activation.__name__}, cuDNN needs tanh"
    if layer.recurrent_activation is not keras.activations.sigmoid:
        name = layer.recurrent_activation.__name__
        return f"recurrent_activation is {name}, cuDNN needs sigmoid"
    if layer.recurrent_dropout:
        return f"recurrent_dropout is {layer.recurrent_dropout}, cuDNN needs 0"
    if layer.unroll:
        return "unroll is True, cuDNN needs False"
    if not layer.use_bias:
        return "use_bias is False, cuDNN needs True"
    if isinstance(layer, keras.layers.GRU) and not layer.reset_after:
        return "reset_after is False, cuDNN needs True"
    return None
