"""Clockwork RNN."""

import itertools
import math
import numbers
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from custom_layers.engine.recurrent_cell import RecurrentCell, clone_initializer
from custom_layers.engine.recurrent_layer import RecurrentLayer


class Clock:
    """The time t mod T_k of modules with periods T_k, in the form of a state.

    It is kept in digits of base 256, which float16 and bfloat16 hold exactly: a bare
    counter sticks at 2048 in float16, and at 256 in bfloat16.

    Args:
        periods: Positive integers below 2³¹ in rising order.

    Attributes:
        size: How many digits all modules have together.

    Raises:
        ValueError: The periods are something else.

    Example:
    >>> Clock((1, 300)).at(299).tolist()
    [0, 0, 43, 1]
    """

    base = 256

    def __init__(self, periods):
        chosen = tuple(periods) if isinstance(periods, list | tuple) else ()
        whole = all(
            isinstance(p, numbers.Integral) and not isinstance(p, bool) for p in chosen
        )
        rising = all(a < b for a, b in itertools.pairwise((0, *chosen, 2**31)))
        if not chosen or not whole or not rising:
            raise ValueError(
                "periods must be positive integers in rising order, each once, below "
                f"2**31, got {periods!r}"
            )
        self.periods = tuple(int(period) for period in chosen)
        digits = max(1, math.ceil(math.log(self.periods[-1], self.base)))
        self.places = [self.base**place for place in range(digits)]
        self.size = len(self.periods) * digits

    def read(self, clock):
        """Return t mod T_k, integers ``(batch, modules)``, from ``(batch, size)``."""
        shape = (-1, len(self.periods), len(self.places))
        digits = ops.reshape(ops.cast(clock, "int32"), shape)
        return ops.sum(ops.multiply(digits, np.array(self.places, "int32")), axis=-1)

    def tick(self, clock):
        """Return the clock one step later, ``(batch, size)``, of the same dtype."""
        t = ops.mod(self.read(clock) + 1, np.array(self.periods, "int32"))
        digits = ops.floor_divide(t[..., None], np.array(self.places, "int32"))
        digits = ops.reshape(ops.mod(digits, self.base), (-1, self.size))
        return ops.cast(digits, clock.dtype)

    def at(self, t):
        """Return the digits ``(size,)`` after ``t`` steps."""
        return np.array(
            [t % T // place % self.base for T in self.periods for place in self.places]
        )


@keras.saving.register_keras_serializable(package="custom_layers")
class ClockworkRNNCell(RecurrentCell):
    """RNN cell whose modules tick at their own pace, for ``keras.layers.RNN``.

    Koutník et al. 2014, "A Clockwork RNN" (arXiv 1402.3511), section 3. The units form
    ``g`` modules of ``units / g`` each, with periods T_1 < … < T_g. At step t = 0, 1,
    2, …, with ``⁻`` for "at the step before":

        active = t mod T = 0
        g = φ(W_g x + U_g h⁻ + b_g)
        h = where(active, g, h⁻)

    with the T of each unit's module: an idle module is an exact copy. Slow modules feed
    fast ones: of U only the blocks from a module j to modules k ≤ j exist.
    ``recurrent_kernel_k`` holds those of module k = 1 … g one below the other, ``((g −
    k + 1)·units/g, units/g)``. ``kernel (features, units)`` and ``bias (units,)`` are
    as in ``keras.layers.SimpleRNNCell``.

    The clock is a state, t mod T_k for each module, so it goes on across batches of a
    ``stateful`` layer, and starts at 0 at the end of the sequence with
    ``go_backwards``. A masked step changes no state, and so the clock pauses on
    padding. It is kept in digits of base 256, which float16 and bfloat16 hold exactly.

    Args:
        units: Positive integer, a multiple of the number of periods.
        periods: Positive integers below 2³¹ in rising order, one for each module. They
            need not divide each other. Default ``(1, 2, 4, 8)``.
        activation: φ. Default ``"tanh"``.
        use_bias: Whether there is a bias.
        dropout: Fraction of the inputs to drop, the same ones at every step.
        recurrent_dropout: Fraction of ``h⁻`` to drop, the same units at every step.
        **kwargs: ``kernel_initializer``, ``recurrent_initializer``,
            ``bias_initializer`` and their regularisers and constraints, ``seed``,
            ``dtype``, ``name``, ``trainable``, as in ``keras.layers.SimpleRNNCell``.

    Call arguments:
        inputs: ``(batch, features)``.
        states: ``h (batch, units)``, and the clock ``(batch, g·digits)``: one digit for
            each module if the longest period is at most 256.
        training: Whether dropout is on.

    Returns:
        ``h (batch, units)``, and the list of new states.

    Raises:
        ValueError: ``units`` is not a positive integer or no multiple of the number of
            periods, the periods are not positive integers in rising order, a dropout
            lies outside [0, 1), or an argument is an option of `GatedCell`, such as
            ``zoneout_h``.

    Differs from ``keras.layers.SimpleRNNCell`` in its periods: with ``periods=(1,)`` it
    is that cell.

    Example: the paper's model for one input and one output has 2,497 parameters.

    >>> import keras
    >>> layer = keras.layers.RNN(ClockworkRNNCell(64, (1, 2, 4, 8, 16, 32, 64, 128)))
    >>> model = keras.Sequential([keras.Input((None, 1)), layer, keras.layers.Dense(1)])
    >>> model.count_params()
    2497
    """

    gates = ("g",)
    state_names = ("h", "clock")

    def __init__(
        self,
        units: int,
        periods: Sequence[int] = (1, 2, 4, 8),
        *args: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__(units, *args, **kwargs)
        self.clock = Clock(periods)
        self.periods = self.clock.periods
        if units % len(self.periods):
            raise ValueError(
                "units must be a multiple of the number of periods, "
                f"{len(self.periods)}, got {units}"
            )
        self.module_units = self.units // len(self.periods)
        self.state_size = [self.units, self.clock.size]

    @staticmethod
    def equations(z, p, states, σ, φ):
        """Return which units are active, the candidate and the new states, by name."""
        h, clock = states
        active = ops.repeat(p.clock.read(clock) == 0, p.module_units, axis=-1)
        g = φ(z.g)
        h = ops.where(active, g, h)
        return {
            "active": ops.cast(active, h.dtype),
            "g": g,
            "h": h,
            "clock": p.clock.tick(clock),
        }

    def parameters(self):
        """Return the clock, and how many units go by each of its periods."""
        return {}, {"clock": self.clock, "module_units": self.module_units}

    def build_recurrent_kernel(self):
        """Create the columns of U, a weight for each module."""
        self.recurrent_kernels = [
            self._add(
                f"recurrent_kernel_{number + 1}",
                (self.units - number * self.module_units, self.module_units),
                clone_initializer(self.recurrent_initializer),
            )
            for number in range(len(self.periods))
        ]

    def joined_recurrent_kernel(self):
        """Return U ``(units, units)``, lower triangular in blocks."""
        columns = [
            ops.pad(kernel, [[number * self.module_units, 0], [0, 0]])
            for number, kernel in enumerate(self.recurrent_kernels)
        ]
        return ops.concatenate(columns, axis=-1)

    def unrolled_loop(
        self, prepared, sequences, states, go_backwards, return_sequences
    ):
        """Read sequences from zero states: at each step the ticking modules alone."""
        h, clock = states
        (product,) = prepared.products
        if product.x_mask is not None:
            sequences = sequences * ops.expand_dims(product.x_mask, axis=1)
        modules = ops.split(h, len(self.periods), axis=-1)
        columns, outputs = {}, []
        steps = ops.unstack(sequences, axis=1)
        for t, x in enumerate(reversed(steps) if go_backwards else steps):
            ticking = tuple(k for k, T in enumerate(self.periods) if t % T == 0)
            if ticking:
                if ticking not in columns:
                    columns[ticking] = self._columns(product, ticking)
                W, U, b = columns[ticking]
                kept = h if product.h_mask is None else h * product.h_mask
                z = ops.matmul(x, W) + ops.matmul(kept, U)
                g = self.activation(z if b is None else ops.add(z, b))
                parts = ops.split(g, len(ticking), axis=-1)
                for k, part in zip(ticking, parts, strict=True):
                    modules[k] = part
                h = ops.concatenate(modules, axis=-1)
            outputs.append(h)
        clock = ops.zeros_like(clock) + ops.cast(self.clock.at(len(steps)), clock.dtype)
        outputs = ops.stack(outputs if return_sequences else [h], axis=1)
        return h, outputs, [h, clock]

    def _columns(self, product, modules):
        """Return the columns of W, U and b that belong to some modules."""
        units = np.arange(self.units).reshape(len(self.periods), -1)
        chosen = units[list(modules)].ravel()
        weights = product.W, product.U, product.b
        return [w if w is None else ops.take(w, chosen, axis=-1) for w in weights]

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "periods": list(self.periods)}


@keras.saving.register_keras_serializable(package="custom_layers")
class ClockworkRNN(RecurrentLayer):
    """RNN layer whose modules tick at their own pace, like ``keras.layers.SimpleRNN``.

    The equations, with their source, and the clock are in `ClockworkRNNCell`; the
    arguments of the loop (``return_sequences``, ``go_backwards``, …), the call
    arguments and the shapes in `RecurrentLayer`.

    Args:
        units: Positive integer, a multiple of the number of periods.
        periods: Positive integers in rising order, one for each module. Default ``(1,
            2, 4, 8)``.
        **kwargs: The other arguments of `ClockworkRNNCell` and of `RecurrentLayer`.

    Raises:
        ValueError: As in `ClockworkRNNCell`.

    With ``unroll=True`` it computes at every step only the modules that tick, if it
    knows them: without a mask, an ``initial_state`` or ``stateful``. That is the saving
    that the paper's section 3 counts.

    Differs from ``keras.layers.SimpleRNN`` in its periods, and in returning its clock
    as a second state.

    Example:
    >>> import numpy as np
    >>> layer = ClockworkRNN(6, periods=(1, 3, 5), return_sequences=True)
    >>> tuple(layer(np.ones((2, 5, 3), "float32")).shape)
    (2, 5, 6)
    """

    cell_class = ClockworkRNNCell
