"""What a recurrent layer does at every step: its gates, candidate and states."""

import keras
import numpy as np
from keras import ops

from custom_layers.peephole_lstm import PeepholeLSTMCell


def trace_gates(layer, sequences, initial_state=None, mask=None):
    """Return all gates, the candidate and the states of a recurrent layer, at every step.

    The values are those of inference: nothing is dropped. The layer itself is left as it is; an unbuilt
    layer is built.

    Args:
        layer: A layer of this package, ``keras.layers.LSTM``, ``GRU`` or ``SimpleRNN``, or
            ``keras.layers.RNN`` around one of their cells. Of a ``Bidirectional``, trace the
            ``forward_layer`` and the ``backward_layer``.
        sequences: ``(batch, time, features)``.
        initial_state: List of states, each ``(batch, units)``, as the layer takes them. By default
            zeros; for a ``stateful`` layer the states that it holds now.
        mask: Boolean ``(batch, time)``; by default the mask that Keras attached to the sequences, if
            any. A masked step changes no state.

    Returns:
        Dict of NumPy arrays ``(batch, time, units)``, by name:

        - LSTM and its kin: gates ``"i"``, ``"f"``, ``"o"``, then ``"candidate"``, ``"c"``, ``"h"``; the
          coupled LSTM has no ``"i"``, which is 1 − f;
        - depth-gated LSTM: the same for each level, ``"f_1"``, …, with the gate ``"d_2"``, …; ``"c"`` and
          ``"h"`` are those of the top level;
        - GRU: the gates ``"z"`` and ``"r"``, ``"candidate"``, ``"h"``;
        - Clockwork RNN: ``"active"``, 1 where a module ticked and 0 elsewhere, ``"candidate"``, ``"h"``;
        - SimpleRNN: ``"candidate"`` and ``"h"``, which are equal.

        The steps come in the order of reading: with ``go_backwards`` the first is the sequence's last.
        At a masked step ``c`` and ``h`` are those of the step before, and all else is NaN, since nothing
        is computed. ``h`` is the state: a layer's output differs from it only at masked steps, with
        ``zero_output_for_mask`` and before the first step that is not masked, where Keras puts zeros.
        Half precision comes as float32.

    Raises:
        ValueError: The layer has no such cell, or sequences, states or mask have other shapes.

    Example:
    >>> import keras, numpy as np
    >>> layer = keras.layers.LSTM(4)
    >>> x = np.ones((2, 5, 3), "float32")
    >>> traces = trace_gates(layer, x)
    >>> {name: values.shape for name, values in traces.items() if name in ("f", "h")}
    {'f': (2, 5, 4), 'h': (2, 5, 4)}
    >>> bool(np.allclose(traces["h"][:, -1], keras.ops.convert_to_numpy(layer(x)), atol=1e-6))
    True
    """
    step, names = _step_of(layer)
    if len(np.shape(sequences)) != 3 or 0 in np.shape(sequences):
        raise ValueError(
            f"sequences must have shape (batch, time, features), got shape {tuple(np.shape(sequences))}"
        )
    batch, time, _ = np.shape(sequences)
    if mask is not None:
        mask = ops.convert_to_numpy(mask).astype(bool)
        if mask.shape != (batch, time):
            raise ValueError(
                f"mask must have shape {(batch, time)}, got shape {mask.shape}"
            )
    if not layer.built:
        layer.build(tuple(np.shape(sequences)))
    states = _checked_states(layer, initial_state, batch)
    trace = _Trace(layer, step, names)(sequences, states, sequences_mask=mask)
    return {
        name: _to_numpy(values) for name, values in trace.items() if name != "clock"
    }


class _Trace(keras.layers.Layer):
    """The loop over time: a layer, so that Keras treats weights and masks as for the traced layer."""

    def __init__(self, layer, step, names):
        super().__init__(dtype=layer.dtype_policy)
        self.step, self.names = step, tuple(names)
        self.go_backwards = layer.go_backwards
        self.supports_masking = True

    def call(
        self, sequences, states, sequences_mask=None
    ):  # so named, Keras fills it in
        mask = sequences_mask
        steps = []
        times = range(sequences.shape[1])
        for t in reversed(times) if self.go_backwards else times:
            values = self.step(sequences[:, t], states)
            if mask is not None:
                held = dict(zip(self.names, states))
                values = {
                    name: ops.where(mask[:, t, None], value, held.get(name, np.nan))
                    for name, value in values.items()
                }
            states = [values[name] for name in self.names]
            if self.names[0] != "h":  # a stack: its top level, under plain names
                values = values | {
                    "h": values[self.names[0]],
                    "c": values[self.names[1]],
                }
            steps.append(values)
        return {
            name: ops.stack([values[name] for values in steps], axis=1)
            for name in steps[0]
        }


