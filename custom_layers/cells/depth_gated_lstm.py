"""Depth-gated LSTM: a stack whose cell states are linked from level to level."""

import typing
from collections.abc import Collection

import keras

from custom_layers.cells.peephole_lstm import PeepholeLSTMCell
from custom_layers.engine.gated_cell import GatedCell
from custom_layers.engine.prepared import Masks, Sequence
from custom_layers.engine.recurrent_cell import check_positive, clone_initializer
from custom_layers.engine.recurrent_layer import RecurrentLayer


@keras.saving.register_keras_serializable(package="custom_layers")
class DepthGatedLSTMCell(GatedCell):
    """Stack of LSTMs whose cell states are linked, for ``keras.layers.RNN``.

    Yao et al. 2015, "Depth-Gated Recurrent Neural Networks" (arXiv 1508.03790), section
    3. The bottom level is a peephole LSTM, as in `PeepholeLSTMCell`. Each level above
    it reads the ``h`` of the level below as its ``x``, and adds a gate ``d``; with
    ``⁻`` for "at the step before", and ``c_below`` for the ``c`` of the level below at
    the SAME step:

        i = σ(W_i x + U_i h⁻ + b_i + p_i ⊙ c⁻)
        f = σ(W_f x + U_f h⁻ + b_f + p_f ⊙ c⁻)
        d = σ(W_d x + b_d + q ⊙ c⁻ + r ⊙ c_below)
        g = φ(W_g x + U_g h⁻ + b_g)
        c = f ⊙ c⁻ + i ⊙ g + d ⊙ c_below
        o = σ(W_o x + U_o h⁻ + b_o + p_o ⊙ c)
        h = o ⊙ φ(c)

    Choices, where the paper and its authors' program differ: the bottom level has no
    gate ``d`` (the program gives it a linear image of ``x`` in place of ``c_below``);
    input and forget gate are independent (the program couples them by default); all
    peepholes are vectors (full matrices in the program). ``d`` has no U h⁻, as in the
    paper.

    A level's weights are those of `PeepholeLSTMCell`. Above the bottom, kernel and bias
    have the columns of d after those of i, f, g, o, and two vectors ``q`` and ``r
    (units,)`` follow, which use the initialiser, regulariser and constraint of the
    peepholes.

    Args:
        units: Positive integer, the size of ``h`` and of ``c`` of every level.
        depth: Positive integer, the number of levels. Default 2; 1 is a
            `PeepholeLSTMCell`.
        peepholes: The gates that get a peephole, at every level: any subset of ``("i",
            "f", "o")``.
        **kwargs: The other arguments of `GatedCell`, for every level. ``dropout`` drops
            inputs of every level; level ``l`` above the bottom uses ``seed + l``.

    Call arguments:
        inputs: ``(batch, features)``.
        states: h and c of each level, from the top down, each ``(batch, units)``.
        training: Whether dropout is on.

    Returns:
        ``h`` of the top level ``(batch, units)``, and the list of new states.

    Raises:
        ValueError: ``depth`` is not a positive integer, or as in `GatedCell`.

    Differs from a stack of ``keras.layers.LSTM`` in its peepholes and in ``d ⊙
    c_below``: with b_d far below zero it is a stack of peephole LSTMs.

    Example:
    >>> import keras, numpy as np
    >>> layer = keras.layers.RNN(DepthGatedLSTMCell(4, depth=3))
    >>> tuple(layer(np.ones((2, 5, 3), "float32")).shape)
    (2, 4)
    """

    gates = ("i", "f", "g", "o")
    input_gates = ("d",)
    peephole_gates = ("i", "f", "o")
    vectors = ("q", "r")
    is_native_lstm = True

    def __init__(
        self,
        units: int,
        depth: int = 2,
        *args: typing.Any,
        peepholes: Collection[str] = ("i", "f", "o"),
        **kwargs: typing.Any,
    ) -> None:
        check_positive(depth=depth)
        super().__init__(units, *args, peepholes=peepholes, **kwargs)
        self.depth = depth
        # At a masked step Keras outputs the first state: the top comes first.
        self.state_names = tuple(
            f"{name}_{level}" for level in range(depth, 0, -1) for name in "hc"
        )
        self.state_size = [self.units] * 2 * depth
        kwargs["peepholes"], kwargs["dtype"] = peepholes, self.dtype_policy
        self.levels = []
        for level in range(depth):
            kwargs["name"] = f"level_{level + 1}"
            kwargs["seed"] = None if self.seed is None else self.seed + level
            own = {name: clone_initializer(value) for name, value in kwargs.items()}
            level_class = _Level if level else PeepholeLSTMCell
            self.levels.append(level_class(units, *map(clone_initializer, args), **own))

    @staticmethod
    def equations(z, p, states, σ, φ):
        """Return the gates and the new states of a level above the bottom, by name."""
        _, c, c_below = states
        i = σ(z.i + p.i * c)
        f = σ(z.f + p.f * c)
        d = σ(z.d + p.q * c + p.r * c_below)
        g = φ(z.g)
        c = f * c + i * g + d * c_below
        o = σ(z.o + p.o * c)
        h = o * φ(c)
        return {"i": i, "f": f, "d": d, "g": g, "c": c, "o": o, "h": h}

    def build(self, input_shape):
        """Create the weights for inputs of shape ``(batch, features)``."""
        for level in self.levels:
            level.build(input_shape)
            input_shape = (input_shape[0], self.units)

    def masks(self, x, h, sequence):
        """Return the masks of all levels; a level reads the ``h`` below as its x."""
        for level, of_level in zip(self.levels, self._of_levels(sequence), strict=True):
            level.masks(x, h, of_level)
            x = h
        masks = [of_level.masks for of_level in sequence.levels]
        sequence.masks = Masks(*(list(kind) for kind in zip(*masks, strict=True)))
        return sequence.masks

    def _of_levels(self, sequence):
        """Return the `Sequence` of each level."""
        if not sequence.levels:
            sequence.levels = [
                Sequence(training=sequence.training) for _ in self.levels
            ]
            U_masks = sequence.masks.U or [None] * self.depth
            for of_level, U in zip(sequence.levels, U_masks, strict=True):
                of_level.masks = Masks(U=U)
        return sequence.levels

    def prepare(self, masks, h=None, matmul_with=None):
        """Return the steps of all levels."""
        nothing = [None] * self.depth
        of_levels = zip(*(kind or nothing for kind in masks), strict=True)
        return _PreparedStack(
            [
                level.prepare(Masks(*of_level), h, matmul_with)
                for level, of_level in zip(self.levels, of_levels, strict=True)
            ]
        )

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "depth": self.depth}


