"""cuDNN's LSTM, on weights that are computed anew at each call."""

import keras
from keras import ops

from custom_layers.engine import options
from custom_layers.engine.prepared import current_sequence


def run(layer, sequences, states, mask, training):
    """Run a layer on the backend's fused LSTM; results as from ``RNN.inner_loop``.

    Keras's LSTM hands the weights of its cell to that kernel, and they need not be
    variables: so weights that are tied, or dropped, reach cuDNN.
    """
    prepared = current_sequence(layer.cell).prepared[bool(training)]
    (product,) = prepared.products
    if product.x_mask is not None:
        sequences = sequences * ops.expand_dims(product.x_mask, axis=1)
    go_backwards = layer.go_backwards
    if go_backwards and keras.backend.backend() == "jax":  # Keras turns outputs around
        sequences, go_backwards = ops.flip(sequences, axis=1), False
    step = prepared._replace(products=[product._replace(x_mask=None)])
    cell = _Cell(layer.cell, layer.cell.as_lstm(product), step)
    lstm = _LSTM(cell, layer, go_backwards)
    return lstm.inner_loop(sequences, states, mask, training=training)


class _Cell:
    """What ``keras.layers.LSTM`` asks for in a cell, made for one call."""

    dropout = recurrent_dropout = 0.0  # they are in the weights and the sequences

    def __init__(self, cell, weights, step):
        self.kernel, self.recurrent_kernel, self.bias = weights
        self.state_names, self.state_size = cell.state_names, cell.state_size
        self.activation = cell.activation
        self.recurrent_activation = cell.recurrent_activation
        self.step = step

    def __call__(self, inputs, states):
        """Take a step of the cell itself: the fused kernel was not to be had."""
        values = self.step.values(inputs, states)
        return values["h"], [values[name] for name in self.state_names]

    call = __call__  # keras.layers.RNN wants to see it


class _LSTM(keras.layers.LSTM):
    """``keras.layers.LSTM`` around a `_Cell`, made for one call."""

    def __init__(self, cell, layer, go_backwards):
        keras.layers.RNN.__init__(
            self,
            cell,
            return_sequences=layer.return_sequences,
            go_backwards=go_backwards,
            unroll=layer.unroll,
            zero_output_for_mask=layer.zero_output_for_mask,
            name="cudnn",
            dtype=layer.dtype_policy,
        )
        self.use_cudnn = layer.use_cudnn


def obstacle(layer, masked=False):
    """Return the first condition that keeps a layer from cuDNN on any GPU, or None.

    Args:
        layer: A recurrent layer, also one of Keras.
        masked: Whether there is a mask; TensorFlow alone takes one, padded on the
            right.
    """
    cell, backend = layer.cell, keras.backend.backend()
    is_stock = isinstance(layer, keras.layers.LSTM | keras.layers.GRU)
    ours = hasattr(layer, "use_cudnn") and getattr(cell, "as_lstm", None)
    if not is_stock and not ours:
        return f"cuDNN has no kernel for {type(layer).__name__}({type(cell).__name__})"
    if layer.use_cudnn is False:
        return "use_cudnn is False, cuDNN needs 'auto' or True"
    if getattr(cell, "peepholes", ()):
        return f"peepholes is {cell.peepholes!r}, cuDNN needs ()"
    for name, value in options.turned_on(cell).items():
        return f"{name} is {value!r}, cuDNN needs {options.OFF[name]!r}"
    for name in ("activation", "recurrent_activation"):
        wanted = "tanh" if name == "activation" else "sigmoid"
        function = getattr(cell, name)
        if function is not getattr(keras.activations, wanted):
            got = getattr(function, "__name__", repr(function))
            return f"{name} is {got}, cuDNN needs {wanted}"
    if cell.recurrent_dropout:
        hint = "; weight_dropout is allowed"
        if is_stock:
            is_lstm = isinstance(layer, keras.layers.LSTM)
            hint = "; WeightDropLSTM drops weights instead" if is_lstm else ""
        return f"recurrent_dropout is {cell.recurrent_dropout}, cuDNN needs 0{hint}"
    if layer.unroll:
        return "unroll is True, cuDNN needs False"
    if not cell.use_bias:
        return "use_bias is False, cuDNN needs True"
    if isinstance(layer, keras.layers.GRU) and backend == "jax":
        return "Keras has no cuDNN GRU on JAX"
    if not getattr(cell, "reset_after", True):
        return "reset_after is False, cuDNN needs True"
    if masked and backend != "tensorflow":
        return f"there is a mask, cuDNN takes none on {backend}"
    return None
