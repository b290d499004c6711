"""LSTM with coupled input and forget gates."""

import keras
from keras import ops

from custom_layers.fused_lstm import FusedLSTM
from custom_layers.gated_cell import GatedCell
from custom_layers.kernel_report import cudnn_obstacle, has_gpu
from custom_layers.recurrent_layer import RecurrentLayer


@keras.saving.register_keras_serializable(package="custom_layers")
class CoupledLSTMCell(GatedCell):
    """LSTM cell that writes where it forgets (CIFG): one time step, for ``keras.layers.RNN``.

    Greff et al. 2015, "LSTM: A Search Space Odyssey" (arXiv 1503.04069), section 3, variant CIFG; with
    ``⁻`` for "at the step before":

        f = σ(W_f x + U_f h⁻ + p_f ⊙ c⁻ + b_f)
        c = f ⊙ c⁻ + (1 − f) ⊙ φ(W_c x + U_c h⁻ + b_c)
        o = σ(W_o x + U_o h⁻ + p_o ⊙ c + b_o)
        h = o ⊙ φ(c)

    The weights are the forget gate's, as in TensorFlow 1 and in the article; Greff et al. and ONNX
    keep the input gate's and write f = 1 − i: the same functions with the opposite sign. By default
    there are no peepholes ``p``. Gate order of the fused weights: f, c, o.

    Args:
        units: Positive integer, the size of ``h`` and of ``c``.
        peepholes: The gates that get a peephole: any subset of ``("f", "o")``; none by default.
        **kwargs: The other arguments of `GatedCell`.

    Raises:
        ValueError: As in `GatedCell`.

    Differs from ``keras.layers.LSTMCell`` in having no input gate of its own: it is that cell with
    the input gate's weights tied to the forget gate's, with the opposite sign.

    Example:
    >>> import keras, numpy as np
    >>> layer = keras.layers.RNN(CoupledLSTMCell(4))
    >>> tuple(layer(np.ones((2, 5, 3), "float32")).shape)
    (2, 4)
    >>> [(weight.name, tuple(weight.shape)) for weight in layer.weights]
    [('kernel', (3, 12)), ('recurrent_kernel', (4, 12)), ('bias', (12,))]
    """

    gates = ("f", "c", "o")
    state_names = ("h", "c")
    peephole_gates = ("f", "o")
    pure_step = True

    def step(self, z, states):
        """Return the gates, the candidate and the new states of one step, by name."""
        _, c = states
        σ, φ, p = self.recurrent_activation, self.activation, self.peephole
        f = σ(p("f", z, c))
        g = φ(z["c"])
        c = f * c + (1 - f) * g
        o = σ(p("o", z, c))
        h = o * φ(c)
        return {"f": f, "candidate": g, "o": o, "c": c, "h": h}


@keras.saving.register_keras_serializable(package="custom_layers")
class CoupledLSTM(RecurrentLayer):
    """LSTM layer that writes where it forgets (CIFG); drops in where ``keras.layers.LSTM`` stands.

    The equations, with their source, are in `CoupledLSTMCell`; the arguments of the loop
    (``return_sequences``, ``go_backwards``, …), the call arguments and the shapes in `RecurrentLayer`.

    Since 1 − σ(z) = σ(−z), it is an LSTM whose input gate has the forget gate's weights, negated. On an
    NVIDIA GPU it therefore runs on cuDNN's LSTM, under the conditions of ``keras.layers.LSTM``
    (activations tanh and sigmoid, a bias, no recurrent dropout, no unrolling; a mask, if any, padded on
    the right, without a fully masked row, and on TensorFlow alone) and without peepholes. Elsewhere it
    runs its own three gates in a loop. `kernel_report` tells which.

    Args:
        units: Positive integer, the size of ``h`` and of ``c``.
        peepholes: The gates that get a peephole: any subset of ``("f", "o")``; none by default.
        use_cudnn: False keeps it from cuDNN, ``"auto"`` (default) and True let it where it can.
        **kwargs: The other arguments of `CoupledLSTMCell` and of `RecurrentLayer`.

    Raises:
        ValueError: As in `GatedCell`, or ``use_cudnn`` is something else.

    Differs from ``keras.layers.LSTM`` in having no input gate of its own, and so a quarter fewer
    weights.

    Example:
    >>> import numpy as np
    >>> tuple(CoupledLSTM(4, return_sequences=True)(np.ones((2, 5, 3), "float32")).shape)
    (2, 5, 4)
    """

    cell_class = CoupledLSTMCell

    def __init__(self, *args, use_cudnn="auto", **kwargs):
        super().__init__(*args, **kwargs)
        # Not an attribute like others, so that Keras does not count its weights among ours.
        object.__setattr__(self, "fused", FusedLSTM(self, use_cudnn))
        if not cudnn_obstacle(self):
            self.supports_jit = self.fused.lstm.supports_jit

    def inner_loop(self, sequences, initial_state, mask, training=False):
        """Run the loop: `RecurrentLayer`'s, or the backend's fused LSTM where cuDNN can take it."""
        unmasked = mask is None or keras.backend.backend() == "tensorflow"
        if cudnn_obstacle(self) or not unmasked or not has_gpu():
            return super().inner_loop(sequences, initial_state, mask, training=training)
        masks = self.cell.get_dropout_mask(sequences[:, 0]) if training else None
        if masks is not None:
            sequences = sequences * ops.expand_dims(masks, axis=1)
        weights = map(
            self.tied, (self.cell.kernel, self.cell.recurrent_kernel, self.cell.bias)
        )
        return self.fused.inner_loop(weights, sequences, initial_state, mask, training)

    def tied(self, weights):
        """Return weights ``(…, 3·units)`` of f, c, o as an LSTM's ``(…, 4·units)`` of i, f, c, o."""
        weights = ops.convert_to_tensor(weights)
        return ops.concatenate([-weights[..., : self.units], weights], axis=-1)

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "use_cudnn": self.fused.lstm.use_cudnn}
