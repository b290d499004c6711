"""The loop over time with which TensorFlow trains on a CPU: two products fewer a step, each way.

All inputs are multiplied with W before the loop, and the gradient of U is one product after it, where
automatic differentiation of a loop would take one small product a step and add them up. In the loop stay
the product of the state before with U, and the cell's equations. It keeps z and the states of every step;
going back in time, it computes the equations again from these, and differentiates them automatically.
"""

import keras
import tensorflow as tf


def in_graph_on_cpu():
    """Return whether TensorFlow is building a graph, for a CPU."""
    return not tf.executing_eagerly() and keras.distribution.list_devices()[0].startswith("cpu")


def inner_loop(layer, sequences, initial_state, mask, training):
    """Run the equations of a layer's cell, its `step`; arguments and results as in ``keras.layers.RNN``.

    Args:
        layer: A `RecurrentLayer`, whose cell has drawn its dropout masks.
        sequences: ``(batch, time, features)``.
        initial_state: The states, each ``(batch, units)``.
        mask: Booleans ``(batch, time)``, or None.
        training: Whether dropout is on.
    """
    cell = layer.cell
    inputs, unmasked = _time_first(sequences, layer.go_backwards), None
    if mask is not None:
        mask = tf.cast(mask, tf.bool)
        unmasked = _time_first(mask if mask.shape.rank == 3 else mask[..., None], layer.go_backwards)
    x_mask, W, h_mask, U, b, peepholes = cell.layout(None, initial_state[0], training)

    def step(z, states, constants):
        values = cell.step(cell.by_name(z) | dict(zip(peepholes, constants)), states)
        return [values[name] for name in cell.state_names]

    outputs, states = _run(
        step,
        _project(inputs, x_mask, W, b),
        U,
        h_mask,
        initial_state,
        list(peepholes.values()),
        unmasked,
        layer.return_sequences,
    )
    last = states[0]
    if mask is not None:  # at a masked step the output is the one before, at first zeros; or always zeros
        if layer.zero_output_for_mask:
            shown = unmasked
        else:
            shown = tf.cumsum(tf.cast(unmasked, tf.int32)) > 0
        last = tf.where(shown[-1], last, tf.zeros_like(last))
        if outputs is not None:
            outputs = tf.where(shown, outputs, tf.zeros_like(outputs))
    outputs = last[:, None] if outputs is None else tf.transpose(outputs, (1, 0, 2))
    return last, outputs, states


