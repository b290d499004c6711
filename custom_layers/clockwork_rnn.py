"""Clockwork RNN."""

import math
import numbers

import keras
import numpy as np
from keras import ops

from custom_layers.gated_cell import check_rates, check_units, fresh
from custom_layers.recurrent_layer import RecurrentLayer

BASE = (
    256  # a digit of the clock is below it: bfloat16 holds integers up to 256 exactly
)


@keras.saving.register_keras_serializable(package="custom_layers")
class ClockworkRNNCell(keras.layers.SimpleRNNCell):
    """RNN cell whose modules tick at their own pace: one time step, for ``keras.layers.RNN``.

    Koutník et al. 2014, "A Clockwork RNN" (arXiv 1402.3511), section 3. The units form ``g`` modules of
    ``units / g`` each, with periods T_1 < … < T_g. At step t = 0, 1, 2, …, with ``⁻`` for "at the step
    before":

        h_k = φ(Σ_{j ≥ k} h_j⁻ U_jk + x W_k + b_k)     if t mod T_k = 0: slow modules feed fast ones
        h_k = h_k⁻                                     otherwise, an exact copy

    Only the blocks U_jk with j ≥ k exist: ``recurrent_kernel_k`` holds those of module k = 1 … g one
    below the other, ``((g − k + 1)·units/g, units/g)``. ``kernel (features, units)`` and
    ``bias (units,)`` are as in ``keras.layers.SimpleRNNCell``.

    The clock is a state, t mod T_k for each module, so it goes on across batches of a ``stateful``
    layer, and starts at 0 at the end of the sequence with ``go_backwards``. A masked step changes no
    state, and so the clock pauses on padding. It is kept in digits of base 256, which float16 and
    bfloat16 hold exactly.

    Args:
        units: Positive integer, a multiple of the number of periods.
        periods: Positive integers below 2³¹ in rising order, one for each module. They need not divide
            each other. Default ``(1, 2, 4, 8)``.
        activation: φ. Default ``"tanh"``.
        use_bias: Whether there is a bias.
        dropout: Fraction of the inputs to drop, the same ones at every step.
        recurrent_dropout: Fraction of ``h⁻`` to drop, the same units at every step.
        **kwargs: ``kernel_initializer``, ``recurrent_initializer``, ``bias_initializer`` and their
            regularisers and constraints, ``seed``, ``dtype``, ``name``, ``trainable``, as in
            ``keras.layers.SimpleRNNCell``.

    Call arguments:
        inputs: ``(batch, features)``.
        states: ``h (batch, units)``, and the clock ``(batch, g·digits)``: one digit for each module if
            the longest period is at most 256.
        training: Whether dropout is on.

    Returns:
        ``h (batch, units)``, and the list of new states.

    Raises:
        ValueError: ``units`` is not a positive integer or no multiple of the number of periods, the
            periods are not positive integers in rising order, or a dropout lies outside [0, 1).

    Differs from ``keras.layers.SimpleRNNCell`` in its periods: with ``periods=(1,)`` it is that cell.

    Example: the paper's model for one input and one output has 2,497 parameters.

    >>> import keras
    >>> layer = keras.layers.RNN(ClockworkRNNCell(64, (1, 2, 4, 8, 16, 32, 64, 128)))
    >>> model = keras.Sequential([keras.Input((None, 1)), layer, keras.layers.Dense(1)])
    >>> sum(weight.size for weight in map(keras.ops.convert_to_numpy, model.trainable_weights))
    2497
    """

    def __init__(
        self,
        units,
        periods=(1, 2, 4, 8),
        activation="tanh",
        use_bias=True,
        *,
        dropout=0.0,
        recurrent_dropout=0.0,
        **kwargs,
    ):
        check_units(units)
        check_rates(dropout=dropout, recurrent_dropout=recurrent_dropout)
        super().__init__(
            int(units),
            activation=activation,
            use_bias=use_bias,
            dropout=dropout,
            recurrent_dropout=recurrent_dropout,
            **kwargs,
        )
        self.periods = _checked_periods(periods)
        if units % len(self.periods):
            raise ValueError(
                f"units must be a multiple of the number of periods, {len(self.periods)}, got {units}"
            )
        digits = max(1, math.ceil(math.log(self.periods[-1], BASE)))
        self.digits = [BASE**place for place in range(digits)]
        self.module_units = units // len(self.periods)
        self.state_size = [units, len(self.periods) * digits]
        self._weights, self._some_weights = None, {}

    def build(self, input_shape):
        """Create the weights for inputs of shape ``(batch, features)``."""
        self.kernel = self.add_weight(
            shape=(input_shape[-1], self.units),
            name="kernel",
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        self.recurrent_kernels = [
            self.add_weight(
                shape=(self.units - first * self.module_units, self.module_units),
                name=f"recurrent_kernel_{first + 1}",
                initializer=fresh(self.recurrent_initializer),
                regularizer=self.recurrent_regularizer,
                constraint=self.recurrent_constraint,
            )
            for first in range(len(self.periods))
        ]
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                shape=(self.units,),
                name="bias",
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )

    def call(self, inputs, states, training=False):
        """Take one step: see the class."""
        values = self.trace(inputs, states, training=training)
        return values["h"], [values["h"], values["clock"]]

    def trace(self, inputs, states, training=False):
        """Take one step and return everything computed in it, by name, each ``(batch, units)``.

        ``"active"`` is 1 where a module ticked and 0 where it was copied; ``"clock"`` has the shape of
        that state.
        """
        h, clock = states
        t = self._read_clock(clock)
        active = ops.repeat(ops.equal(t, 0), self.module_units, axis=-1)
        candidate = self.activation(self.preactivation(inputs, h, training))
        clock = self._write_clock(ops.mod(t + 1, np.array(self.periods, "int32")))
        return {
            "candidate": candidate,
            "active": ops.cast(active, self.compute_dtype),
            "h": ops.where(active, candidate, h),
            "clock": ops.cast(clock, self.compute_dtype),
        }

    def preactivation(self, inputs, h, training=False, modules=None):
        """Return ``x W + h⁻ U + b`` of the given modules, side by side; by default of all."""
        masks = self.get_dropout_mask(inputs), super().get_recurrent_dropout_mask(h)
        if training and masks[0] is not None:
            inputs = inputs * masks[0]
        if training and masks[1] is not None:
            h = h * masks[1]
        W, U, b = self._weights_of(modules)
        z = ops.matmul(inputs, W) + ops.matmul(h, U)
        return z if b is None else ops.add(z, b)

    def get_recurrent_dropout_mask(self, step_input):
        """Return the mask of the states; draw it first where there is none yet.

        ``keras.layers.RNN`` calls this before its loop: the place to put U together, once.
        """
        self._weights, self._some_weights = self._put_together(), {}
        return super().get_recurrent_dropout_mask(step_input)

    def reset_recurrent_dropout_mask(self):
        """Forget the mask of the states: the next sequence draws a new one."""
        self._weights, self._some_weights = None, {}
        super().reset_recurrent_dropout_mask()

    def _put_together(self):
        """Return W, U ``(units, units)``, lower triangular in blocks, and b."""
        columns = [
            ops.pad(kernel, [[first * self.module_units, 0], [0, 0]])
            for first, kernel in enumerate(self.recurrent_kernels)
        ]
        U = ops.cast(ops.concatenate(columns, axis=-1), self.compute_dtype)
        return self.kernel, U, self.bias

    def _weights_of(self, modules):
        """Return the columns of W, U and b of the given modules; of all for None."""
        weights = self._weights or self._put_together()
        if modules is None:
            return weights
        if modules not in self._some_weights:
            units = (
                np.arange(self.units)
                .reshape(len(self.periods), -1)[list(modules)]
                .ravel()
            )
            self._some_weights[modules] = [
                None if weight is None else ops.take(weight, units, axis=-1)
                for weight in weights
            ]
        return self._some_weights[modules]

    def _read_clock(self, clock):
        """Return t mod T_k, ``(batch, g)`` integers, from its digits."""
        digits = ops.reshape(
            ops.cast(clock, "int32"), (-1, len(self.periods), len(self.digits))
        )
        return ops.sum(ops.multiply(digits, np.array(self.digits, "int32")), axis=-1)

    def _write_clock(self, t):
        """Return the digits of t mod T_k, ``(batch, g·digits)`` integers."""
        digits = ops.mod(
            ops.floor_divide(t[..., None], np.array(self.digits, "int32")), BASE
        )
        return ops.reshape(digits, (-1, self.state_size[1]))

    def clock_at(self, t, h):
        """Return the clock after ``t`` steps from 0, for the batch of ``h``."""
        digits = [
            t % period // place % BASE
            for period in self.periods
            for place in self.digits
        ]
        return ops.zeros_like(h[:, :1]) + ops.cast(np.array(digits), h.dtype)

    def get_initial_state(self, batch_size=None):
        """Return zero states for ``batch_size`` sequences."""
        return [
            ops.zeros((batch_size, size), self.compute_dtype)
            for size in self.state_size
        ]

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "periods": list(self.periods)}


