"""What all cells share: arguments, weights, masks and configuration."""

import functools
import inspect
import numbers
from collections.abc import Callable
from typing import Any, TypeAlias

import keras
import numpy as np
from keras import ops

from custom_layers.engine import dispatch, options
from custom_layers.engine.prepared import (
    Masks,
    Prepared,
    Product,
    current_sequence,
    forget_sequence,
)

#: What ``keras.activations.get`` and its like take: a name, a configuration, an object.
Identifier: TypeAlias = str | dict[str, Any] | Callable[..., Any] | None


def check_positive(**values):
    """Raise ValueError unless every keyword is a positive integer."""
    for name, value in values.items():
        whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        if not whole or value <= 0:
            raise ValueError(f"{name} must be a positive integer, got {value!r}")


def check_rates(**rates):
    """Raise ValueError unless every keyword is a number in [0, 1)."""
    for name, rate in rates.items():
        real = isinstance(rate, numbers.Real) and not isinstance(rate, bool)
        if not real or not 0 <= rate < 1:
            raise ValueError(f"{name} must be a number in [0, 1), got {rate!r}")


def clone_initializer(initializer):
    """Return an initialiser like this one; without a seed, it draws other values."""
    if isinstance(initializer, keras.initializers.Initializer):
        return initializer.clone()
    return initializer


def _arguments(cls):
    """Return the names of a constructor's arguments."""
    return inspect.signature(cls.__init__).parameters


