"""What all gated cells share: weights, dropout, peepholes, configuration."""

import numbers
import typing

import keras
import numpy as np
from keras import ops


def check_units(units):
    """Raise ValueError unless ``units`` is a positive integer."""
    if isinstance(units, bool) or not isinstance(units, numbers.Integral) or units <= 0:
        raise ValueError(f"units must be a positive integer, got {units!r}")


def check_rates(**rates):
    """Raise ValueError unless every keyword is a number in [0, 1)."""
    for name, rate in rates.items():
        if (
            isinstance(rate, bool)
            or not isinstance(rate, numbers.Real)
            or not 0 <= rate < 1
        ):
            raise ValueError(f"{name} must be a number in [0, 1), got {rate!r}")


def fresh(initializer):
    """Return an initialiser like the given one: without a seed, it draws values of its own."""
    return (
        initializer.clone()
        if isinstance(initializer, keras.initializers.Initializer)
        else initializer
    )


class Product(typing.NamedTuple):
    """``z = (x ⊙ x_mask) W + (h⁻ ⊙ h_mask) U + b``, of one gate or of all gates side by side."""

    x_mask: typing.Any  # (batch, features), or None
    W: typing.Any  # (features, units), or (features, G·units)
    h_mask: typing.Any  # (batch, units), or None
    U: typing.Any  # (units, units), or (units, G·units)
    b: typing.Any  # (units,), or (G·units,), or None
    matmul: typing.Callable = ops.matmul  # of h⁻ ⊙ h_mask and U


class Layout(typing.NamedTuple):
    """What one step computes with."""

    products: list  # one `Product`, or, in the order of the gates, one for each
    peepholes: dict  # each peephole vector, repeated: (batch, units)


