"""Depth-gated LSTM: a stack whose cell states are linked from level to level."""

import numbers

import keras
from keras import ops

from custom_layers.gated_cell import GatedCell, fresh
from custom_layers.peephole_lstm import PeepholeLSTMCell
from custom_layers.recurrent_layer import RecurrentLayer


class _Level(PeepholeLSTMCell):
    """A level above the bottom: a peephole LSTM with a gate ``d`` that lets in the ``c`` below."""

    def build(self, input_shape):
        super().build(input_shape)
        shapes = {
            "depth_kernel": (input_shape[-1], self.units),
            "depth_bias": (self.units,),
        }
        shapes |= {"depth_peephole": (self.units,), "depth_below": (self.units,)}
        kinds = {"depth_kernel": "kernel", "depth_bias": "bias"}
        for name, shape in shapes.items():
            if name == "depth_bias" and not self.use_bias:
                self.depth_bias = 0.0
                continue
            kind = kinds.get(name, "peephole")
            weight = self.add_weight(
                shape=shape,
                name=name,
                initializer=fresh(getattr(self, f"{kind}_initializer")),
                regularizer=getattr(self, f"{kind}_regularizer"),
                constraint=getattr(self, f"{kind}_constraint"),
            )
            setattr(self, name, weight)

    def trace(self, inputs, states, c_below, training=False):
        h, c = states
        z = self.preactivation(inputs, h, training)
        if training and self.dropout:
            masks = self.get_dropout_mask(inputs)
            inputs = inputs * (masks[-1] if isinstance(masks, list) else masks)
        z["d"] = ops.matmul(inputs, self.depth_kernel) + self.depth_bias
        return self.step(z, [h, c, c_below])

    def step(self, z, states):
        _, c, c_below = states
        σ, φ, p = self.recurrent_activation, self.activation, self.peephole
        q, r = self.depth_peephole, self.depth_below
        i = σ(p("i", z, c))
        f = σ(p("f", z, c))
        d = σ(z["d"] + q * c + r * c_below)
        g = φ(z["c"])
        c = f * c + i * g + d * c_below
        o = σ(p("o", z, c))
        h = o * φ(c)
        return {"i": i, "f": f, "d": d, "candidate": g, "o": o, "c": c, "h": h}


