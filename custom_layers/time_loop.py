"""The loop over time with which TensorFlow trains on a CPU: one product a step each way, not 2 and 4.

All inputs are multiplied with W before the loop, and the gradient of U is one product after it, where
automatic differentiation of a loop would take one small product a step and add them up. In the loop stay
the product of the state before with U, and the cell's equations. It keeps z and the states of every step;
going back in time, it computes the equations again from these, and differentiates them automatically.

Cells in Keras's own loop take one thing from here, `matmul_with`.
"""

import keras
import tensorflow as tf


def in_graph_on_cpu():
    """Return whether TensorFlow is building a graph, for a CPU."""
    return not tf.executing_eagerly() and keras.distribution.list_devices()[
        0
    ].startswith("cpu")


def matmul_with(U):
    """Return a ``matmul(h, U)`` for this U; its gradient is faster, with U transposed before the loop."""
    U_transposed = tf.transpose(U)

    @tf.custom_gradient
    def matmul(h, U):
        def gradient(d):
            return tf.matmul(d, U_transposed), tf.matmul(h, d, transpose_a=True)

        return tf.matmul(h, U), gradient

    return matmul


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
        unmasked = _time_first(
            mask if mask.shape.rank == 3 else mask[..., None], layer.go_backwards
        )
    products, peepholes = cell.layout(None, initial_state[0], training)

    def step(z, states, constants):
        values = cell.step(cell.by_name(z) | dict(zip(peepholes, constants)), states)
        return [values[name] for name in cell.state_names]

    outputs, states = _run(
        step,
        [_project(inputs, product) for product in products],
        [product.U for product in products],
        [product.h_mask for product in products],
        initial_state,
        list(peepholes.values()),
        unmasked,
        layer.return_sequences,
    )
    last = states[0]
    if (
        mask is not None
    ):  # at a masked step the output is the one before, at first zeros; or always zeros
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
    sizes = [
        batch // 2,
        batch - batch // 2,
    ]  # a split has a cheaper gradient than two slices
    parts = [
        (None, None) if x is None else tf.split(x, sizes) for x in (sequences, *others)
    ]
    return zip(*parts)


def _time_first(x, go_backwards):
    """Return ``(batch, time, n)`` as ``(time, batch, n)``, in the order of reading."""
    x = tf.transpose(x, (1, 0, 2))
    return tf.reverse(x, [0]) if go_backwards else x


def _project(inputs, product):
    """Return a product's ``(x ⊙ x_mask) W + b`` of all steps; inputs ``(time, batch, features)``."""
    inputs = tf.cast(inputs, product.W.dtype)  # from integers, too
    inputs = inputs if product.x_mask is None else inputs * product.x_mask
    time, batch, _ = _sizes(inputs)
    z = tf.matmul(_merge(inputs), product.W)
    z = z if product.b is None else tf.nn.bias_add(z, product.b)
    return tf.reshape(z, [time, batch, z.shape[-1]])