class _Level(PeepholeLSTMCell):
    """A level above the bottom."""

    input_gates = DepthGatedLSTMCell.input_gates
    vectors = DepthGatedLSTMCell.vectors
    is_native_lstm = True
    equations = staticmethod(DepthGatedLSTMCell.equations)


class _PreparedStack(typing.NamedTuple):
    """A step of a stack: a `Prepared` for each level."""

    levels: list

    def values(self, x, states):
        """Take one step; return all gates and new states, with the level's number."""
        values, c_below = {}, ()  # nothing is below the bottom
        for number, level in enumerate(self.levels, start=1):
            top_down = 2 * (len(self.levels) - number)
            own = level.values(x, [*states[top_down : top_down + 2], *c_below])
            values |= {f"{name}_{number}": value for name, value in own.items()}
            x, c_below = own["h"], (own["c"],)
        return values | {"h": own["h"], "c": own["c"]}


@keras.saving.register_keras_serializable(package="custom_layers")
class DepthGatedLSTM(RecurrentLayer):
    """Stack of LSTMs whose cell states are linked, like ``keras.layers.LSTM``.

    The equations, with their source and our choices, are in `DepthGatedLSTMCell`; the
    arguments of the loop (``return_sequences``, ``go_backwards``, …), the call
    arguments and the shapes in `RecurrentLayer`.

    Args:
        units: Positive integer, the size of ``h`` and of ``c`` of every level.
        depth: Positive integer, the number of levels. Default 2.
        **kwargs: The other arguments of `DepthGatedLSTMCell` and of `RecurrentLayer`.

    Raises:
        ValueError: As in `DepthGatedLSTMCell`.

    Differs from a stack of ``keras.layers.LSTM`` in its peepholes, in the link between
    the cell states, and in that it is one layer, with 2·depth states.

    Example:
    >>> import numpy as np
    >>> layer = DepthGatedLSTM(4, depth=3, return_sequences=True)
    >>> tuple(layer(np.ones((2, 5, 3), "float32")).shape)
    (2, 5, 4)
    """

    cell_class = DepthGatedLSTMCell