@keras.saving.register_keras_serializable(package="custom_layers")
class DepthGatedLSTMCell(GatedCell):
    """Stack of LSTMs whose cell states are linked by a gate: one time step, for ``keras.layers.RNN``.

    Yao et al. 2015, "Depth-Gated Recurrent Neural Networks" (arXiv 1508.03790), section 3. The bottom
    level is a peephole LSTM, as in `PeepholeLSTMCell`. Each level above it reads the ``h`` of the level
    below as its ``x``, and adds a gate ``d``; with ``⁻`` for "at the step before", and ``c_below`` for
    the ``c`` of the level below at the SAME step:

        d = σ(W_d x + q ⊙ c⁻ + r ⊙ c_below + b_d)
        i = σ(W_i x + U_i h⁻ + p_i ⊙ c⁻ + b_i)
        f = σ(W_f x + U_f h⁻ + p_f ⊙ c⁻ + b_f)
        c = f ⊙ c⁻ + i ⊙ φ(W_c x + U_c h⁻ + b_c) + d ⊙ c_below
        o = σ(W_o x + U_o h⁻ + p_o ⊙ c + b_o)
        h = o ⊙ φ(c)

    Choices, where the paper and its authors' program differ: the bottom level has no gate ``d`` (the
    program gives it a linear image of ``x`` in place of ``c_below``); input and forget gate are
    independent (the program couples them by default); all peepholes are vectors (full matrices in the
    program). ``d`` has no U h⁻, as in the paper.

    A level's weights are those of `PeepholeLSTMCell`, and, above the bottom, ``depth_kernel (units,
    units)``, ``depth_bias``, ``depth_peephole`` (q) and ``depth_below`` (r), each ``(units,)``. They
    use the initialisers of kernel, bias and peepholes.

    Args:
        units: Positive integer, the size of ``h`` and of ``c`` of every level.
        depth: Positive integer, the number of levels. Default 2; 1 is a `PeepholeLSTMCell`.
        peepholes: The gates that get a peephole, at every level: any subset of ``("i", "f", "o")``.
        **kwargs: The other arguments of `GatedCell`, for every level. ``dropout`` drops inputs of every
            level; level ``l`` above the bottom uses ``seed + l``.

    Call arguments:
        inputs: ``(batch, features)``.
        states: h and c of each level, from the top down, each ``(batch, units)``.
        training: Whether dropout is on.

    Returns:
        ``h`` of the top level ``(batch, units)``, and the list of new states.

    Raises:
        ValueError: ``depth`` is not a positive integer, or as in `GatedCell`.

    Differs from a stack of ``keras.layers.LSTM`` in its peepholes and in ``d ⊙ c_below``: with
    ``depth_bias`` far below zero it is a stack of peephole LSTMs.

    Example:
    >>> import keras, numpy as np
    >>> layer = keras.layers.RNN(DepthGatedLSTMCell(4, depth=3))
    >>> tuple(layer(np.ones((2, 5, 3), "float32")).shape)
    (2, 4)
    """

    gates = ("i", "f", "c", "o")
    peephole_gates = ("i", "f", "o")

    def __init__(self, units, depth=2, *args, peepholes=("i", "f", "o"), **kwargs):
        if (
            isinstance(depth, bool)
            or not isinstance(depth, numbers.Integral)
            or depth < 1
        ):
            raise ValueError(f"depth must be a positive integer, got {depth!r}")
        super().__init__(units, *args, peepholes=peepholes, **kwargs)
        self.depth = depth
        # Keras takes the first state for the output before, where a step is masked: the top comes first.
        self.state_names = [
            f"{name}_{level}" for level in range(depth, 0, -1) for name in "hc"
        ]
        self.state_size = [self.units] * 2 * depth
        self.levels = [self._make_level(level) for level in range(depth)]

    def _make_level(self, level):
        config = {name: getattr(self, name) for name in GatedCell(1).get_config()}
        config |= {
            name: fresh(config[name]) for name in config if name.endswith("initializer")
        }
        config["dtype"] = self.dtype_policy
        config["name"] = f"level_{level + 1}"
        config["seed"] = None if self.seed is None else self.seed + level
        return (_Level if level else PeepholeLSTMCell)(**config)

    def build(self, input_shape):
        """Create the weights for inputs of shape ``(batch, features)``."""
        for level in self.levels:
            level.build(input_shape)
            input_shape = (input_shape[0], self.units)

    def call(self, inputs, states, training=False):
        """Take one step: see the class."""
        values = self.trace(inputs, states, training=training)
        return values[f"h_{self.depth}"], [values[name] for name in self.state_names]

    def trace(self, inputs, states, training=False):
        """Take one step and return everything computed in it, each ``(batch, units)``.

        The names end with the number of the level: ``"f_1"``, ``"d_2"``, …
        """
        traces, c_below = {}, ()  # nothing is below the bottom
        states = dict(zip(self.state_names, states))
        for number, level in enumerate(self.levels, start=1):
            own = [states[f"h_{number}"], states[f"c_{number}"]]
            values = level.trace(inputs, own, *c_below, training=training)
            traces |= {f"{name}_{number}": value for name, value in values.items()}
            inputs, c_below = values["h"], (values["c"],)
        return traces

    # keras.layers.RNN prepares and resets the masks of its cell alone: pass that on to the levels.

    def get_dropout_mask(self, step_input):
        """Prepare the bottom level's mask."""
        return self.levels[0].get_dropout_mask(step_input)

    def get_recurrent_dropout_mask(self, step_input):
        """Prepare all other masks."""
        for level in self.levels[1:]:
            level.get_dropout_mask(step_input)
        return [level.get_recurrent_dropout_mask(step_input) for level in self.levels]

    def reset_dropout_mask(self):
        """Forget the masks of the inputs."""
        for level in self.levels:
            level.reset_dropout_mask()

    def reset_recurrent_dropout_mask(self):
        """Forget the masks of the states."""
        for level in self.levels:
            level.reset_recurrent_dropout_mask()

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "depth": self.depth}


@keras.saving.register_keras_serializable(package="custom_layers")
class DepthGatedLSTM(RecurrentLayer):
    """Stack of LSTMs whose cell states are linked by a gate; drops in where ``keras.layers.LSTM`` stands.

    The equations, with their source and our choices, are in `DepthGatedLSTMCell`; the arguments of the
    loop (``return_sequences``, ``go_backwards``, …), the call arguments and the shapes in
    `RecurrentLayer`.

    Args:
        units: Positive integer, the size of ``h`` and of ``c`` of every level.
        depth: Positive integer, the number of levels. Default 2.
        **kwargs: The other arguments of `DepthGatedLSTMCell` and of `RecurrentLayer`.

    Raises:
        ValueError: As in `DepthGatedLSTMCell`.

    Differs from a stack of ``keras.layers.LSTM`` in its peepholes, in the link between the cell states,
    and in that it is one layer, with 2·depth states.

    Example:
    >>> import numpy as np
    >>> layer = DepthGatedLSTM(4, depth=3, return_sequences=True)
    >>> tuple(layer(np.ones((2, 5, 3), "float32")).shape)
    (2, 5, 4)
    """

    cell_class = DepthGatedLSTMCell