@keras.saving.register_keras_serializable(package="custom_layers")
class GatedCell(keras.layers.SimpleRNNCell):
    """Base of the gated cells: one time step, for ``keras.layers.RNN``.

    A subclass names its gates and its states and writes its equations in `step`; everything else
    is here. With ``G`` gates the weights are, as in ``keras.layers.LSTM``,
    ``kernel (features, G·units)``, ``recurrent_kernel (units, G·units)`` and ``bias (G·units,)``,
    in the order of `gates`, and then one vector ``peephole_g (units,)`` for every gate ``g`` of
    ``peepholes``.

    It derives from ``SimpleRNNCell`` because ``keras.layers.RNN`` prepares dropout masks only for
    the cells of Keras; the equations of ``SimpleRNNCell`` are not used.

    Class attributes:
        gates: Names of the gates and of the candidate, in the order of the fused weights.
        state_names: Names of the states, each ``(batch, units)``; the first is the output.
        peephole_gates: The gates that may look at the cell state.
        pure_step: Whether `step` depends on its arguments alone: it draws no random number, and has no
            weights of its own. Then TensorFlow on a CPU trains a `RecurrentLayer` of the cell in the
            faster ``custom_layers.time_loop``, which computes every step twice. A class says so for
            itself, with the other methods as they are here; it is not inherited.

    Args:
        units: Positive integer, the size of the output and of each state.
        activation: φ, the activation of candidate and output. Default ``"tanh"``.
        recurrent_activation: σ, the activation of the gates. Default ``"sigmoid"``.
        use_bias: Whether the gates have biases.
        unit_forget_bias: Whether the biases of gate ``"f"`` start at 1.
        peepholes: The gates that get a peephole: any subset of `peephole_gates`.
        peephole_initializer: Initialiser of each peephole vector.
        peephole_regularizer: Regulariser of each peephole vector.
        peephole_constraint: Constraint on each peephole vector.
        tied_dropout: With ``recurrent_dropout``, Keras draws one mask a gate, for inputs and states
            alike. True draws one for all gates, which costs less: the tied weights of Gal &
            Ghahramani (2016, arXiv 1512.05287).
        **kwargs: ``kernel_initializer``, ``recurrent_initializer``, ``bias_initializer`` and their
            regularisers and constraints, ``dropout``, ``recurrent_dropout``, ``seed``, ``dtype``,
            ``name``, ``trainable``, as in ``keras.layers.LSTMCell``.

    Call arguments:
        inputs: ``(batch, features)``.
        states: The states of the step before, each ``(batch, units)``.
        training: Whether dropout is on.

    Returns:
        The output ``(batch, units)``, and the list of new states.

    Raises:
        ValueError: ``units`` is not a positive integer, a dropout lies outside [0, 1), or
            ``peepholes`` is not a subset of `peephole_gates`.

    Example: an LSTM without output gate (NOG in Greff et al. 2015, arXiv 1503.04069, section 3).

    >>> import keras, numpy as np
    >>> class NoOutputGateCell(GatedCell):
    ...     gates = ("i", "f", "c")
    ...     state_names = ("h", "c")
    ...     def step(self, z, states):
    ...         h, c = states
    ...         i, f = self.recurrent_activation(z["i"]), self.recurrent_activation(z["f"])
    ...         g = self.activation(z["c"])
    ...         c = f * c + i * g
    ...         return {"i": i, "f": f, "candidate": g, "c": c, "h": self.activation(c)}
    >>> layer = keras.layers.RNN(NoOutputGateCell(4))
    >>> tuple(layer(np.ones((2, 5, 3), "float32")).shape)
    (2, 4)
    """

    gates = ()
    state_names = ("h",)
    peephole_gates = ()
    pure_step = False

    def __init__(
        self,
        units,
        activation="tanh",
        recurrent_activation="sigmoid",
        use_bias=True,
        *,
        unit_forget_bias=True,
        peepholes=(),
        peephole_initializer="zeros",
        peephole_regularizer=None,
        peephole_constraint=None,
        tied_dropout=False,
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
        self.recurrent_activation = keras.activations.get(recurrent_activation)
        self.unit_forget_bias = unit_forget_bias
        self.peepholes = self._checked_peepholes(peepholes)
        self.peephole_initializer = keras.initializers.get(peephole_initializer)
        self.peephole_regularizer = keras.regularizers.get(peephole_regularizer)
        self.peephole_constraint = keras.constraints.get(peephole_constraint)
        self.tied_dropout = tied_dropout
        if recurrent_dropout and not tied_dropout:
            self.dropout_mask_count = len(
                self.gates
            )  # Keras then makes a list of masks
        self.peephole_weights = {}  # by gate, once they are built
        self._layouts = None  # the `Layout` without and with dropout, while a layer reads a sequence
        self.state_size = [self.units] * len(self.state_names)

    def _checked_peepholes(self, peepholes):
        chosen = (
            list(peepholes)
            if isinstance(peepholes, (list, tuple, set, frozenset))
            else None
        )
        if (
            chosen is None
            or not all(isinstance(gate, str) for gate in chosen)
            or len(set(chosen)) < len(chosen)
            or not set(chosen) <= set(self.peephole_gates)
        ):
            allowed = ", ".join(map(repr, self.peephole_gates)) or "no gate"
            raise ValueError(
                f"peepholes must be a tuple of distinct gates out of {allowed}, got {peepholes!r}"
            )
        return tuple(gate for gate in self.peephole_gates if gate in chosen)

    def build(self, input_shape):
        """Create the weights for inputs of shape ``(batch, features)``."""
        width = len(self.gates) * self.units
        self.kernel = self.add_weight(
            shape=(input_shape[-1], width),
            name="kernel",
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        self.recurrent_kernel = self.add_weight(
            shape=(self.units, width),
            name="recurrent_kernel",
            initializer=self.recurrent_initializer,
            regularizer=self.recurrent_regularizer,
            constraint=self.recurrent_constraint,
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                shape=(width,),
                name="bias",
                initializer=self._initial_bias,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )
        self.peephole_weights = {
            gate: self.add_weight(
                shape=(self.units,),
                name=f"peephole_{gate}",
                initializer=fresh(self.peephole_initializer),
                regularizer=self.peephole_regularizer,
                constraint=self.peephole_constraint,
            )
            for gate in self.peepholes
        }

    def _initial_bias(self, shape, dtype=None):
        bias = self.bias_initializer(shape, dtype=dtype)
        if not self.unit_forget_bias:
            return bias
        is_forget = np.repeat([gate == "f" for gate in self.gates], self.units)
        return ops.where(is_forget, ops.ones_like(bias), bias)

    def call(self, inputs, states, training=False):
        """Take one step: see the class."""
        values = self.trace(inputs, states, training=training)
        return values["h"], [values[name] for name in self.state_names]

    def trace(self, inputs, states, training=False):
        """Take one step and return everything computed in it, by name, each ``(batch, units)``."""
        return self.step(self.preactivation(inputs, states[0], training), states)

    def preactivation(self, inputs, h, training=False):
        """Return ``x W + h⁻ U + b`` of each gate, and the peepholes, each ``(batch, units)``, by name."""
        products, peepholes = self.layout(inputs, h, training)
        z = []
        for x_mask, W, h_mask, U, b, matmul in products:
            x_kept = inputs if x_mask is None else inputs * x_mask
            h_kept = h if h_mask is None else h * h_mask
            sums = ops.matmul(x_kept, W) + matmul(h_kept, U)
            z.append(sums if b is None else ops.add(sums, b))
        return self.by_name(z) | peepholes

    def by_name(self, z):
        """Return the pre-activations that the products of a `Layout` gave, by gate."""
        parts = (
            z
            if len(z) == len(self.gates)
            else ops.split(z[0], len(self.gates), axis=-1)
        )
        return dict(zip(self.gates, parts))

    def layout(self, inputs, h, training=False):
        """Return what a step multiplies with, laid out once for a sequence where it is in a layer.

        Args:
            inputs: ``(batch, features)``, or None where the masks are already drawn.
            h: The output of the step before, ``(batch, units)``.
            training: Whether dropout is on.
        """
        if self._layouts is not None:
            return self._layouts[bool(training)]
        x_mask = self.get_dropout_mask(inputs) if training else None
        h_mask = super().get_recurrent_dropout_mask(h) if training else None
        W, U = self._tensor(self.kernel), self._tensor(self.recurrent_kernel)
        b = None if self.bias is None else self._tensor(self.bias)
        products = [Product(x_mask, W, h_mask, U, b)]
        if isinstance(h_mask, list):
            count = len(self.gates)
            nothing = [None] * count
            W, U = ops.split(W, count, axis=-1), ops.split(U, count, axis=-1)
            b = nothing if b is None else ops.split(b, count)
            products = [
                Product(*of_gate) for of_gate in zip(x_mask or nothing, W, h_mask, U, b)
            ]
        peepholes = {
            f"peephole_{gate}": ops.broadcast_to(self._tensor(p), ops.shape(h))
            for gate, p in self.peephole_weights.items()
        }
        return Layout(products, peepholes)

    def get_recurrent_dropout_mask(self, step_input):
        """Return the masks of the states, one or a list; draw them first where there are none yet.

        ``keras.layers.RNN`` calls this before its loop, after `get_dropout_mask`: the place to lay out
        masks and weights, once.
        """
        masks = super().get_recurrent_dropout_mask(step_input)
        self._layouts = None
        layout = self.layout(None, step_input)
        dropping = masks is not None or self.dropout
        in_training = self.layout(None, step_input, True) if dropping else layout
        if keras.backend.backend() == "tensorflow":
            from custom_layers import time_loop  # imports TensorFlow

            if time_loop.in_graph_on_cpu():
                products = [
                    p._replace(matmul=time_loop.matmul_with(p.U))
                    for p in in_training.products
                ]
                in_training = in_training._replace(products=products)
        self._layouts = layout, in_training
        return masks

    def reset_recurrent_dropout_mask(self):
        """Forget the masks of the states: the next sequence draws new ones."""
        self._layouts = None
        super().reset_recurrent_dropout_mask()

    def _tensor(self, weight):
        return ops.cast(weight, self.compute_dtype)

    def peephole(self, gate, z, c):
        """Return ``z_gate + p_gate ⊙ c``, or ``z_gate`` where that gate has no peephole."""
        return (
            z[gate] + z[f"peephole_{gate}"] * c if gate in self.peepholes else z[gate]
        )

    def step(self, z, states):
        """Write the equations of one step here.

        Args:
            z: Dict from each name of `gates` to its pre-activation ``(batch, units)``, and of the
                peepholes, for `peephole`.
            states: The states of the step before, in the order of `state_names`.

        Returns:
            Dict of all gates, the ``"candidate"`` and the new states, by name.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must implement step(z, states)"
        )

    def get_initial_state(self, batch_size=None):
        """Return zero states for ``batch_size`` sequences."""
        return [
            ops.zeros((batch_size, size), self.compute_dtype)
            for size in self.state_size
        ]

    def get_config(self):
        """Return the arguments of the constructor."""
        return {
            **super().get_config(),
            "recurrent_activation": keras.activations.serialize(
                self.recurrent_activation
            ),
            "unit_forget_bias": self.unit_forget_bias,
            "peepholes": list(self.peepholes),
            "peephole_initializer": keras.initializers.serialize(
                self.peephole_initializer
            ),
            "peephole_regularizer": keras.regularizers.serialize(
                self.peephole_regularizer
            ),
            "peephole_constraint": keras.constraints.serialize(
                self.peephole_constraint
            ),
            "tied_dropout": self.tied_dropout,
        }
