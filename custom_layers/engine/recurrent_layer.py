"""From a cell to a layer that is used like ``keras.layers.LSTM``."""

import operator
from typing import Any

import keras

from custom_layers.engine import cudnn, dispatch
from custom_layers.engine.prepared import Sequence, one_sequence
from custom_layers.engine.recurrent_cell import Identifier, RecurrentCell


class RecurrentLayer(keras.layers.RNN):
    """Base of the layers: ``keras.layers.RNN`` around a `cell_class` of this package.

    A subclass sets `cell_class` and has a docstring; it takes the cell's arguments and
    those of ``keras.layers.RNN`` in one call, as ``keras.layers.LSTM`` does.

    Class attributes:
        cell_class: The class of the cell.

    Args:
        units: Positive integer, the size of the output.
        *cell_arguments: The other positional arguments of the cell.
        return_sequences: Return the output of every step, not only of the last one.
        return_state: Return the final states too, after the output.
        go_backwards: Read the sequence from its end; the outputs come in the order of
            reading.
        stateful: Start each batch from the final states of the batch before.
        unroll: Unroll the loop, which is faster and larger, for short sequences of
            fixed length.
        zero_output_for_mask: Output zeros, not the output before, at masked steps.
        use_cudnn: As in ``keras.layers.LSTM``: ``"auto"`` uses cuDNN where that is
            possible, True insists on it, False keeps from it. `kernel_report` tells
            what is possible.
        activity_regularizer: Regulariser of the output.
        name: Name of the layer.
        dtype: Dtype or dtype policy of layer and cell.
        trainable: Whether the weights are trained.
        **options: Keyword arguments of the cell; ``input_shape`` and ``autocast`` are
            those of any layer.

    Call arguments:
        sequences: ``(batch, time, features)``.
        initial_state: List of states, each ``(batch, units)``; zeros by default.
        mask: Boolean ``(batch, time)``. A masked step changes no state. By default the
            mask that Keras attached to the sequences. With ``return_sequences`` the
            outputs carry it on; those of ``keras.layers.LSTM`` do up to Keras 3.15.
        training: Whether dropout is on.

    Returns:
        ``(batch, units)``, or ``(batch, time, units)`` with ``return_sequences``; with
        ``return_state`` a tuple of that and the final states.
    """

    cell_class: type[RecurrentCell] = RecurrentCell

    def __init_subclass__(cls, **kwargs):
        """Show the arguments of the cell, as Keras's layers do: ``layer.dropout``."""
        super().__init_subclass__(**kwargs)
        for name in getattr(cls.cell_class, "argument_names", ()):
            if not hasattr(cls, name):
                setattr(cls, name, property(operator.attrgetter(f"cell.{name}")))

    def __init__(
        self,
        units: int,
        *cell_arguments: Any,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        zero_output_for_mask: bool = False,
        use_cudnn: bool | str = "auto",
        activity_regularizer: Identifier = None,
        name: str | None = None,
        dtype: str | dict[str, Any] | keras.DTypePolicy | None = None,
        trainable: bool = True,
        **options: Any,
    ) -> None:
        layer_options = {
            key: options.pop(key)
            for key in ("input_shape", "autocast")
            if key in options
        }
        cell = self.cell_class(
            units, *cell_arguments, dtype=dtype, trainable=trainable, **options
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
        self.supports_masking = True  # from Keras 3.16 on not by default
        self.input_spec = keras.layers.InputSpec(ndim=3)
        if use_cudnn not in ("auto", True, False):
            raise ValueError(
                f"use_cudnn must be 'auto', True or False, got {use_cudnn!r}"
            )
        self.use_cudnn = use_cudnn
        if keras.backend.backend() == "tensorflow" and not cudnn.obstacle(self):
            if dispatch.device() == "gpu":
                self.supports_jit = False  # XLA has no cuDNN

    def call(self, sequences, initial_state=None, mask=None, training=False):
        """Read the sequences: see the class."""
        if mask is not None:
            _check_mask(mask.shape, sequences.shape)
        from_zero = initial_state is None and not self.stateful
        sequence = Sequence(in_layer=True, training=bool(training), from_zero=from_zero)
        with one_sequence(self.cell, sequence):
            return super().call(
                sequences, initial_state=initial_state, mask=mask, training=training
            )

    def inner_loop(self, sequences, initial_state, mask, training=False):
        """Run the loop: called by ``keras.layers.RNN``."""
        loop = super().inner_loop
        return dispatch.run(self, loop, sequences, initial_state, mask, bool(training))

    def get_config(self):
        """Return the arguments of the constructor."""
        config = super().get_config()
        del config["cell"]
        regularizer = keras.regularizers.serialize(self.activity_regularizer)
        return {
            **self.cell.get_config(),
            **config,
            "use_cudnn": self.use_cudnn,
            "activity_regularizer": regularizer,
        }

    @classmethod
    def from_config(cls, config):
        """Make a layer from what `get_config` returned."""
        return cls(**config)


def _check_mask(shape, sequences_shape):
    """Raise ValueError where a mask is known not to fit its sequences."""
    sizes = zip(shape[:2], sequences_shape[:2], strict=False)
    if len(shape) < 2 or any(None not in pair and pair[0] != pair[1] for pair in sizes):
        raise ValueError(
            f"mask must have shape (batch, time), here {tuple(sequences_shape[:2])}, "
            f"got {tuple(shape)}"
        )