def _step_of(layer):
    """Return the function of inputs and states that traces one step, and the names of the states."""
    cell = getattr(layer, "cell", None) if isinstance(layer, keras.layers.RNN) else None
    if hasattr(cell, "trace"):
        return cell.trace, getattr(cell, "state_names", ("h", "clock"))
    if type(cell) is keras.layers.LSTMCell:
        return lambda inputs, states: _as_peephole(cell).trace(inputs, states), (
            "h",
            "c",
        )
    if type(cell) is keras.layers.GRUCell:
        return lambda inputs, states: _gru(cell, inputs, *states), ("h",)
    if type(cell) is keras.layers.SimpleRNNCell:
        return lambda inputs, states: _simple(cell, inputs, *states), ("h",)
    got = type(layer).__name__ + (
        f" of {type(cell).__name__}" if cell is not None else ""
    )
    hint = ""
    if isinstance(layer, keras.layers.Bidirectional):
        hint = "; trace its forward_layer and its backward_layer"
    raise ValueError(
        "layer must be a recurrent layer of custom_layers, or keras.layers.LSTM, GRU or SimpleRNN, or "
        f"keras.layers.RNN around one of their cells, got {got}{hint}"
    )


def _as_peephole(cell):
    """Return Keras's LSTM cell as the peephole cell without peepholes that shares its weights."""
    twin = PeepholeLSTMCell(
        cell.units,
        cell.activation,
        cell.recurrent_activation,
        peepholes=(),
        dtype=cell.dtype_policy,
    )
    twin.kernel, twin.recurrent_kernel, twin.bias = (
        cell.kernel,
        cell.recurrent_kernel,
        cell.bias,
    )
    return twin


def _gru(cell, inputs, h):
    """Take one step of ``keras.layers.GRUCell``, in both versions of Cho et al. 2014."""
    σ, φ = cell.recurrent_activation, cell.activation
    W_z, W_r, W_h = ops.split(ops.convert_to_tensor(cell.kernel), 3, axis=-1)
    U_z, U_r, U_h = ops.split(ops.convert_to_tensor(cell.recurrent_kernel), 3, axis=-1)
    b = b_rec = (0.0, 0.0, 0.0)
    if cell.use_bias:
        rows = ops.reshape(ops.convert_to_tensor(cell.bias), (-1, 3, cell.units))
        b = rows[0]
        b_rec = rows[1] if cell.reset_after else b_rec
    z = σ(ops.matmul(inputs, W_z) + b[0] + ops.matmul(h, U_z) + b_rec[0])
    r = σ(ops.matmul(inputs, W_r) + b[1] + ops.matmul(h, U_r) + b_rec[1])
    if cell.reset_after:
        heard = r * (ops.matmul(h, U_h) + b_rec[2])
    else:
        heard = ops.matmul(r * h, U_h)
    candidate = φ(ops.matmul(inputs, W_h) + b[2] + heard)
    return {"z": z, "r": r, "candidate": candidate, "h": z * h + (1 - z) * candidate}


def _simple(cell, inputs, h):
    """Take one step of ``keras.layers.SimpleRNNCell``."""
    z = ops.matmul(inputs, cell.kernel) + ops.matmul(h, cell.recurrent_kernel)
    candidate = cell.activation(z + cell.bias if cell.use_bias else z)
    return {"candidate": candidate, "h": candidate}


def _checked_states(layer, states, batch):
    """Return the states to start from, or raise ValueError."""
    if states is None and layer.stateful and layer.states is not None:
        states = layer.states
    if states is None:
        states = layer.get_initial_state(batch)
    states = list(states) if isinstance(states, (list, tuple)) else [states]
    sizes = (
        layer.state_size
        if isinstance(layer.state_size, (list, tuple))
        else [layer.state_size]
    )
    wanted = [(batch, size) for size in sizes]
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
