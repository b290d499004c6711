"""Loops for TensorFlow on a CPU.

`train` needs one matrix product a step forward, and one backward; automatic
differentiation of Keras's loop needs two and four. All inputs are multiplied with W
before the loop, and the gradient of U is one product after it. The loop keeps z and the
states of every step; going back in time, it computes the equations again from these,
and differentiates them automatically.

Keras's own loop takes one thing from here, `matmul_with_transposed_copy`. The native
kernel stands in for `run_loop`.
"""

import tensorflow as tf


def current_graph():
    """Return the graph that TensorFlow is building in this thread, or None."""
    return None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()


def in_xla():
    """Return whether XLA will compile the graph that TensorFlow is building.

    No function says so, but TensorFlow marks the branches that it is to lower itself.
    """
    tf.cond(tf.zeros([], tf.bool), lambda: tf.zeros([]), lambda: tf.ones([]))
    made = current_graph().get_operations()[::-1]
    branches = [op for op in made if op.type in ("If", "StatelessIf")]
    try:
        return not branches[0].get_attr("_lower_using_switch_merge")
    except (IndexError, ValueError):
        return True


def matmul_with_transposed_copy(U):
    """Return a ``matmul(h, U)`` for this U, which its gradient transposes only once."""
    U_transposed = tf.transpose(U)

    @tf.custom_gradient
    def matmul(h, U):
        def gradient(d):
            return tf.matmul(d, U_transposed), tf.matmul(h, d, transpose_a=True)

        return tf.matmul(h, U), gradient

    return matmul