def halves(sequences, *others):
    """Return two tuples: the first and the second half of a batch; halves of None are None."""
    batch = _sizes(sequences)[0]
    sizes = [batch // 2, batch - batch // 2]  # a split has a cheaper gradient than two slices
    parts = [(None, None) if x is None else tf.split(x, sizes) for x in (sequences, *others)]
    return zip(*parts)


def _time_first(x, go_backwards):
    """Return ``(batch, time, n)`` as ``(time, batch, n)``, in the order of reading."""
    x = tf.transpose(x, (1, 0, 2))
    return tf.reverse(x, [0]) if go_backwards else x


def _project(inputs, mask, W, b):
    """Return ``x W + b`` of all steps.

    Args:
        inputs: ``(time, batch, features)``.
        mask: Dropout mask of the inputs, or None.
        W: ``(features, G·units)``; where masks differ from gate to gate ``(G, features, units)``.
        b: ``(G·units,)``, or ``(G, 1, units)``, or None.

    Returns:
        ``(time, batch, G·units)``, or ``(time, G, batch, units)``.
    """
    by_gate = W.shape.rank == 3
    if by_gate:
        inputs = inputs[None] if mask is None else inputs * mask[:, None]
    elif mask is not None:
        inputs = inputs * mask
    *_, time, batch, _ = _sizes(inputs)
    z = tf.matmul(_merge(inputs), W)
    if b is not None:
        z = z + b if by_gate else tf.nn.bias_add(z, b)
    z = tf.reshape(z, [*z.shape[:-2], time, batch, z.shape[-1]])
    return tf.transpose(z, (1, 0, 2, 3)) if by_gate else z


def _run(step, z, U, h_mask, states, constants, unmasked, return_sequences):
    """Run the recurrence.

    Args:
        step: Function of one step's z, the states and the constants; returns the new states.
        z: ``x W + b`` of all steps, as from `_project`.
        U: ``(units, G·units)``, or ``(G, units, units)``.
        h_mask: Dropout mask of the state that is multiplied with U, or None.
        states: The initial states, each ``(batch, units)``; the first is multiplied with U.
        constants: Tensors that ``step`` needs at every step, and whose gradient is wanted.
        unmasked: Booleans ``(time, batch, 1)``, False where the states stay; or None.
        return_sequences: Whether the first state of every step is wanted.

    Returns:
        The first state of every step ``(time, batch, units)``, or None; and the list of final states.
    """
    number, time = len(states), _sizes(z)[0]
    unmasked_array = None if unmasked is None else _array_like(unmasked, time).unstack(unmasked)

    def dropped(h):
        return h if h_mask is None else h * h_mask

    def advance(t, z, states, constants):
        new = step(z, states, constants)
        if unmasked_array is None:
            return new
        return [tf.where(unmasked_array.read(t), value, old) for value, old in zip(new, states)]

    @tf.custom_gradient
    def recur(z, U, *rest):
        states, constants = list(rest[:number]), list(rest[number:])
        projected = _array_like(z, time).unstack(z)

        def forth(t, states, old_states, zs):
            z = projected.read(t) + tf.matmul(dropped(states[0]), U)
            old_states = [array.write(t, state) for array, state in zip(old_states, states)]
            return t + 1, advance(t, z, states, constants), old_states, zs.write(t, z)

        arrays = [_array_like(state[None], time) for state in states]
        _, final, old_states, zs = tf.while_loop(
            lambda t, *_: t < time,
            forth,
            (0, states, arrays, _array_like(z, time)),
            maximum_iterations=time,
        )

        def gradient(*upstream):
            d_outputs, d_final = upstream[:-number], list(upstream[-number:])
            d_outputs = [_array_like(d, time).unstack(d) for d in d_outputs]
            U_transposed = tf.linalg.matrix_transpose(U)  # once: products with it are then faster

            def back(t, d_states, sums, d_zs):
                if d_outputs:
                    d_states = [d_states[0] + d_outputs[0].read(t), *d_states[1:]]
                z, *old = [array.read(t) for array in (zs, *old_states)]
                local = [tf.identity(constant) for constant in constants]  # in this loop, for the tape
                with tf.GradientTape() as tape:
                    tape.watch([z, *old, *local])
                    new = advance(t, z, old, local)
                d_z, *d = tape.gradient(new, [z, *old, *local], d_states)
                d_h = dropped(tf.matmul(d_z, U_transposed))
                d_h = d_h if d_h.shape.rank == 2 else tf.reduce_sum(d_h, axis=0)
                d[0] = d_h if d[0] is None else d[0] + d_h
                d_states = [tf.zeros_like(s) if d_s is None else d_s for s, d_s in zip(old, d)]
                sums = [a if d_a is None else a + d_a for a, d_a in zip(sums, d[number:])]
                return t - 1, d_states, sums, d_zs.write(t, d_z)

            zeros = [tf.zeros_like(constant) for constant in constants]
            _, d_states, d_constants, d_zs = tf.while_loop(
                lambda t, *_: t >= 0,
                back,
                (time - 1, d_final, zeros, _array_like(z, time)),
                maximum_iterations=time,
            )
            d_z, h = d_zs.stack(), old_states[0].stack()
            if d_z.shape.rank == 4:
                h, d_z_rows = h[None] * h_mask[:, None], tf.transpose(d_z, (1, 0, 2, 3))
            else:
                h, d_z_rows = dropped(h), d_z
            d_U = tf.matmul(_merge(h), _merge(d_z_rows), transpose_a=True)
            return d_z, d_U, *d_states, *d_constants

        if not return_sequences:
            return tuple(final), gradient
        outputs = tf.concat([old_states[0].stack()[1:], final[0][None]], axis=0)
        return (outputs, *final), gradient

    results = recur(z, U, *states, *constants)
    return results[0] if return_sequences else None, list(results[-number:])


def _array_like(x, size):
    """Return an array for ``size`` tensors like ``x[0]``."""
    return tf.TensorArray(x.dtype, size, element_shape=x.shape[1:], clear_after_read=False)


def _merge(x):
    """Return ``(…, time, batch, n)`` as ``(…, time·batch, n)``."""
    return tf.reshape(x, [*x.shape[:-3], -1, x.shape[-1]])


def _sizes(x):
    """Return the sizes of all axes, numbers where they are known."""
    return [tf.shape(x)[axis] if size is None else size for axis, size in enumerate(x.shape)]
