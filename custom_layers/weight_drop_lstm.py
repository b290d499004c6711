"""LSTM with dropped recurrent weights, which cuDNN can run."""

import keras

from custom_layers.fused_lstm import FusedLSTM
from custom_layers.gated_cell import check_rates, check_units


@keras.saving.register_keras_serializable(package="custom_layers")
class WeightDropLSTM(keras.layers.LSTM):
    """LSTM layer that drops recurrent weights, not states, and so stays on cuDNN.

    Merity et al. 2017, "Regularizing and Optimizing LSTM Language Models" (arXiv 1708.02182), section 2:
    DropConnect (Wan et al. 2013, ICML) on the recurrent weights. With a mask M of the shape of U whose
    entries are 0 with probability ``weight_dropout``, else 1 / (1 − weight_dropout),

        U is replaced by M ⊙ U    in training, all steps and all sequences of a batch alike.

    A new mask is drawn at every call; at inference there is none. ``recurrent_dropout`` masks the state
    at every step and so keeps an LSTM from cuDNN; M ⊙ U is computed once, before the loop.

    Args:
        units: Positive integer, the size of ``h`` and of ``c``.
        weight_dropout: Fraction of the recurrent weights to drop, in [0, 1). Default 0.5.
        use_cudnn: As in ``keras.layers.LSTM``.
        **kwargs: The other arguments of ``keras.layers.LSTM``.

    Call arguments:
        sequences: ``(batch, time, features)``.
        initial_state: h and c, each ``(batch, units)``; zeros by default.
        mask: Boolean ``(batch, time)``. A masked step changes no state.
        training: Whether weights and inputs are dropped.

    Returns:
        As ``keras.layers.LSTM``.

    Raises:
        ValueError: ``units`` is not a positive integer, a dropout lies outside [0, 1), or
            ``recurrent_dropout`` is not 0.

    Differs from ``keras.layers.LSTM`` in ``weight_dropout`` alone, in place of ``recurrent_dropout``; the
    weights are the same.

    Example:
    >>> import numpy as np
    >>> layer = WeightDropLSTM(4, weight_dropout=0.3, return_sequences=True)
    >>> tuple(layer(np.ones((2, 5, 3), "float32"), training=True).shape)
    (2, 5, 4)
    """

    def __init__(
        self,
        units,
        *args,
        weight_dropout=0.5,
        dropout=0.0,
        recurrent_dropout=0,
        seed=None,
        use_cudnn="auto",
        **kwargs,
    ):
        check_units(units)
        check_rates(weight_dropout=weight_dropout, dropout=dropout)
        if recurrent_dropout != 0:
            raise ValueError(
                "recurrent_dropout must be 0, since weight_dropout takes its place, "
                f"got {recurrent_dropout!r}"
            )
        # Its own use_cudnn is False: on some backends Bidirectional would else fuse both directions
        # without asking this layer for its weights.
        super().__init__(
            int(units),
            *args,
            dropout=dropout,
            seed=seed,
            use_cudnn=False,
            **{**kwargs, "implementation": 2},  # the only one that cuDNN's inputs allow
        )
        self.weight_dropout = weight_dropout
        self.weight_seed_generator = keras.random.SeedGenerator(seed)
        object.__setattr__(self, "fused", FusedLSTM(self, use_cudnn))
        self.supports_jit = self.fused.lstm.supports_jit

    def inner_loop(self, sequences, initial_state, mask, training=False):
        """Run the loop of ``keras.layers.LSTM`` with the weights of this call."""
        cell = self.cell
        recurrent_kernel = keras.ops.convert_to_tensor(cell.recurrent_kernel)
        if training and self.weight_dropout:
            recurrent_kernel = keras.random.dropout(
                recurrent_kernel, self.weight_dropout, seed=self.weight_seed_generator
            )
        if training and self.dropout:
            mask_of_inputs = cell.get_dropout_mask(sequences[:, 0])
            sequences = sequences * keras.ops.expand_dims(mask_of_inputs, axis=1)
        weights = cell.kernel, recurrent_kernel, cell.bias
        return self.fused.inner_loop(weights, sequences, initial_state, mask, training)

    def get_config(self):
        """Return the arguments of the constructor."""
        use_cudnn = self.fused.lstm.use_cudnn
        return {
            **super().get_config(),
            "weight_dropout": self.weight_dropout,
            "use_cudnn": use_cudnn,
        }
