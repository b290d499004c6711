"""LSTM with coupled input and forget gates."""

import keras
from keras import ops

from custom_layers.engine.gated_cell import GatedCell
from custom_layers.engine.options import OFF
from custom_layers.engine.recurrent_layer import RecurrentLayer


@keras.saving.register_keras_serializable(package="custom_layers")
class CoupledLSTMCell(GatedCell):
    """LSTM cell that writes where it forgets (CIFG), for ``keras.layers.RNN``.

    Greff et al. 2015, "LSTM: A Search Space Odyssey" (arXiv 1503.04069), section 3,
    variant CIFG; with ``⁻`` for "at the step before":

        f = σ(W_f x + U_f h⁻ + b_f + p_f ⊙ c⁻)
        g = φ(W_g x + U_g h⁻ + b_g)
        c = clip(f ⊙ c⁻ + (1 − f) ⊙ g)
        o = σ(W_o x + U_o h⁻ + b_o + p_o ⊙ c)
        h = o ⊙ φ(norm(c))

    The weights are the forget gate's, as in TensorFlow 1 and in the article; Greff et
    al. and ONNX keep the input gate's and write f = 1 − i: the same functions with the
    opposite sign. By default there are no peepholes ``p``; ``clip`` and ``norm`` change
    nothing without the options ``cell_clip`` and ``layer_norm`` of `GatedCell`. Gate
    order of the fused weights: f, g, o.

    Args:
        units: Positive integer, the size of ``h`` and of ``c``.
        peepholes: The gates that get a peephole: any subset of ``("f", "o")``; none by
            default.
        **kwargs: The other arguments of `GatedCell`.

    Raises:
        ValueError: As in `GatedCell`.

    Differs from ``keras.layers.LSTMCell`` in having no input gate of its own: it is
    that cell with the input gate's weights tied to the forget gate's, with the opposite
    sign.

    Example:
    >>> import keras, numpy as np
    >>> layer = keras.layers.RNN(CoupledLSTMCell(4))
    >>> tuple(layer(np.ones((2, 5, 3), "float32")).shape)
    (2, 4)
    >>> [(weight.name, tuple(weight.shape)) for weight in layer.weights]
    [('kernel', (3, 12)), ('recurrent_kernel', (4, 12)), ('bias', (12,))]
    """

    gates = ("f", "g", "o")
    state_names = ("h", "c")
    peephole_gates = ("f", "o")
    options = tuple(OFF)
    is_native_lstm = True

    @staticmethod
    def equations(z, p, states, σ, φ):
        """Return the gates and the new states of one step, by name."""
        _, c = states
        f = σ(z.f + p.f * c)
        g = φ(z.g)
        c = p.clip(f * c + (1 - f) * g)
        o = σ(z.o + p.o * c)
        h = o * φ(p.norm(c))
        return {"f": f, "g": g, "c": c, "o": o, "h": h}

    def as_lstm(self, product):
        """Return kernel, recurrent kernel and bias of the LSTM that this is.

        Since 1 − σ(z) = σ(−z), its input gate has the weights of f, negated.
        """
        weights = product.W, product.U, product.b
        return [ops.concatenate([-w[..., : self.units], w], axis=-1) for w in weights]


@keras.saving.register_keras_serializable(package="custom_layers")
class CoupledLSTM(RecurrentLayer):
    """LSTM layer that writes where it forgets (CIFG), like ``keras.layers.LSTM``.

    The equations, with their source, are in `CoupledLSTMCell`; the arguments of the
    loop (``return_sequences``, ``go_backwards``, …), the call arguments and the shapes
    in `RecurrentLayer`.

    Since 1 − σ(z) = σ(−z), it is an LSTM whose input gate has the forget gate's
    weights, negated. On an NVIDIA GPU it therefore runs on cuDNN's LSTM, under the
    conditions of ``keras.layers.LSTM`` (activations tanh and sigmoid, a bias, no
    recurrent dropout, no unrolling; a mask, if any, padded on the right, without a
    fully masked row, and on TensorFlow alone) and without peepholes. Elsewhere it runs
    its own three gates in a loop. `kernel_report` tells which.

    Args:
        units: Positive integer, the size of ``h`` and of ``c``.
        peepholes: The gates that get a peephole: any subset of ``("f", "o")``; none by
            default.
        **kwargs: The other arguments of `CoupledLSTMCell` and of `RecurrentLayer`.

    Raises:
        ValueError: As in `GatedCell`.

    Differs from ``keras.layers.LSTM`` in having no input gate of its own, and so a
    quarter fewer weights.

    Example:
    >>> import numpy as np
    >>> layer = CoupledLSTM(4, return_sequences=True)
    >>> tuple(layer(np.ones((2, 5, 3), "float32")).shape)
    (2, 5, 4)
    """

    cell_class = CoupledLSTMCell
