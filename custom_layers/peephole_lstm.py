"""LSTM with peephole connections."""

import keras

from custom_layers.gated_cell import GatedCell
from custom_layers.recurrent_layer import RecurrentLayer


@keras.saving.register_keras_serializable(package="custom_layers")
class PeepholeLSTMCell(GatedCell):
    """LSTM cell whose gates see the cell state: one time step, for ``keras.layers.RNN``.

    Gers & Schmidhuber 2000, "Recurrent Nets that Time and Count" (IJCNN 2000), section 2; with ``⁻``
    for "at the step before", and vectors ``p`` (diagonal peepholes):

        i = σ(W_i x + U_i h⁻ + p_i ⊙ c⁻ + b_i)
        f = σ(W_f x + U_f h⁻ + p_f ⊙ c⁻ + b_f)
        c = f ⊙ c⁻ + i ⊙ φ(W_c x + U_c h⁻ + b_c)
        o = σ(W_o x + U_o h⁻ + p_o ⊙ c + b_o)
        h = o ⊙ φ(c)

    The output gate sees the new ``c``. Gate order of the fused weights: i, f, c, o.

    Args:
        units: Positive integer, the size of ``h`` and of ``c``.
        peepholes: The gates that get a peephole: any subset of ``("i", "f", "o")``; all by default.
        **kwargs: The other arguments of `GatedCell`.

    Raises:
        ValueError: As in `GatedCell`.

    Differs from ``keras.layers.LSTMCell`` in the three ``p ⊙ c`` alone: with ``peepholes=()`` it is
    that cell, with the same weights in the same order.

    Example:
    >>> import keras, numpy as np
    >>> layer = keras.layers.RNN(PeepholeLSTMCell(4, peepholes=("f",)))
    >>> tuple(layer(np.ones((2, 5, 3), "float32")).shape)
    (2, 4)
    >>> [(weight.name, tuple(weight.shape)) for weight in layer.weights]
    [('kernel', (3, 16)), ('recurrent_kernel', (4, 16)), ('bias', (16,)), ('peephole_f', (4,))]
    """

    gates = ("i", "f", "c", "o")
    state_names = ("h", "c")
    peephole_gates = ("i", "f", "o")
    pure_step = True

    def __init__(self, units, *args, peepholes=("i", "f", "o"), **kwargs):
        super().__init__(units, *args, peepholes=peepholes, **kwargs)

    def step(self, z, states):
        """Return the gates, the candidate and the new states of one step, by name."""
        _, c = states
        σ, φ, p = self.recurrent_activation, self.activation, self.peephole
        i = σ(p("i", z, c))
        f = σ(p("f", z, c))
        g = φ(z["c"])
        c = f * c + i * g
        o = σ(p("o", z, c))
        h = o * φ(c)
        return {"i": i, "f": f, "candidate": g, "o": o, "c": c, "h": h}


@keras.saving.register_keras_serializable(package="custom_layers")
class PeepholeLSTM(RecurrentLayer):
    """LSTM layer whose gates see the cell state; drops in where ``keras.layers.LSTM`` stands.

    The equations, with their source, are in `PeepholeLSTMCell`; the arguments of the loop
    (``return_sequences``, ``go_backwards``, …), the call arguments and the shapes in
    `RecurrentLayer`.

    Args:
        units: Positive integer, the size of ``h`` and of ``c``.
        peepholes: The gates that get a peephole: any subset of ``("i", "f", "o")``; all by default.
        **kwargs: The other arguments of `PeepholeLSTMCell` and of `RecurrentLayer`.

    Raises:
        ValueError: As in `GatedCell`.

    Differs from ``keras.layers.LSTM`` in its peepholes, and in that cuDNN has no such kernel: a GPU
    runs it step by step.

    Example:
    >>> import numpy as np
    >>> tuple(PeepholeLSTM(4, return_sequences=True)(np.ones((2, 5, 3), "float32")).shape)
    (2, 5, 4)
    """

    cell_class = PeepholeLSTMCell
