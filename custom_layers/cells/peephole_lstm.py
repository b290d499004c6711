"""LSTM with peephole connections."""

from collections.abc import Collection
from typing import Any

import keras

from custom_layers.engine.gated_cell import GatedCell
from custom_layers.engine.options import OFF
from custom_layers.engine.recurrent_layer import RecurrentLayer


@keras.saving.register_keras_serializable(package="custom_layers")
class PeepholeLSTMCell(GatedCell):
    """LSTM cell whose gates see the cell state, for ``keras.layers.RNN``.

    Gers & Schmidhuber 2000, "Recurrent Nets that Time and Count" (IJCNN 2000), section
    2; with ``⁻`` for "at the step before", and vectors ``p`` (diagonal peepholes):

        i = σ(W_i x + U_i h⁻ + b_i + p_i ⊙ c⁻)
        f = σ(W_f x + U_f h⁻ + b_f + p_f ⊙ c⁻)
        g = φ(W_g x + U_g h⁻ + b_g)
        c = clip(f ⊙ c⁻ + i ⊙ g)
        o = σ(W_o x + U_o h⁻ + b_o + p_o ⊙ c)
        h = o ⊙ φ(norm(c))

    The output gate sees the new ``c``. ``clip`` and ``norm`` change nothing without the
    options ``cell_clip`` and ``layer_norm`` of `GatedCell`. Gate order of the fused
    weights: i, f, g, o, as in ``keras.layers.LSTM``, which calls g "c".

    Args:
        units: Positive integer, the size of ``h`` and of ``c``.
        peepholes: The gates that get a peephole: any subset of ``("i", "f", "o")``; all
            by default.
        **kwargs: The other arguments of `GatedCell`.

    Raises:
        ValueError: As in `GatedCell`.

    Differs from ``keras.layers.LSTMCell`` in the three ``p ⊙ c`` alone: with
    ``peepholes=()`` it is that cell, with the same weights in the same order.

    Example:
    >>> import keras, numpy as np
    >>> layer = keras.layers.RNN(PeepholeLSTMCell(4, peepholes=("f",)))
    >>> tuple(layer(np.ones((2, 5, 3), "float32")).shape)
    (2, 4)
    >>> [weight.name for weight in layer.weights]
    ['kernel', 'recurrent_kernel', 'bias', 'peephole_f']
    """

    gates = ("i", "f", "g", "o")
    state_names = ("h", "c")
    peephole_gates = ("i", "f", "o")
    options = tuple(OFF)
    is_native_lstm = True

    def __init__(
        self,
        units: int,
        *args: Any,
        peepholes: Collection[str] = ("i", "f", "o"),
        **kwargs: Any,
    ) -> None:
        super().__init__(units, *args, peepholes=peepholes, **kwargs)

    @staticmethod
    def equations(z, p, states, σ, φ):
        """Return the gates and the new states of one step, by name."""
        _, c = states
        i = σ(z.i + p.i * c)
        f = σ(z.f + p.f * c)
        g = φ(z.g)
        c = p.clip(f * c + i * g)
        o = σ(z.o + p.o * c)
        h = o * φ(p.norm(c))
        return {"i": i, "f": f, "g": g, "c": c, "o": o, "h": h}

    def as_lstm(self, product):
        """Return kernel, recurrent kernel and bias of the LSTM that this is."""
        return product.W, product.U, product.b


@keras.saving.register_keras_serializable(package="custom_layers")
class PeepholeLSTM(RecurrentLayer):
    """LSTM layer whose gates see the cell state, like ``keras.layers.LSTM``.

    The equations, with their source, are in `PeepholeLSTMCell`; the arguments of the
    loop (``return_sequences``, ``go_backwards``, …), the call arguments and the shapes
    in `RecurrentLayer`.

    Args:
        units: Positive integer, the size of ``h`` and of ``c``.
        peepholes: The gates that get a peephole: any subset of ``("i", "f", "o")``; all
            by default.
        **kwargs: The other arguments of `PeepholeLSTMCell` and of `RecurrentLayer`.

    Raises:
        ValueError: As in `GatedCell`.

    Differs from ``keras.layers.LSTM`` in its peepholes, and in that cuDNN has no such
    kernel: a GPU runs it step by step.

    Example:
    >>> import numpy as np
    >>> layer = PeepholeLSTM(4, return_sequences=True)
    >>> tuple(layer(np.ones((2, 5, 3), "float32")).shape)
    (2, 5, 4)
    """

    cell_class = PeepholeLSTMCell