def _run(step, projected, U, h_masks, states, constants, unmasked, return_sequences):
    """Run the recurrence.

    Args:
        step: Function of one step's z, a list, the states and the constants; returns the new states.
        projected: For each product ``x W + b`` of all steps, as from `_project`.
        U: For each product its U.
        h_masks: For each product the dropout mask of the state that is multiplied with U, or None.
        states: The initial states, each ``(batch, units)``; the first is multiplied with U.
        constants: Tensors that ``step`` needs at every step, and whose gradient is wanted.
        unmasked: Booleans ``(time, batch, 1)``, False where the states stay; or None.
        return_sequences: Whether the first state of every step is wanted.

    Returns:
        The first state of every step ``(time, batch, units)``, or None; and the list of final states.
    """
    count, number, time = len(U), len(states), _sizes(projected[0])[0]
    unmasked_array = None if unmasked is None else _array_of(unmasked)

    def dropped(h):
        return [h if h_mask is None else h * h_mask for h_mask in h_masks]

    def advance(t, z, states, constants):
        new = step(z, states, constants)
        if unmasked_array is None:
            return new
        return [
            tf.where(unmasked_array.read(t), value, old)
            for value, old in zip(new, states)
        ]

    @tf.custom_gradient
    def recur(*arguments):
        arguments = list(arguments)
        projected, U = arguments[:count], arguments[count : 2 * count]
        states, constants = (
            arguments[2 * count :][:number],
            arguments[2 * count :][number:],
        )
        inputs = [_array_of(z) for z in projected]

        def forth(t, states, old_states, kept_z):
            h = dropped(states[0])
            z = [
                array.read(t) + tf.matmul(h_kept, u)
                for array, h_kept, u in zip(inputs, h, U)
            ]
            old_states = [
                array.write(t, state) for array, state in zip(old_states, states)
            ]
            kept_z = [array.write(t, each) for array, each in zip(kept_z, z)]
            return t + 1, advance(t, z, states, constants), old_states, kept_z

        arrays = (
            [_array_like(x[None], time) for x in states],
            [_array_like(z, time) for z in projected],
        )
        _, final, old_states, kept_z = tf.while_loop(
            lambda t, *_: t < time, forth, (0, states, *arrays), maximum_iterations=time
        )

        def gradient(*upstream):
            d_outputs, d_final = upstream[:-number], list(upstream[-number:])
            d_outputs = [_array_of(d) for d in d_outputs]
            U_transposed = [
                tf.transpose(u) for u in U
            ]  # once: products with it are then faster

            def back(t, d_states, sums, d_z_arrays):
                if d_outputs:
                    d_states = [d_states[0] + d_outputs[0].read(t), *d_states[1:]]
                z, old = (
                    [array.read(t) for array in arrays]
                    for arrays in (kept_z, old_states)
                )
                local = [
                    tf.identity(constant) for constant in constants
                ]  # in this loop, for the tape
                with tf.GradientTape() as tape:
                    tape.watch([z, old, local])
                    new = advance(t, z, old, local)
                d_z, d_old, d_local = tape.gradient(new, [z, old, local], d_states)
                d_z = [tf.zeros_like(x) if d is None else d for x, d in zip(z, d_z)]
                d_h = [tf.matmul(d, u) for d, u in zip(d_z, U_transposed)]
                d_h = [
                    d if h_mask is None else d * h_mask
                    for d, h_mask in zip(d_h, h_masks)
                ]
                d_old[0] = tf.add_n(d_h if d_old[0] is None else [d_old[0], *d_h])
                d_old = [
                    tf.zeros_like(x) if d is None else d for x, d in zip(old, d_old)
                ]
                sums = [
                    total if d is None else total + d for total, d in zip(sums, d_local)
                ]
                d_z_arrays = [array.write(t, d) for array, d in zip(d_z_arrays, d_z)]
                return t - 1, d_old, sums, d_z_arrays

            zeros = [tf.zeros_like(constant) for constant in constants]
            _, d_states, d_constants, d_z = tf.while_loop(
                lambda t, *_: t >= 0,
                back,
                (time - 1, d_final, zeros, [_array_like(z, time) for z in projected]),
                maximum_iterations=time,
            )
            d_z, h = [array.stack() for array in d_z], dropped(old_states[0].stack())
            d_U = [
                tf.matmul(_merge(a), _merge(b), transpose_a=True)
                for a, b in zip(h, d_z)
            ]
            return *d_z, *d_U, *d_states, *d_constants

        if not return_sequences:
            return tuple(final), gradient
        outputs = tf.concat([old_states[0].stack()[1:], final[0][None]], axis=0)
        return (outputs, *final), gradient

    results = recur(*projected, *U, *states, *constants)
    return results[0] if return_sequences else None, list(results[-number:])


def _array_of(x):
    """Return an array of all ``x[t]``."""
    return _array_like(x, _sizes(x)[0]).unstack(x)


def _array_like(x, size):
    """Return an array for ``size`` tensors like ``x[0]``."""
    return tf.TensorArray(
        x.dtype, size, element_shape=x.shape[1:], clear_after_read=False
    )


def _merge(x):
    """Return ``(time, batch, n)`` as ``(time·batch, n)``."""
    return tf.reshape(x, [-1, x.shape[-1]])


def _sizes(x):
    """Return the sizes of all axes, numbers where they are known."""
    return [
        tf.shape(x)[axis] if size is None else size for axis, size in enumerate(x.shape)
    ]
