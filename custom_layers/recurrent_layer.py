"""From a cell to a drop-in layer: ``PeepholeLSTM(128)`` beside ``keras.layers.LSTM(128)``."""

import functools

import keras
from keras import ops

from custom_layers.gated_cell import GatedCell

SMALLEST_SPLIT = 32  # sequences in a batch that is worth splitting


def _has_pure_step(cell):
    """Return whether a step of the cell can be computed twice, and is all that the cell computes."""
    if not vars(type(cell)).get("pure_step"):
        return False
    usual = all(
        getattr(type(cell), name) is getattr(GatedCell, name)
        for name in ("call", "trace", "preactivation", "layout", "by_name", "peephole")
    )
    # An activation of somebody else's may draw random numbers.
    known = all(
        getattr(keras.activations, getattr(function, "__name__", ""), None) is function
        for function in (cell.activation, cell.recurrent_activation)
    )
    own_weights = (
        len(cell.weights) - len(cell.peephole_weights) - (3 if cell.use_bias else 2)
    )
    return usual and known and not own_weights


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
        **options: Keyword arguments of the cell; ``input_shape`` and ``autocast`` are those of any layer.

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
        **options,
    ):
        layer_options = {
            key: options.pop(key)
            for key in ("input_shape", "autocast")
            if key in options
        }
        cell = self.cell_class(
            *cell_arguments, dtype=dtype, trainable=trainable, **options
        )
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
            **layer_options,
        )
        self.input_spec = keras.layers.InputSpec(ndim=3)

    def call(self, sequences, initial_state=None, mask=None, training=False):
        """Read the sequences: see the class."""
        try:
            return super().call(
                sequences, initial_state=initial_state, mask=mask, training=training
            )
        finally:  # after an error, too
            self.cell.reset_dropout_mask()
            self.cell.reset_recurrent_dropout_mask()

    def inner_loop(self, sequences, initial_state, mask, training=False):
        """Run the cell over the sequence: called by ``keras.layers.RNN``.

        On a CPU, TensorFlow runs independent operations of a graph side by side, but a loop depends on
        itself from step to step; so a batch is cut into halves, two loops that occupy two cores. Each
        half draws its own dropout masks. A cell with a `pure_step` trains in a loop of our own.
        """
        loop, batch = super().inner_loop, sequences.shape[0]
        if keras.backend.backend() != "tensorflow":
            return loop(sequences, initial_state, mask, training=training)
        from custom_layers import time_loop  # imports TensorFlow

        if not time_loop.in_graph_on_cpu():
            return loop(sequences, initial_state, mask, training=training)
        in_halves = batch is not None and batch >= SMALLEST_SPLIT
        if training and not self.unroll and _has_pure_step(self.cell):
            loop = functools.partial(time_loop.inner_loop, self)
            in_halves = in_halves or batch is None
        if not in_halves:
            return loop(sequences, initial_state, mask, training=training)
        results = []
        for half, half_mask, *states in time_loop.halves(
            sequences, mask, *initial_state
        ):
            self.cell.reset_dropout_mask()
            self.cell.reset_recurrent_dropout_mask()
            self.cell.get_dropout_mask(half[:, 0])
            self.cell.get_recurrent_dropout_mask(states[0])
            results.append(loop(half, states, half_mask, training=training))
        last, outputs, states = zip(*results)
        states = [ops.concatenate(pair, axis=0) for pair in zip(*states)]
        return ops.concatenate(last, axis=0), ops.concatenate(outputs, axis=0), states

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