class RecurrentCell(keras.layers.SimpleRNNCell):
    """Base of all cells: one time step, for ``keras.layers.RNN``.

    A subclass declares its gates and states, and writes its equations as a pure
    function; everything else is here. With G gates, of which the last ones may see no
    ``h⁻``, and R that do, the weights are ``kernel (features, G·units)``,
    ``recurrent_kernel (units, R·units)`` and ``bias (G·units,)``.

    It derives from ``SimpleRNNCell`` because ``keras.layers.RNN`` prepares dropout
    masks only for the cells of Keras; the equations of ``SimpleRNNCell`` are not used.

    Class attributes:
        gates: Names of the gates and of the candidate that see ``h⁻``, in the order of
            the fused weights.
        input_gates: Names of the gates that see the inputs alone; they come after
            `gates`.
        state_names: Names of the states; the first, ``"h"``, is the output.
        argument_names: Names of all arguments of the constructor, but for those of any
            layer.

    The arguments are those of `GatedCell` that are not about gates. ``implementation``
    is 1 or 2, as in Keras; both run the same code here.

    Raises:
        ValueError: ``units`` is not a positive integer, a rate lies outside [0, 1), or
            an argument is an option of `GatedCell`.
        TypeError: A subclass has ``equations`` that are no ``staticmethod``.
    """

    gates: tuple[str, ...] = ()
    input_gates: tuple[str, ...] = ()
    state_names: tuple[str, ...] = ("h",)
    recurrent_activation = None  # σ, of the gated cells
    zoneout: dict[str, float] = {}  # rates by the name of the state, of gated cells
    levels: list["RecurrentCell"] = []  # of a stack, from the bottom up
    # What a class has; one with equations of its own inherits none.
    as_lstm = None  # the weights of the LSTM that the cell is
    unrolled_loop = None  # reads sequences from zero states, without a mask
    is_native_lstm = False  # whether the native kernel has these equations
    options: tuple[str, ...] = ()  # of `options.OFF`, those that the equations allow

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        names = {name for base in cls.__mro__ for name in _arguments(base)}
        cls.argument_names = names - {*_arguments(keras.layers.Layer), "args"}
        own = {"gates", "equations", "values", "call", "vectors", "parameters"}
        if own & vars(cls).keys():
            for name in (
                "as_lstm",
                "unrolled_loop",
                "is_native_lstm",
                "options",
            ):  # of the old ones
                setattr(cls, name, vars(cls).get(name, getattr(RecurrentCell, name)))
        if not isinstance(inspect.getattr_static(cls, "equations"), staticmethod):
            raise TypeError(
                f"{cls.__name__}.equations must be a staticmethod: a step may use "
                "nothing but its arguments"
            )

    def __init__(
        self,
        units: int,
        activation: Identifier = "tanh",
        use_bias: bool = True,
        *args: Any,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        implementation: int = 2,
        **kwargs: Any,
    ) -> None:
        options.check_has_none(self, kwargs)
        check_positive(units=units)
        rates = {"dropout": dropout, "recurrent_dropout": recurrent_dropout}
        check_rates(**rates, weight_dropout=weight_dropout)
        if implementation not in (1, 2):
            raise ValueError(f"implementation must be 1 or 2, got {implementation!r}")
        super().__init__(int(units), activation, use_bias, *args, **rates, **kwargs)
        self.weight_dropout, self.implementation = weight_dropout, implementation
        if weight_dropout:
            self.weight_seed_generator = keras.random.SeedGenerator(self.seed)
        self.state_size = [self.units] * len(self.state_names)

    @staticmethod
    def equations(z, p, states, σ, φ):
        """Write the equations of one step here, as a function of its arguments alone.

        Args:
            z: The pre-activations of the gates, ``z.i``, ``z.f``, …, each ``(batch,
                units)``: ``W_i x + U_i h⁻ + b_i``.
            p: The parameters by name: `vectors`, and the peepholes of a `GatedCell`.
            states: The states of the step before, in the order of `state_names`.
            σ: ``recurrent_activation``.
            φ: ``activation``.

        Returns:
            Dict of all gates and the new states, by name, each ``(batch, units)``.
        """
        raise NotImplementedError("a cell must have equations(z, p, states, σ, φ)")

    def build(self, input_shape):
        """Create the weights for inputs of shape ``(batch, features)``."""
        width = len(self.gates + self.input_gates) * self.units
        self.kernel = self._add(
            "kernel", (input_shape[-1], width), self.kernel_initializer
        )
        self.build_recurrent_kernel()
        self.bias = None
        if self.use_bias:
            self.bias = self._add("bias", (width,), self.initial_bias)

    def build_recurrent_kernel(self):
        """Create U."""
        shape = (self.output_size, len(self.gates) * self.units)
        self.recurrent_kernel = self._add(
            "recurrent_kernel", shape, self.recurrent_initializer
        )

    def joined_recurrent_kernel(self):
        """Return U ``(units, R·units)``."""
        return self.recurrent_kernel

    def initial_bias(self, shape, dtype=None):
        """Return the values that the biases start with."""
        return self.bias_initializer(shape, dtype=dtype)

    def _add(self, name, shape, initializer, kind=None):
        """Create a weight, with the regulariser and constraint of its kind."""
        kind = kind or ("recurrent" if name.startswith("recurrent_kernel") else name)
        return self.add_weight(
            shape=shape,
            name=name,
            initializer=initializer,
            regularizer=getattr(self, f"{kind}_regularizer"),
            constraint=getattr(self, f"{kind}_constraint"),
        )

    def is_equations_alone(self):
        """Return whether a step is one product with W, one with U, and equations.

        A faster loop may then stand in for `call`.
        """
        cls = type(self)
        usual = cls.call is RecurrentCell.call and cls.values is RecurrentCell.values
        return usual and not self.input_gates and not options.around_equations(self)

    def call(self, inputs, states, training=False):
        """Take one step: see the class."""
        values = self.values(inputs, states, training)
        return values["h"], [values[name] for name in self.state_names]

    def values(self, inputs, states, training=False):
        """Take one step; return all gates and new states, by name."""
        sequence = current_sequence(self, begin=training)
        prepared = None if sequence is None else sequence.prepared.get(bool(training))
        if prepared is None:
            masks = self.masks(inputs, states[0], sequence) if training else Masks()
            prepared = self.prepare(masks)
        if not self.zoneout:
            return prepared.values(inputs, states)
        inputs, zoneout_masks = self.split_zoneout(inputs)
        return prepared.values(inputs, states, zoneout_masks if training else None)

    def prepare(self, masks, h=None, matmul_with=None):
        """Return the step as a function of tensors alone: a `Prepared`.

        Args:
            masks: The dropout `Masks` of the sequence.
            h: The state before the first step, if vectors are to be repeated to its
                shape: before a loop that is cheaper than in it.
            matmul_with: Returns for a U the function that multiplies ``h`` with it.
        """
        W, U = self.kernel, self.joined_recurrent_kernel()
        W, U = (ops.cast(weight, self.compute_dtype) for weight in (W, U))
        U = U if masks.U is None else U * masks.U
        b = None if self.bias is None else ops.cast(self.bias, self.compute_dtype)
        products = [Product(masks.x, W, b, masks.h, U)]
        if isinstance(masks.x, list) or isinstance(masks.h, list):
            products = self._products_by_gate(masks, W, b, U)
        if matmul_with is not None:
            products = [each._replace(matmul=matmul_with(each.U)) for each in products]
        vectors, constants = self.parameters()
        for name, vector in vectors.items():
            vector = ops.cast(vector, self.compute_dtype)
            vectors[name] = (
                vector
                if h is None or h.shape[0] is None
                else ops.broadcast_to(vector, (h.shape[0], self.units))
            )
        σ, φ = self.recurrent_activation, self.activation
        equations = functools.partial(self.equations, σ=σ, φ=φ)
        gates, around = self.gates + self.input_gates, self.around()
        return Prepared(gates, products, vectors, constants, equations, around)

    def parameters(self):
        """Return what is in ``p``: weights ``(units,)``, and constants."""
        return {}, {}

    def around(self):
        """Return what options do around the equations, an `options.Around`, or None."""
        return None

    def _products_by_gate(self, masks, W, b, U):
        """Return a product for each gate; gates without ``h⁻`` go with the last one."""
        count = len(self.gates)
        borders = [self.units * gate for gate in range(1, count)]
        nothing = [None] * count
        return [
            Product(*of_gate)
            for of_gate in zip(
                masks.x or nothing,
                ops.split(W, borders, axis=-1),
                nothing if b is None else ops.split(b, borders),
                masks.h or nothing,
                ops.split(U, borders, axis=-1),
                strict=True,
            )
        ]

    def masks(self, x, h, sequence):
        """Return the dropout `Masks` of a `Sequence`; draw those that it lacks.

        Args:
            x: Inputs of a step, ``(batch, features)``, or None.
            h: State of a step, ``(batch, units)``, or None.
            sequence: The `Sequence` that keeps them.
        """
        kept = sequence.masks
        x = x if x is None or not self.zoneout else self.split_zoneout(x)[0]
        if x is not None and self.dropout and not _fits(kept.x, x):
            kept = kept._replace(x=self._draw(x, self.dropout))
        if h is not None and self.recurrent_dropout and not _fits(kept.h, h):
            kept = kept._replace(h=self._draw(h, self.recurrent_dropout))
        dropping_weights = self.weight_dropout and sequence.training is not False
        if h is not None and dropping_weights and kept.U is None:
            U = ops.cast(self.joined_recurrent_kernel(), self.compute_dtype)
            seed, ones = self.weight_seed_generator, ops.ones_like(U)
            mask = keras.random.dropout(ones, self.weight_dropout, seed=seed)
            kept = kept._replace(U=mask)
        sequence.masks = kept
        return kept

    def _draw(self, like, rate):
        """Return a mask as Keras draws it, or a list of them, one for each gate."""
        ones, count = ops.ones_like(like), getattr(self, "dropout_mask_count", None)
        masks = [
            keras.random.dropout(ones, rate, seed=self.seed_generator)
            for _ in range(count or 1)
        ]
        return masks if count else masks[0]

    def join_zoneout(self, sequences):
        """Return sequences with the zoneout masks of all steps beside the features.

        A step could draw its own, but not in the compiled loop of JAX.
        """
        drawn = [
            keras.random.dropout(
                ops.broadcast_to(
                    ops.ones_like(sequences[..., :1], self.compute_dtype),
                    (*ops.shape(sequences)[:2], size),
                ),
                rate,
                seed=self.zoneout_seed_generator,
            )
            for size, rate in self._zoneout_sizes()
        ]
        sequences = ops.cast(sequences, self.compute_dtype)
        return ops.concatenate([sequences, *drawn], axis=-1)

    def split_zoneout(self, inputs):
        """Return the inputs of a step, and its masks by the name of the state."""
        features = self.kernel.shape[0]
        if inputs.shape[-1] == features:
            return inputs, {}
        sizes = [size for size, _ in self._zoneout_sizes()]
        borders = np.cumsum([features, *sizes])[:-1]
        inputs, *masks = ops.split(inputs, [int(at) for at in borders], axis=-1)
        return inputs, dict(zip(self.zoneout, masks, strict=True))

    def _zoneout_sizes(self):
        sizes = dict(zip(self.state_names, self.state_size, strict=True))
        return [(sizes[name], rate) for name, rate in self.zoneout.items()]

    # The one place that knows how keras.layers.RNN speaks with its cell. Before a loop
    # it asks for the mask of the inputs and then for that of the state; after it, it
    # resets them. Keras's own cells keep both where other threads see them.

    def get_dropout_mask(self, step_input):
        """Return the mask of the inputs; draw it where there is none yet."""
        sequence = current_sequence(self)
        if sequence is None or not sequence.in_layer:
            forget_sequence(self)  # what a call that failed left
        return self.masks(step_input, None, current_sequence(self, begin=True)).x

    def get_recurrent_dropout_mask(self, step_input):
        """Return the mask of the state, and prepare the weights for the loop."""
        sequence = current_sequence(self, begin=True)
        masks = self.masks(None, step_input, sequence)
        if not sequence.in_layer and dispatch.in_tensorflow_graph():
            self.prepare_sequence(sequence, step_input)  # a layer prepares its own
        return masks.h

    def reset_dropout_mask(self):
        """Forget the sequence."""
        forget_sequence(self)

    reset_recurrent_dropout_mask = reset_dropout_mask

    def prepare_sequence(self, sequence, h):
        """Prepare the steps of a `Sequence`, with and without dropout as needed."""
        if not sequence.training:
            sequence.prepared[False] = self.prepare(Masks(), h)
        if sequence.training is not False:
            matmul_with = dispatch.matmul_in_training()
            sequence.prepared[True] = self.prepare(sequence.masks, h, matmul_with)

    def get_initial_state(self, batch_size=None):
        """Return zero states for ``batch_size`` sequences."""
        return [
            ops.zeros((batch_size, size), self.compute_dtype)
            for size in self.state_size
        ]

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "weight_dropout": self.weight_dropout}


def _fits(mask, tensor):
    """Return whether a mask, or a list of masks, is there and has a tensor's shape."""
    mask = mask[0] if isinstance(mask, list) else mask
    return mask is not None and mask.shape == tensor.shape