def _checked_periods(periods):
    """Return the periods as a tuple, or raise ValueError."""
    chosen = tuple(periods) if isinstance(periods, (list, tuple)) else ()
    whole = all(
        isinstance(p, numbers.Integral) and not isinstance(p, bool) for p in chosen
    )
    rising = all(a < b for a, b in zip(chosen, chosen[1:]))
    if not chosen or not whole or not rising or chosen[0] < 1 or chosen[-1] >= 2**31:
        raise ValueError(
            f"periods must be positive integers in rising order, each once, below 2**31, got {periods!r}"
        )
    return tuple(int(period) for period in chosen)


@keras.saving.register_keras_serializable(package="custom_layers")
class ClockworkRNN(RecurrentLayer):
    """RNN layer whose modules tick at their own pace; drops in where ``keras.layers.SimpleRNN`` stands.

    The equations, with their source, and the clock are in `ClockworkRNNCell`; the arguments of the loop
    (``return_sequences``, ``go_backwards``, …), the call arguments and the shapes in `RecurrentLayer`.

    Args:
        units: Positive integer, a multiple of the number of periods.
        periods: Positive integers in rising order, one for each module. Default ``(1, 2, 4, 8)``.
        **kwargs: The other arguments of `ClockworkRNNCell` and of `RecurrentLayer`.

    Raises:
        ValueError: As in `ClockworkRNNCell`.

    With ``unroll=True`` it computes at every step only the modules that tick, if it knows them: without
    a mask, an ``initial_state`` or ``stateful``. That is the saving that the paper's section 3 counts.

    Differs from ``keras.layers.SimpleRNN`` in its periods, and in returning its clock as a second state.

    Example:
    >>> import numpy as np
    >>> layer = ClockworkRNN(6, periods=(1, 3, 5), return_sequences=True)
    >>> tuple(layer(np.ones((2, 5, 3), "float32")).shape)
    (2, 5, 6)
    """

    cell_class = ClockworkRNNCell

    def call(self, sequences, initial_state=None, mask=None, training=False):
        """Read the sequences: see `RecurrentLayer`."""
        self._starts_at_zero = initial_state is None and not self.stateful
        return super().call(
            sequences, initial_state=initial_state, mask=mask, training=training
        )

    def inner_loop(self, sequences, initial_state, mask, training=False):
        """Run the loop: `RecurrentLayer`'s, or, where it is known who ticks, those modules alone."""
        if not self.unroll or mask is not None or not self._starts_at_zero:
            return super().inner_loop(sequences, initial_state, mask, training=training)
        cell, (h, _) = self.cell, initial_state
        modules = ops.split(h, len(cell.periods), axis=-1)
        steps = ops.unstack(sequences, axis=1)
        outputs = []
        for t, inputs in enumerate(reversed(steps) if self.go_backwards else steps):
            ticking = tuple(
                k for k, period in enumerate(cell.periods) if t % period == 0
            )
            if ticking:
                new = cell.activation(cell.preactivation(inputs, h, training, ticking))
                for k, module in zip(ticking, ops.split(new, len(ticking), axis=-1)):
                    modules[k] = module
                h = ops.concatenate(modules, axis=-1)
            outputs.append(h)
        clock = cell.clock_at(len(outputs), h)
        outputs = ops.stack(outputs if self.return_sequences else [h], axis=1)
        return h, outputs, [h, clock]
