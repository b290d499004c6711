"""Base of the gated cells: σ, peepholes, the forget gate's bias."""

from collections.abc import Collection
from typing import Any

import keras
import numpy as np
from keras import ops

from custom_layers.engine import options
from custom_layers.engine.prepared import NoPeephole
from custom_layers.engine.recurrent_cell import (
    Identifier,
    RecurrentCell,
    check_positive,
    check_rates,
    clone_initializer,
)


@keras.saving.register_keras_serializable(package="custom_layers")
class GatedCell(RecurrentCell):
    """Base of the gated cells: one time step, for ``keras.layers.RNN``.

    A subclass names its gates and its states and writes its equations as a pure
    function. The weights are, as in ``keras.layers.LSTM``, ``kernel (features,
    G·units)``, ``recurrent_kernel (units, G·units)`` and ``bias (G·units,)`` for G
    gates in the order of `gates`, then a vector ``peephole_g (units,)`` for every gate
    g of ``peepholes``, and those of `vectors`.

    Class attributes:
        gates: Names of the gates and of the candidate, in the order of the fused
            weights.
        input_gates: Names of the gates that see no ``h⁻``; their columns come last.
        peephole_gates: The gates that may look at the cell state.
        vectors: Names of further weights, ``(units,)`` each, made like peepholes.
        options: The names of the options that the equations allow, out of
            ``"layer_norm"``, ``"cell_clip"``, ``"zoneout_h"``, ``"zoneout_c"`` and
            ``"projection"``. They must have a state ``c``, compute it with ``p.clip``,
            and show ``p.norm(c)``, which change nothing without the option.
        state_names: Names of the states, each ``(batch, units)``; the first, ``"h"``,
            is the output.

    Args:
        units: Positive integer, the size of the output and of each state.
        activation: φ, the activation of candidate and output. Default ``"tanh"``.
        recurrent_activation: σ, the activation of the gates. Default ``"sigmoid"``.
        use_bias: Whether the gates have biases.
        kernel_initializer: Initialiser of the kernel.
        recurrent_initializer: Initialiser of the recurrent kernel.
        bias_initializer: Initialiser of the biases.
        unit_forget_bias: Whether the biases of gate ``"f"`` start at 1.
        peepholes: The gates that get a peephole: any subset of `peephole_gates`.
        peephole_initializer: Initialiser of each peephole.
        peephole_regularizer: Regulariser of each peephole.
        peephole_constraint: Constraint on each peephole.
        dropout: Fraction of the inputs to drop, the same ones at every step.
        recurrent_dropout: Fraction of ``h⁻`` to drop, the same units at every step.
        tied_dropout: With ``recurrent_dropout``, Keras draws one mask for each gate,
            for inputs and states alike. True draws one for all gates, which costs less:
            the tied weights of Gal & Ghahramani (2016, arXiv 1512.05287).
        weight_dropout: Fraction of the recurrent weights to drop, as in
            `WeightDropLSTM`.
        layer_norm: Layer normalisation, Ba et al. 2016 (arXiv 1607.06450). True: W x
            and U h⁻ are normalised each as a whole, all gates together, and multiplied
            with gains; the output sees ``norm(c)``, and c itself is carried on (the
            supplement's equations for the LSTM; its biases of both products are in b).
            ``"tfa"``, TensorFlow Addons: the same, but ``norm(c)`` is carried on.
            ``"tf1"``, TensorFlow 1: ``W x + U h⁻`` is normalised gate by gate, and
            ``norm(c)`` is carried on. Peepholes are added after the normalisation.
        layer_norm_epsilon: What is added to the variance. Default 1e-3, as in
            ``keras.layers.LayerNormalization`` and TensorFlow Addons; TensorFlow 1 has
            1e-12.
        cell_clip: The new c is clipped to ±``cell_clip``, before the output gate and
            the next step see it (Sak et al. 2014, arXiv 1402.1128; so in TensorFlow 1,
            while the clip of ONNX is of the gates). None, the default: not at all.
        zoneout_h: Fraction of ``h`` that keeps its value of the step before, drawn
            anew at each step of training; their expectation at inference (Krueger et
            al. 2017, arXiv 1606.01305).
        zoneout_c: The same of ``c``. The output of the step sees the c before that.
        projection: Positive integer r: h = P (o ⊙ φ(c)), of r numbers, with P
            ``(units, r)`` (Sak et al. 2014). The recurrent weights and the
            next layer see r numbers. None, the default: no projection.
        projection_clip: The projected h is clipped to ±``projection_clip``. None, the
            default: not at all.
        projection_initializer: Initialiser of P; its regulariser and constraint are
            those of the kernel.
        **kwargs: Regularisers and constraints of kernel, recurrent kernel and bias,
            ``seed``, ``dtype``, ``name``, ``trainable``, as in
            ``keras.layers.LSTMCell``.

    Call arguments:
        inputs: ``(batch, features)``.
        states: The states of the step before, each ``(batch, units)``.
        training: Whether dropout is on.

    Returns:
        The output ``(batch, units)``, and the list of new states.

    Raises:
        ValueError: ``units`` is not a positive integer, a rate lies outside [0, 1),
            ``peepholes`` is not a subset of `peephole_gates`, or the cell has no such
            option: see `options`.
        TypeError: A subclass has ``equations`` that are no ``staticmethod``.

    Example: an LSTM without output gate (NOG in Greff et al. 2015, arXiv 1503.04069,
    section 3).

    >>> import keras, numpy as np
    >>> class NoOutputGateCell(GatedCell):
    ...     gates = ("i", "f", "g")
    ...     state_names = ("h", "c")
    ...     @staticmethod
    ...     def equations(z, p, states, σ, φ):
    ...         _, c = states
    ...         i = σ(z.i)
    ...         f = σ(z.f)
    ...         g = φ(z.g)
    ...         c = f * c + i * g
    ...         h = φ(c)
    ...         return {"i": i, "f": f, "g": g, "c": c, "h": h}
    >>> layer = keras.layers.RNN(NoOutputGateCell(4))
    >>> tuple(layer(np.ones((2, 5, 3), "float32")).shape)
    (2, 4)
    """

    peephole_gates: tuple[str, ...] = ()
    vectors: tuple[str, ...] = ()

    def __init__(
        self,
        units: int,
        activation: Identifier = "tanh",
        recurrent_activation: Identifier = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Identifier = "glorot_uniform",
        recurrent_initializer: Identifier = "orthogonal",
        bias_initializer: Identifier = "zeros",
        unit_forget_bias: bool = True,
        *,
        peepholes: Collection[str] = (),
        peephole_initializer: Identifier = "zeros",
        peephole_regularizer: Identifier = None,
        peephole_constraint: Identifier = None,
        tied_dropout: bool = False,
        layer_norm: bool | str = False,
        layer_norm_epsilon: float = 1e-3,
        cell_clip: float | None = None,
        zoneout_h: float = 0.0,
        zoneout_c: float = 0.0,
        projection: int | None = None,
        projection_clip: float | None = None,
        projection_initializer: Identifier = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        initializers = kernel_initializer, recurrent_initializer, bias_initializer
        super().__init__(units, activation, use_bias, *initializers, **kwargs)
        self.recurrent_activation = keras.activations.get(recurrent_activation)
        self.unit_forget_bias = unit_forget_bias
        self.peepholes = self._checked_peepholes(peepholes)
        self.peephole_initializer = keras.initializers.get(peephole_initializer)
        self.peephole_regularizer = keras.regularizers.get(peephole_regularizer)
        self.peephole_constraint = keras.constraints.get(peephole_constraint)
        self.tied_dropout = tied_dropout
        if self.recurrent_dropout and not tied_dropout:
            self.dropout_mask_count = len(self.gates)  # as Keras: a list of masks
        self.layer_norm, self.layer_norm_epsilon = layer_norm, layer_norm_epsilon
        self.zoneout_h, self.zoneout_c = zoneout_h, zoneout_c
        self.cell_clip, self.projection = cell_clip, projection
        self.projection_clip = projection_clip
        self.projection_initializer = keras.initializers.get(projection_initializer)
        self._check_options()
        rates = {"h": zoneout_h, "c": zoneout_c}
        self.zoneout = {name: rate for name, rate in rates.items() if rate}
        if self.zoneout:
            self.zoneout_seed_generator = keras.random.SeedGenerator(self.seed)
        if projection is not None:
            self.output_size = int(projection)
            self.state_size = [self.output_size, *self.state_size[1:]]

    def _check_options(self):
        """Raise ValueError for an option that is wrong, or that the cell has not."""
        if self.layer_norm not in options.LAYER_NORMS:
            raise ValueError(
                "layer_norm must be False, True, 'tfa' or 'tf1', "
                f"got {self.layer_norm!r}"
            )
        check_rates(zoneout_h=self.zoneout_h, zoneout_c=self.zoneout_c)
        options.check_limits(
            cell_clip=self.cell_clip,
            projection_clip=self.projection_clip,
        )
        options.check_epsilon(self.layer_norm_epsilon)
        if self.projection is not None:
            check_positive(projection=self.projection)
        elif self.projection_clip is not None:
            raise ValueError(
                f"projection_clip is {self.projection_clip!r}, but projection is None: "
                "there is nothing to clip"
            )
        for name, value in options.turned_on(self).items():
            if name not in self.options:
                allowed = ", ".join(self.options) or "none"
                raise ValueError(
                    f"{type(self).__name__} has no {name}, got {value!r}: neither its "
                    f"paper nor its equations provide for it; options that it has: "
                    f"{allowed}"
                )
        if options.around_equations(self) and (
            self.input_gates or tuple(self.state_names) != ("h", "c")
        ):
            raise ValueError(
                f"{type(self).__name__} has input_gates {self.input_gates!r} and "
                f"state_names {self.state_names!r}, but options other than cell_clip "
                "need () and ('h', 'c')"
            )

    def _checked_peepholes(self, peepholes):
        names = (
            peepholes if isinstance(peepholes, list | tuple | set | frozenset) else ()
        )
        chosen = [gate for gate in self.peephole_gates if gate in names]
        if len(chosen) != len(names) or isinstance(peepholes, str | None | bool):
            allowed = ", ".join(map(repr, self.peephole_gates)) or "no gate"
            raise ValueError(
                f"peepholes must be a tuple of distinct gates out of {allowed}, "
                f"got {peepholes!r}"
            )
        return tuple(chosen)

    def build(self, input_shape):
        """Create the weights for inputs of shape ``(batch, features)``."""
        super().build(input_shape)
        names = {gate: f"peephole_{gate}" for gate in self.peepholes}
        names |= {name: name for name in self.vectors}
        self.vector_weights = {
            short: self._add(
                name,
                (self.units,),
                clone_initializer(self.peephole_initializer),
                kind="peephole",
            )
            for short, name in names.items()
        }
        self._build_options()

    def _build_options(self):
        """Create the weights of the options."""
        width, ones = len(self.gates) * self.units, {}
        if self.layer_norm:
            ones = {"kernel_gamma": width, "recurrent_gamma": width}
            ones = {"gates_gamma": width} if self.layer_norm == "tf1" else ones
            ones["state_gamma"] = self.units
        self.option_weights = {
            name: self.add_weight(shape=(size,), name=name, initializer="ones")
            for name, size in ones.items()
        }
        if self.layer_norm:
            self.option_weights["state_beta"] = self.add_weight(
                shape=(self.units,), name="state_beta", initializer="zeros"
            )
        if self.projection is not None:
            self.option_weights["projection_kernel"] = self._add(
                "projection_kernel",
                (self.units, self.output_size),
                self.projection_initializer,
                kind="kernel",
            )

    def _cast_option_weights(self):
        weights = self.option_weights.items()
        return {name: ops.cast(value, self.compute_dtype) for name, value in weights}

    def parameters(self):
        """Return the vectors, and the constants that the equations find in ``p``.

        The latter are what stands for a peephole that is not there, ``clip`` and
        ``norm``.
        """
        absent = set(self.peephole_gates) - set(self.peepholes)
        constants = options.in_cell(self, self._cast_option_weights())
        constants |= dict.fromkeys(absent, NoPeephole())
        return dict(self.vector_weights), constants

    def around(self):
        """Return what options do around the equations, an `options.Around`, or None."""
        if not options.around_equations(self):
            return None
        return options.Around(
            self.layer_norm,
            self.layer_norm_epsilon,
            self._cast_option_weights(),
            options.clip(self.projection_clip),
            self.zoneout,
            self._draw_zoneout,
        )

    def _draw_zoneout(self, state, rate):
        """Return a mask of zoneout for one step, 0 where the state is kept."""
        if keras.backend.backend() == "jax":
            raise ValueError(
                "on JAX, keras.layers.RNN cannot train a cell with zoneout, since a "
                "step cannot draw: use the layer, for instance PeepholeLSTM"
            )
        seed = self.zoneout_seed_generator
        return keras.random.dropout(ops.ones_like(state), rate, seed=seed)

    def initial_bias(self, shape, dtype=None):
        """Return the values that the biases start with: 1 for the forget gate."""
        bias = super().initial_bias(shape, dtype)
        if not self.unit_forget_bias:
            return bias
        gates = self.gates + self.input_gates
        is_forget = np.repeat([gate == "f" for gate in gates], self.units)
        return ops.where(is_forget, ops.ones_like(bias), bias)

    def get_config(self):
        """Return the arguments of the constructor."""
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "recurrent_activation": keras.activations.serialize(
                self.recurrent_activation
            ),
            "unit_forget_bias": self.unit_forget_bias,
            "peepholes": list(self.peepholes),
            "peephole_initializer": serialize(self.peephole_initializer),
            "peephole_regularizer": serialize(self.peephole_regularizer),
            "peephole_constraint": serialize(self.peephole_constraint),
            "tied_dropout": self.tied_dropout,
            **{name: getattr(self, name) for name in options.OFF},
            "layer_norm_epsilon": self.layer_norm_epsilon,
            "projection_clip": self.projection_clip,
            "projection_initializer": serialize(self.projection_initializer),
        }
