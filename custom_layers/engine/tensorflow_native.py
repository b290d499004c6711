"""The native kernel for training on a CPU, as TensorFlow sees it.

The operators in ``native/`` compute the recurrence and its gradients, of one LSTM or of
one level of a depth-gated stack. The products with W, and the gradients of W and U,
stay outside: each is two large products, of the early and of the late steps. A
derivative of the gradients is that of a plain loop.
"""

import functools
import os
import platform
import threading

import tensorflow as tf

from custom_layers.engine.native import library
from custom_layers.engine.tensorflow_cpu import sizes, times_W

VARIABLE = "CUSTOM_LAYERS_NATIVE"
MOST_THREADS = 1024  # the cores that the C library's sets of cores can hold
CHOICES = {"0": None, "1": 0} | {name: of[0] for name, of in library.PATHS.items()}


def obstacle():
    """Return why this process cannot use the kernel, or None.

    Raises:
        ValueError: A variable of the environment means nothing.
    """
    threads()
    choice = _choice()
    if choice is None:
        return f"{VARIABLE} is 0"
    if platform.system() != "Linux":
        return f"the system is {platform.system()}, it needs Linux"
    if not _loaded:
        path = library.find()
        if path is None:
            return "it is not built: run `python -m custom_layers.build_native`"
        if problem := load_error(path):
            return problem
    if choice and not _has(choice):
        return f"this processor lacks {VARIABLE}={os.environ[VARIABLE]}"
    return None


def _choice():
    """Return the number of the path to use, 0 for the best, or None for no kernel."""
    value = os.environ.get(VARIABLE) or "1"
    if value not in CHOICES:
        raise ValueError(
            f"{VARIABLE} must be one of {', '.join(CHOICES)}, got {value!r}"
        )
    return CHOICES[value]


def threads():
    """Return how many threads a call may use: cores, and what TensorFlow may use."""
    if value := os.environ.get(f"{VARIABLE}_THREADS"):
        if not value.isdecimal() or not 1 <= int(value) <= MOST_THREADS:
            raise ValueError(
                f"{VARIABLE}_THREADS must be an integer from 1 to {MOST_THREADS}, "
                f"got {value!r}"
            )
        return int(value)
    affinity = getattr(os, "sched_getaffinity", None)  # Linux has it
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    intra = tf.config.threading.get_intra_op_parallelism_threads()
    inter = tf.config.threading.get_inter_op_parallelism_threads()
    return min(cores, max(intra, inter)) if intra and inter else cores


# The operators and the library's path, once there are: TensorFlow cannot load others.
_loaded: list = []
_loading = threading.Lock()


def load_error(path):
    """Load the library ``path`` if none is loaded yet; return why not, or None."""
    try:
        with _loading:
            if not _loaded:
                _loaded[:] = tf.load_op_library(str(path)), path
    except (tf.errors.OpError, OSError) as error:
        text = str(getattr(error, "message", error)).splitlines()[0]
        return f"its library does not load: {text}"
    return None


def operators():
    """Return the operators of the library, which is loaded."""
    return _loaded[0]


def path_name():
    """Return the name of the path that runs, in a process without an obstacle."""
    names = {number: name for name, (number, *_) in library.PATHS.items()}
    return names[_choice() or max(filter(_has, names))]


def library_name():
    """Return digits of two hashes that the library has: what it is of, its compiler."""
    return f"{_loaded[1].parent.name[:4]}-{_loaded[1].stem[:4]}"


@functools.cache
def _has(path):
    """Return whether the processor, and this library, have a path, by its number."""
    try:
        with tf.init_scope():  # not in the graph that is being built
            z, state, none = tf.zeros([0, 0, 4]), tf.zeros([0, 1]), tf.zeros([0])
            U_and_b, keep = (tf.zeros([1, 4]), tf.zeros([4])), tf.zeros([0], tf.bool)
            arguments = z, z, *U_and_b, state, state, none, none, keep, *[none] * 3
            operators().custom_layers_lstm(*arguments, path=path, threads=1)
    except tf.errors.UnimplementedError:
        return False
    return True


def run(levels, inputs, states, unmasked, return_sequences):
    """Run an LSTM, or a stack of them; what is not said is as in `tensorflow_cpu`.

    Args:
        levels: The steps of each level, a list of `Prepared`, from the bottom up.
        inputs: As in `tensorflow_cpu.run_loop`.
        states: h and c of each level, from the top down.
        unmasked: As in `tensorflow_cpu.run_loop`.
        return_sequences: As in `tensorflow_cpu.run_loop`.
    """
    top, below, final = len(levels) - 1, None, []
    for number, level in enumerate(levels):
        own = states[2 * (top - number) :][:2]
        wanted = return_sequences or number < top, number < top
        inputs, below, *last = _run(level, inputs, own, below, unmasked, *wanted)
        final = [*last, *final]
    return inputs, final


