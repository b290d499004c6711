"""Runs the backend's fused LSTM, cuDNN's where there is one, on weights computed anew each call."""

import keras


class FusedLSTM:
    """An LSTM layer of Keras that borrows its weights, as tensors, from the layer that owns it.

    Keras's LSTM hands ``cell.kernel``, ``cell.recurrent_kernel`` and ``cell.bias`` to the backend's
    fused LSTM, which need not be variables: so weights that are tied, or dropped, reach cuDNN.

    Args:
        owner: The recurrent layer whose loop arguments are used.
        use_cudnn: As in ``keras.layers.LSTM``.
    """

    def __init__(self, owner, use_cudnn):
        if use_cudnn not in ("auto", True, False):
            raise ValueError(
                f"use_cudnn must be 'auto', True or False, got {use_cudnn!r}"
            )
        self.owner = owner
        self.lstm = keras.layers.LSTM(
            owner.cell.units,
            activation=owner.cell.activation,
            recurrent_activation=owner.cell.recurrent_activation,
            use_bias=owner.cell.use_bias,
            unroll=owner.unroll,
            use_cudnn=use_cudnn,
            dtype=owner.dtype_policy,
        )
        self.lstm.cell.built = True

    def inner_loop(self, weights, sequences, initial_state, mask, training):
        """Run the LSTM; arguments and results are those of ``keras.layers.RNN.inner_loop``.

        Args:
            weights: Kernel, recurrent kernel and bias (or None), of four gates.
            sequences: ``(batch, time, features)``.
            initial_state: h and c, each ``(batch, units)``.
            mask: ``(batch, time)``, or None.
            training: Passed on.
        """
        lstm = self.lstm
        for name in (
            "return_sequences",
            "go_backwards",
            "unroll",
            "stateful",
            "zero_output_for_mask",
        ):
            setattr(lstm, name, getattr(self.owner, name))
        # Set as plain attributes, so that neither Keras nor torch counts them as weights of this LSTM.
        for name, weight in zip(("kernel", "recurrent_kernel", "bias"), weights):
            object.__setattr__(lstm.cell, name, weight)
        return lstm.inner_loop(sequences, initial_state, mask, training=training)