def halves(sequences, *others):
    """Return two tuples: the halves of a batch; those of None are None."""
    batch = sizes(sequences)[0]
    counts = [batch // 2, batch - batch // 2]
    # split has a cheaper gradient than slices.
    parts = [
        (None, None) if x is None else tf.split(x, counts) for x in (sequences, *others)
    ]
    return zip(*parts, strict=True)


def train(
    recurrence,
    sequences,
    initial_state,
    mask,
    *,
    go_backwards,
    return_sequences,
    zero_output_for_mask,
):
    """Run a recurrence over sequences; results as from ``RNN.inner_loop``.

    Args:
        recurrence: `run_loop`, or what stands in for it, with its first arguments.
        sequences: ``(batch, time, features)``.
        initial_state: The states, each ``(batch, units)``.
        mask: Booleans ``(batch, time)``, or None.
        go_backwards: Whether to read from the end.
        return_sequences: Whether the outputs of all steps are wanted.
        zero_output_for_mask: Whether the output of a masked step is zero.
    """
    inputs, unmasked = _time_first(sequences, go_backwards), None
    if mask is not None:
        mask = tf.cast(mask, tf.bool)
        mask = mask if mask.shape.rank == 3 else mask[..., None]
        unmasked = _time_first(mask, go_backwards)
    outputs, states = recurrence(inputs, initial_state, unmasked, return_sequences)
    last = states[0]
    if mask is not None:
        # A masked step repeats the output before it, zeros before the first one; or it
        # outputs zeros, with zero_output_for_mask.
        shown = unmasked
        if not zero_output_for_mask:
            shown = tf.cumsum(tf.cast(unmasked, tf.int32)) > 0
        last = tf.where(shown[-1], last, tf.zeros_like(last))
        if outputs is not None:
            outputs = tf.where(shown, outputs, tf.zeros_like(outputs))
    outputs = last[:, None] if outputs is None else tf.transpose(outputs, (1, 0, 2))
    return last, outputs, states


def run_loop(prepared, state_names, inputs, states, unmasked, return_sequences):
    """Run a cell's steps.

    Args:
        prepared: The steps, a `Prepared`.
        state_names: Names of the states, the output first, which is multiplied with U.
        inputs: ``(time, batch, features)``.
        states: The initial states, each ``(batch, units)``.
        unmasked: Booleans ``(time, batch, 1)``, False where the states stay; or None.
        return_sequences: Whether the first state of every step is wanted.

    Returns:
        The first state of every step ``(time, batch, units)``, or None; and the list of
        final states.
    """
    products, vectors = prepared.products, list(prepared.vectors.values())
    projected = [_project(inputs, product) for product in products]
    U = [product.U for product in products]
    h_masks = [product.h_mask for product in products]
    unmasked_array = None if unmasked is None else _array_of(unmasked)

    def advance(t, z, states, vectors):
        p = prepared.p(dict(zip(prepared.vectors, vectors, strict=True)))
        values = prepared.equations(prepared.by_gate(z), p, states)
        new = [values[name] for name in state_names]
        if unmasked_array is None:
            return new
        keep = unmasked_array.read(t)
        return [tf.where(keep, a, b) for a, b in zip(new, states, strict=True)]

    def dropped(h):
        return [h if h_mask is None else h * h_mask for h_mask in h_masks]

    @tf.custom_gradient
    def recur(*arguments):
        parts = tf.nest.pack_sequence_as([projected, U, states, vectors], arguments)
        final, kept = _forward(advance, dropped, *parts)
        old_h = kept[0][0].stack()

        def gradient(*upstream):
            upstream = [tf.convert_to_tensor(each) for each in upstream]  # from sparse
            d_outputs = upstream[0] if return_sequences else None
            d_final = list(upstream[-len(states) :])
            kept_of = old_h, *kept
            return _backward(
                advance, dropped, h_masks, parts, kept_of, d_outputs, d_final
            )

        if not return_sequences:
            return tuple(final), gradient
        outputs = tf.concat([old_h[1:], final[0][None]], axis=0)
        return (outputs, *final), gradient

    results = recur(*tf.nest.flatten([projected, U, states, vectors]))
    return results[0] if return_sequences else None, list(results[-len(states) :])


def _forward(advance, dropped, projected, U, states, vectors):
    """Return the final states, and arrays: each step's old states, and its z's."""
    time, inputs = sizes(projected[0])[0], [_array_of(z) for z in projected]

    def forth(t, states, old_states, kept_z):
        h = dropped(states[0])
        z = [
            array.read(t) + tf.matmul(h_kept, u)
            for array, h_kept, u in zip(inputs, h, U, strict=True)
        ]
        old_states = _write(old_states, t, states)
        kept_z = _write(kept_z, t, z)
        return t + 1, advance(t, z, states, vectors), old_states, kept_z

    arrays = (
        [_array_like(x[None], time) for x in states],
        [_array_like(z, time) for z in projected],
    )
    _, final, old_states, kept_z = tf.while_loop(
        lambda t, *_: t < time, forth, (0, states, *arrays), maximum_iterations=time
    )
    return final, (old_states, kept_z)


def _backward(advance, dropped, h_masks, parts, kept, d_outputs, d_states):
    """Return the gradients of all parts, in their order.

    Args:
        advance: Function of t, z, states and vectors; returns the new states.
        dropped: Function of ``h``; returns what is multiplied with each U.
        h_masks: For each product the mask of the state that is multiplied with U, or
            None.
        parts: The arguments of `_forward`: projected, U, states, vectors.
        kept: The ``h`` of all steps, and what `_forward` kept.
        d_outputs: Gradient of the outputs of all steps, or None.
        d_states: Gradients of the final states.
    """
    projected, U, _, vectors = parts
    old_h, old_states, kept_z = kept
    time = sizes(projected[0])[0]
    d_outputs = None if d_outputs is None else _array_of(d_outputs)
    U_transposed = [tf.transpose(u) for u in U]  # once: faster products

    def back(t, d_states, sums, d_z_arrays):
        if d_outputs is not None:
            d_states = [d_states[0] + d_outputs.read(t), *d_states[1:]]
        z = [array.read(t) for array in kept_z]
        old = [array.read(t) for array in old_states]
        local = [tf.identity(vector) for vector in vectors]  # for the tape
        with tf.GradientTape() as tape:
            tape.watch([z, old, local])
            new = advance(t, z, old, local)
        d_z, d_old, d_local = tape.gradient(new, [z, old, local], d_states)
        d_z = _zeros_for_none(d_z, z)
        d_h = [tf.matmul(d, u) for d, u in zip(d_z, U_transposed, strict=True)]
        d_h = [
            d if h_mask is None else d * h_mask
            for d, h_mask in zip(d_h, h_masks, strict=True)
        ]
        d_old[0] = tf.add_n(d_h if d_old[0] is None else [d_old[0], *d_h])
        sums = [
            total if d is None else total + d
            for total, d in zip(sums, d_local, strict=True)
        ]
        d_old = _zeros_for_none(d_old, old)
        return t - 1, d_old, sums, _write(d_z_arrays, t, d_z)

    _, d_states, d_vectors, d_z = tf.while_loop(
        lambda t, *_: t >= 0,
        back,
        (
            time - 1,
            d_states,
            [tf.zeros_like(vector) for vector in vectors],
            [_array_like(z, time) for z in projected],
        ),
        maximum_iterations=time,
    )
    d_z, h = [array.stack() for array in d_z], dropped(old_h)
    d_U = [
        tf.matmul(_merge(a), _merge(b), transpose_a=True)
        for a, b in zip(h, d_z, strict=True)
    ]
    return *d_z, *d_U, *d_states, *d_vectors


def times_W(inputs, product):
    """Return ``(x ⊙ x_mask) W`` of all steps, from ``(time, batch, features)``."""
    inputs = tf.cast(inputs, product.W.dtype)  # from integers, too
    inputs = inputs if product.x_mask is None else inputs * product.x_mask
    time, batch, _ = sizes(inputs)
    z = tf.matmul(_merge(inputs), product.W)
    return tf.reshape(z, [time, batch, z.shape[-1]])


def _project(inputs, product):
    """Return ``(x ⊙ x_mask) W + b`` of all steps."""
    z = times_W(inputs, product)
    return z if product.b is None else tf.nn.bias_add(z, product.b)


def _time_first(x, go_backwards):
    """Return ``(batch, time, n)`` as ``(time, batch, n)``, in the order of reading."""
    x = tf.transpose(x, (1, 0, 2))
    return tf.reverse(x, [0]) if go_backwards else x


def _zeros_for_none(gradients, values):
    """Return the gradients, zeros like the values where there is none."""
    pairs = zip(gradients, values, strict=True)
    return [tf.zeros_like(value) if d is None else d for d, value in pairs]


def _write(arrays, t, values):
    """Return the arrays with ``values[n]`` written into array n at step t."""
    pairs = zip(arrays, values, strict=True)
    return [array.write(t, value) for array, value in pairs]


def _array_of(x):
    """Return an array of all ``x[t]``."""
    return _array_like(x, sizes(x)[0]).unstack(x)


def _array_like(x, size):
    """Return an array for ``size`` tensors like ``x[0]``."""
    return tf.TensorArray(
        x.dtype, size, element_shape=x.shape[1:], clear_after_read=False
    )


def _merge(x):
    """Return ``(time, batch, n)`` as ``(time·batch, n)``."""
    return tf.reshape(x, [-1, x.shape[-1]])


def sizes(x):
    """Return the sizes of all axes, numbers where they are known."""
    return [
        tf.shape(x)[axis] if size is None else size for axis, size in enumerate(x.shape)
    ]