def _run(level, inputs, states, below, unmasked, with_all_h, with_all_c):
    """Run one level.

    Args:
        level: Its steps, a `Prepared`.
        inputs: ``(time, batch, features)``.
        states: The initial h and c, each ``(batch, units)``.
        below: The c of the level below at all steps, ``(time, batch, units)``, or None.
        unmasked: Booleans ``(time, batch, 1)``, or None.
        with_all_h: Whether the h of all steps is wanted.
        with_all_c: Whether the c of all steps is wanted.

    Returns:
        h and c of all steps ``(time, batch, units)``, each None if not wanted; and of
        the last step.
    """
    options = {"path": _choice(), "threads": threads()}
    names, linked = tuple(level.vectors), below is not None
    products, of_d = _without_d(level.products) if linked else (level.products, None)
    h_masks = [product.h_mask for product in products]
    m = _or_nothing(None if h_masks[0] is None else tf.stack(h_masks))
    keep = tf.zeros([0], tf.bool) if unmasked is None else unmasked[..., 0]

    def shown(all_h, all_c):
        pairs = (all_h, with_all_h), (all_c, with_all_c)
        return [x for x, is_wanted in pairs if is_wanted]

    def plain(early, late, U, b, h, c, z_d, below, b_d, *vectors):
        z = tf.concat([early, late], axis=0) + b
        d = [z_d + b_d, below] if linked else []
        states = _plain_loop(level, h_masks, z, U, [h, c], d, vectors, unmasked)
        return [*shown(*states), *(x[-1] for x in states)]

    @tf.custom_gradient
    def recur(*arguments):
        early, late, U, b, h, c, z_d, below, b_d, *vectors = arguments
        vector = dict(zip(names, vectors, strict=True))
        p = _rows([vector.get(gate) for gate in "ifo"])
        v = _rows([vector["q"], vector["r"], b_d] if linked else [])
        all_h, all_c, *kept, d = operators().custom_layers_lstm(
            early, late, U, b, h, c, p, m, keep, v, z_d, below, **options
        )
        for x in (all_h, all_c):
            x.set_shape([None, *h.shape])

        def gradient(*upstream):
            @tf.custom_gradient
            def backward(*all_arguments):
                d_whole = list(all_arguments[len(arguments) : -2])
                d_all_h = d_whole.pop(0) if with_all_h else None
                d_all = _or_nothing(d_all_h), _or_nothing(*d_whole or [None])
                of_grad = *kept, all_c, *d_all, *all_arguments[-2:], v, d, below
                *d_z, d_h, d_c, d_p, d_b, d_z_d, d_below, d_v = (
                    operators().custom_layers_lstm_grad(
                        U, p, m, keep, *of_grad, **options
                    )
                )
                d_U = _gradient_of_U(U, all_h, h_masks, d_z)
                of_vectors = dict(zip("ifo", tf.unstack(d_p, 3), strict=True))
                d_b_d = tf.zeros_like(b_d)
                if linked:
                    of_vectors["q"], of_vectors["r"], d_b_d = tf.unstack(d_v, 3)
                results = [*d_z, d_U, d_b, d_h, d_c, d_z_d, d_below, d_b_d]
                results += [of_vectors[name] for name in names]
                for result, argument in zip(results, arguments, strict=True):
                    result.set_shape(argument.shape)

                def second(*d_gradients):
                    return _derivative(
                        plain, all_arguments, len(arguments), d_gradients
                    )

                return results, second

            # One may come as a sparse gradient.
            return backward(*arguments, *map(tf.convert_to_tensor, upstream))

        return [*shown(all_h[1:], all_c[1:]), all_h[-1], all_c[-1]], gradient

    # The products with W in two parts, which TensorFlow computes side by side.
    time = sizes(inputs)[0]
    halves = tf.split(inputs, [time // 2, time - time // 2])
    z = [_side_by_side([times_W(half, it) for it in products]) for half in halves]
    U = _side_by_side([product.U for product in products])
    has_b = products[0].b is not None
    b = _side_by_side([it.b for it in products]) if has_b else tf.zeros(U.shape[1])
    z_d = b_d = None
    if linked:
        z_d = tf.concat([times_W(half, of_d) for half in halves], axis=0)
        b_d = of_d.b if has_b else tf.zeros(U.shape[0])
    linked_to = map(_or_nothing, (z_d, below, b_d))
    whole = recur(*z, U, b, *states, *linked_to, *level.vectors.values())
    whole, last = list(whole[:-2]), whole[-2:]
    all_h = whole.pop(0) if with_all_h else None
    return all_h, whole.pop() if with_all_c else None, *last


def _without_d(products):
    """Return products without the columns of gate d, and d's own, which has no U."""
    *others, last = products
    columns = [last.U.shape[-1], last.W.shape[-1] - last.U.shape[-1]]
    W, W_d = tf.split(last.W, columns, axis=-1)
    b, b_d = (None, None) if last.b is None else tf.split(last.b, columns)
    of_d = last._replace(W=W_d, b=b_d, h_mask=None, U=None)
    return [*others, last._replace(W=W, b=b)], of_d


def _plain_loop(level, h_masks, z, U, states, of_d, vectors, unmasked):
    """Return h and c of all steps, for TensorFlow's differentiation.

    Args:
        level: The steps, a `Prepared`.
        h_masks: The mask of h for each product with U, or None.
        z: ``x W + b`` of all steps, all products side by side.
        U: Theirs, side by side.
        states: The initial h and c.
        of_d: ``x W + b`` of gate d, and c_below, of all steps; or empty.
        vectors: The vectors of the level.
        unmasked: As in `tensorflow_cpu.run_loop`.
    """
    count = len(h_masks)
    U = tf.split(U, count, axis=-1)
    p = level.p(dict(zip(level.vectors, vectors, strict=True)))

    def advance(states, step):
        z, z_d, c_below, keep = step
        h = [states[0] if mask is None else states[0] * mask for mask in h_masks]
        sums = [
            x + tf.matmul(h_kept, u)
            for x, h_kept, u in zip(tf.split(z, count, axis=-1), h, U, strict=True)
        ]
        sums, old = [*sums, *z_d], [*states, *c_below]
        values = level.equations(level.by_gate(sums), p, old)
        new = [values["h"], values["c"]]
        for kept in keep:
            new = [tf.where(kept, a, b) for a, b in zip(new, states, strict=True)]
        return new

    steps = z, of_d[:1], of_d[1:], [] if unmasked is None else [unmasked]
    return tf.scan(advance, steps, states)


def _gradient_of_U(U, all_h, h_masks, d_z):
    """Return the gradient of U, a sum of products that can run side by side."""
    early, (units, width) = tf.shape(d_z[0])[0], U.shape
    sums = []
    for h, d in zip((all_h[:early], all_h[early:-1]), d_z, strict=True):
        products = []
        for h_mask, part in zip(
            h_masks, tf.split(d, len(h_masks), axis=-1), strict=True
        ):
            kept = h if h_mask is None else h * h_mask
            kept = tf.reshape(kept, [-1, units])
            part = tf.reshape(part, [-1, width // len(h_masks)])
            products.append(tf.matmul(kept, part, transpose_a=True))
        sums.append(_side_by_side(products))
    return tf.add_n(sums)


def _side_by_side(tensors):
    """Return tensors in one, along their last axis."""
    return tensors[0] if len(tensors) == 1 else tf.concat(tensors, axis=-1)


def _derivative(loop, arguments, count, d_gradients):
    """Return the gradient of a loop's gradient, by TensorFlow's differentiation.

    Args:
        loop: Function of tensors.
        arguments: Its ``count`` arguments, and then the gradients of its results.
        count: See above.
        d_gradients: Gradients of what the gradient of the loop is, for each argument.
    """
    inputs, upstream = list(arguments[:count]), list(arguments[count:])
    with tf.GradientTape() as outer:
        outer.watch([inputs, upstream])
        with tf.GradientTape() as inner:
            inner.watch(inputs)
            results = loop(*inputs)
        gradients = inner.gradient(
            results, inputs, upstream, unconnected_gradients="zero"
        )
    return outer.gradient(
        gradients, [*inputs, *upstream], list(d_gradients), unconnected_gradients="zero"
    )


def _rows(vectors):
    """Return vectors in one tensor, zeros for None; nothing if there is none."""
    some = next((vector for vector in vectors if vector is not None), None)
    if some is None:
        return _or_nothing(None)
    absent = tf.zeros_like(some)
    return tf.stack([absent if vector is None else vector for vector in vectors])


def _or_nothing(x):
    """Return x, or for None the tensor that stands for it."""
    return tf.zeros([0]) if x is None else x
