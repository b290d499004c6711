"""Base of the gated cells: σ, peepholes, the forget gate's bias."""

from collections.abc import Collection
from typing import Any

import keras
import numpy as np
from keras import ops

from custom_layers.engine.prepared import NoPeephole
from custom_layers.engine.recurrent_cell import (
    Identifier,
    RecurrentCell,
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
        ValueError: ``units`` is not a positive integer, a rate lies outside [0, 1), or
            ``peepholes`` is not a subset of `peephole_gates`.
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

    def parameters(self):
        """Return the vectors, and what stands for a peephole that is not there."""
        absent = set(self.peephole_gates) - set(self.peepholes)
        return dict(self.vector_weights), dict.fromkeys(absent, NoPeephole())

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
        }
