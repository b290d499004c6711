"""LSTM with dropped recurrent weights, which cuDNN can run."""

from collections.abc import Collection
from typing import Any

import keras

from custom_layers.cells.peephole_lstm import PeepholeLSTMCell
from custom_layers.engine.recurrent_layer import RecurrentLayer


@keras.saving.register_keras_serializable(package="custom_layers")
class WeightDropLSTMCell(PeepholeLSTMCell):
    """LSTM cell that drops recurrent weights: one time step, for ``keras.layers.RNN``.

    The equations are those of `PeepholeLSTMCell` without peepholes; what is dropped is
    explained in `WeightDropLSTM`. Every cell of this package takes ``weight_dropout``.

    Args:
        units: Positive integer, the size of ``h`` and of ``c``.
        weight_dropout: Fraction of the recurrent weights to drop, in [0, 1). Default
            0.5.
        **kwargs: The other arguments of `GatedCell`.

    Raises:
        ValueError: As in `GatedCell`.

    Example:
    >>> import keras, numpy as np
    >>> layer = keras.layers.RNN(WeightDropLSTMCell(4))
    >>> tuple(layer(np.ones((2, 5, 3), "float32"), training=True).shape)
    (2, 4)
    """

    def __init__(
        self,
        units: int,
        *args: Any,
        weight_dropout: float = 0.5,
        peepholes: Collection[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(
            units, *args, weight_dropout=weight_dropout, peepholes=peepholes, **kwargs
        )


@keras.saving.register_keras_serializable(package="custom_layers")
class WeightDropLSTM(RecurrentLayer):
    """LSTM layer that drops recurrent weights, not states, and so stays on cuDNN.

    Merity et al. 2017, "Regularizing and Optimizing LSTM Language Models" (arXiv
    1708.02182), section 2: DropConnect (Wan et al. 2013, ICML) on the recurrent
    weights. With a mask M of the shape of U whose entries are 0 with probability
    ``weight_dropout``, else 1 / (1 − weight_dropout),

        U is replaced by M ⊙ U    in training, all steps and all sequences of a batch
        alike.

    A new mask is drawn at every call; at inference there is none. ``recurrent_dropout``
    masks the state at every step and so keeps an LSTM from cuDNN; M ⊙ U is computed
    once, before the loop.

    Args:
        units: Positive integer, the size of ``h`` and of ``c``.
        weight_dropout: Fraction of the recurrent weights to drop, in [0, 1). Default
            0.5.
        **kwargs: The other arguments of `WeightDropLSTMCell` and of `RecurrentLayer`.

    Raises:
        ValueError: As in `GatedCell`.

    Differs from ``keras.layers.LSTM`` in ``weight_dropout`` alone; the weights are the
    same, in the same order.

    Example:
    >>> import numpy as np
    >>> layer = WeightDropLSTM(4, weight_dropout=0.3, return_sequences=True)
    >>> tuple(layer(np.ones((2, 5, 3), "float32"), training=True).shape)
    (2, 5, 4)
    """

    cell_class = WeightDropLSTMCell
