"""What a recurrent layer does at every step: its gates, candidate and states."""

import functools
from collections.abc import Sequence

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from custom_layers.cells.peephole_lstm import PeepholeLSTMCell
from custom_layers.engine.prepared import NoPeephole, Prepared, Product, unchanged
from custom_layers.engine.recurrent_cell import RecurrentCell


def trace_gates(
    layer: keras.layers.Layer,
    sequences: npt.ArrayLike,
    initial_state: Sequence[npt.ArrayLike] | npt.ArrayLike | None = None,
    mask: npt.ArrayLike | None = None,
) -> dict[str, npt.NDArray[np.floating]]:
    """Return all gates, the candidate and the states of a layer, at every step.

    The values are those of inference: nothing is dropped. The layer itself is left as
    it is; an unbuilt layer is built.

    Args:
        layer: A layer of this package, ``keras.layers.LSTM``, ``GRU`` or ``SimpleRNN``,
            or ``keras.layers.RNN`` around one of their cells. Of a ``Bidirectional``,
            trace the ``forward_layer`` and the ``backward_layer``.
        sequences: ``(batch, time, features)``.
        initial_state: List of states, each ``(batch, units)``, as the layer takes them.
            By default zeros; for a ``stateful`` layer the states that it holds now.
        mask: Boolean ``(batch, time)``; by default the mask that Keras attached to the
            sequences, if any. A masked step changes no state.

    Returns:
        Dict of NumPy arrays ``(batch, time, units)``, by name:

        - LSTM and its kin: gates ``"i"``, ``"f"``, ``"o"``, then ``"g"``, ``"c"``,
          ``"h"``; the coupled LSTM has no ``"i"``, which is 1 − f;
        - depth-gated LSTM: the same for each level, ``"f_1"``, …, with the gate
          ``"d_2"``, …; ``"c"`` and ``"h"`` are those of the top level;
        - GRU: the gates ``"z"`` and ``"r"``, ``"g"``, ``"h"``;
        - Clockwork RNN: ``"active"``, 1 where a module ticked and 0 elsewhere, ``"g"``,
          ``"h"``;
        - SimpleRNN: ``"g"`` and ``"h"``, which are equal.

        The steps come in the order of reading: with ``go_backwards`` the first is the
        sequence's last. At a masked step ``c`` and ``h`` are those of the step before,
        and all else is NaN, since nothing is computed. ``h`` is the state: a layer's
        output differs from it only at masked steps, with ``zero_output_for_mask`` and
        before the first step that is not masked, where Keras puts zeros. Half precision
        comes as float32.

    Raises:
        ValueError: The layer has no such cell, or sequences, states or mask have other
            shapes.

    Example:
    >>> import keras, numpy as np
    >>> layer = keras.layers.LSTM(4)
    >>> x = np.ones((2, 5, 3), "float32")
    >>> traces = trace_gates(layer, x)
    >>> {name: values.shape for name, values in traces.items() if name in ("f", "h")}
    {'f': (2, 5, 4), 'h': (2, 5, 4)}
    >>> last = keras.ops.convert_to_numpy(layer(x))
    >>> bool(np.allclose(traces["h"][:, -1], last, atol=1e-6))
    True
    """
    step, names = _step_of(layer)
    if len(np.shape(sequences)) != 3 or 0 in np.shape(sequences):
        raise ValueError(
            "sequences must have shape (batch, time, features), "
            f"got shape {tuple(np.shape(sequences))}"
        )
    batch, time, _ = np.shape(sequences)
    is_read = None if mask is None else ops.convert_to_numpy(mask).astype(bool)
    if is_read is not None and is_read.shape != (batch, time):
        raise ValueError(
            f"mask must have shape {(batch, time)}, got shape {is_read.shape}"
        )
    if not layer.built:
        layer.build(tuple(np.shape(sequences)))
    states = _checked_states(layer, initial_state, batch)
    trace = _Trace(layer, step, names)(sequences, states, sequences_mask=is_read)
    return {
        name: _to_numpy(values) for name, values in trace.items() if name != "clock"
    }


class _Trace(keras.layers.Layer):
    """The loop over time: a layer, so that Keras treats weights and masks as usual."""

    def __init__(self, layer, step, names):
        super().__init__(dtype=layer.dtype_policy)
        self.step, self.names = step, tuple(names)
        self.go_backwards = layer.go_backwards
        self.supports_masking = True

    def call(self, sequences, states, sequences_mask=None):  # so named, Keras fills it
        step, trace = self.step(), []
        held = dict(zip(self.names, states, strict=True))
        held |= {"h": states[0]} | ({"c": states[1]} if "c_1" in held else {})
        times = range(sequences.shape[1])
        for t in reversed(times) if self.go_backwards else times:
            values = step(sequences[:, t], [held[name] for name in self.names])
            if sequences_mask is not None:
                values = {
                    name: ops.where(
                        sequences_mask[:, t, None], value, held.get(name, np.nan)
                    )
                    for name, value in values.items()
                }
            held = {name: values[name] for name in held}
            trace.append(values)
        return {
            name: ops.stack([values[name] for values in trace], axis=1)
            for name in trace[0]
        }


