"""From a cell to a drop-in layer: ``PeepholeLSTM(128)`` beside ``keras.layers.LSTM(128)``."""

import keras


class RecurrentLayer(keras.layers.RNN):
    """Base of the layers: ``keras.layers.RNN`` around a `cell_class` of this package.

    A subclass sets `cell_class` and has a docstring; it takes the cell's arguments and those of
    ``keras.layers.RNN`` in one call, as ``keras.layers.LSTM`` does.

    Args:
        *cell_arguments: Positional arguments of the cell, ``units`` first.
        return_sequences: Return the output of every step, not only of the last one.
        return_state: Return the final states too, after the output.
        go_backwards: Read the sequence from its end; the outputs come in the order of reading.
        stateful: Start each batch from the final states of the batch before.
        unroll: Unroll the loop, which is faster and larger, for short sequences of fixed length.
        zero_output_for_mask: Output zeros, not the output before, at masked steps.
        activity_regularizer: Regulariser of the output.
        name: Name of the layer.
        dtype: Dtype or dtype policy of layer and cell.
        trainable: Whether the weights are trained.
        **cell_options: Keyword arguments of the cell.

    Call arguments:
        sequences: ``(batch, time, features)``.
        initial_state: List of states, each ``(batch, units)``; zeros by default.
        mask: Boolean ``(batch, time)``. A masked step changes no state.
        training: Whether dropout is on.

    Returns:
        ``(batch, units)``, or ``(batch, time, units)`` with ``return_sequences``; with
        ``return_state`` a tuple of that and the final states.
    """

    cell_class = None

    def __init__(
        self,
        *cell_arguments,
        return_sequences=False,
        return_state=False,
        go_backwards=False,
        stateful=False,
        unroll=False,
        zero_output_for_mask=False,
        activity_regularizer=None,
        name=None,
        dtype=None,
        trainable=True,
        **cell_options,
    ):
        cell = self.cell_class(*cell_arguments, dtype=dtype, trainable=trainable, **cell_options)
        super().__init__(
            cell,
            return_sequences=return_sequences,
            return_state=return_state,
            go_backwards=go_backwards,
            stateful=stateful,
            unroll=unroll,
            zero_output_for_mask=zero_output_for_mask,
            activity_regularizer=activity_regularizer,
            name=name,
            dtype=dtype,
            trainable=trainable,
        )
        self.input_spec = keras.layers.InputSpec(ndim=3)

    @property
    def units(self):
        """Size of the output."""
        return self.cell.units

    def get_config(self):
        """Return the arguments of the constructor."""
        config = super().get_config()
        del config["cell"]
        regularizer = keras.regularizers.serialize(self.activity_regularizer)
        return {**self.cell.get_config(), **config, "activity_regularizer": regularizer}

    @classmethod
    def from_config(cls, config):
        """Make a layer from what `get_config` returned."""
        return cls(**config)