def _step_of(layer):
    """Return what prepares the step of a layer's cell, and the names of the states."""
    cell = layer.cell if isinstance(layer, keras.layers.RNN) else None
    if isinstance(cell, RecurrentCell):
        return lambda: cell.values, cell.state_names
    stock = {
        keras.layers.LSTMCell: (_lstm, ("h", "c")),
        keras.layers.GRUCell: (_gru, ("h",)),
        keras.layers.SimpleRNNCell: (_simple_rnn, ("h",)),
    }
    if type(cell) in stock:
        prepare, names = stock[type(cell)]
        return lambda: prepare(cell).values, names
    got = type(layer).__name__ + (f" of {type(cell).__name__}" if cell else "")
    hint = ""
    if isinstance(layer, keras.layers.Bidirectional):
        hint = "; trace its forward_layer and its backward_layer"
    raise ValueError(
        "layer must be a recurrent layer of custom_layers, or keras.layers.LSTM, GRU "
        f"or SimpleRNN, or keras.layers.RNN around one of their cells, got {got}{hint}"
    )


def _prepare(cell, gates, W, U, b, equations, **constants):
    """Return the step of a cell of Keras as a `Prepared`."""
    W, U = (ops.cast(weight, cell.compute_dtype) for weight in (W, U))
    b = None if b is None else ops.cast(b, cell.compute_dtype)
    σ, φ = getattr(cell, "recurrent_activation", None), cell.activation
    equations = functools.partial(equations, σ=σ, φ=φ)
    return Prepared(gates, [Product(None, W, b, None, U)], {}, constants, equations)


def _lstm(cell):
    """Return the step of ``keras.layers.LSTMCell``: without peepholes."""
    weights = cell.kernel, cell.recurrent_kernel, cell.bias
    gates, equations = PeepholeLSTMCell.gates, PeepholeLSTMCell.equations
    absent = dict.fromkeys(PeepholeLSTMCell.peephole_gates, NoPeephole())
    absent |= {"clip": unchanged, "norm": unchanged}
    return _prepare(cell, gates, *weights, equations, **absent)


def _gru(cell):
    """Return the step of ``keras.layers.GRUCell``, both versions of Cho et al."""
    W, U = (
        ops.cast(w, cell.compute_dtype) for w in (cell.kernel, cell.recurrent_kernel)
    )
    b = rec = ops.zeros((3 * cell.units,), cell.compute_dtype)
    if cell.use_bias:
        b = ops.cast(cell.bias, cell.compute_dtype)
        b, rec = (b[0], b[1]) if cell.reset_after else (b, rec)
    first = 2 * cell.units
    # Gates z, r, then the two parts of the candidate: of x, and of h.
    W = ops.concatenate([W, ops.zeros_like(W[:, : cell.units])], axis=-1)
    U_z_r, U_g = U[:, :first], U[:, first:]
    part = U_g if cell.reset_after else ops.zeros_like(U_g)
    U = ops.concatenate([U_z_r, ops.zeros_like(U_g), part], axis=-1)
    b = ops.concatenate([b[:first] + rec[:first], b[first:], rec[first:]])
    gates = ("z", "r", "x", "h")
    constants = {"U_g": U_g, "reset_after": cell.reset_after}
    return _prepare(cell, gates, W, U, b, _gru_equations, **constants)


def _gru_equations(z, p, states, σ, φ):
    """Cho et al. 2014, first version, which is cuDNN's; third without reset_after."""
    (h,) = states
    r = σ(z.r)
    g = φ(z.x + (r * z.h if p.reset_after else ops.matmul(r * h, p.U_g)))
    update = σ(z.z)
    return {"z": update, "r": r, "g": g, "h": update * h + (1 - update) * g}


def _simple_rnn(cell):
    """Return the step of ``keras.layers.SimpleRNNCell``."""
    weights = cell.kernel, cell.recurrent_kernel, cell.bias

    def equations(z, p, states, σ, φ):
        g = φ(z.g)
        return {"g": g, "h": g}

    return _prepare(cell, ("g",), *weights, equations)


def _checked_states(layer, states, batch):
    """Return the states to start from, or raise ValueError."""
    if states is None and layer.stateful and layer.states is not None:
        states = layer.states
    if states is None:
        states = layer.get_initial_state(batch)
    states = list(states) if isinstance(states, (list, tuple)) else [states]
    wanted = [(batch, size) for size in layer.state_size]
    shapes = [tuple(np.shape(state)) for state in states]
    if shapes != wanted:
        raise ValueError(
            f"initial_state must have shapes {wanted}, got shapes {shapes}"
        )
    return [
        ops.cast(ops.convert_to_tensor(state), layer.compute_dtype) for state in states
    ]


def _to_numpy(values):
    dtype = keras.backend.standardize_dtype(values.dtype)
    return ops.convert_to_numpy(
        values if dtype == "float64" else ops.cast(values, "float32")
    )
