"""The native kernel for training on a CPU, as TensorFlow sees it.

The operators in ``native/`` compute the recurrence and its gradients. The products with
W, and the gradients of W and U, stay outside: each is one large product. A derivative
of the gradients is that of TensorFlow's loop.
"""

import functools
import os
import platform
import threading

import tensorflow as tf

from custom_layers.engine import tensorflow_cpu
from custom_layers.engine.native import library

VARIABLE = "CUSTOM_LAYERS_NATIVE"
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
        if not value.isdecimal() or int(value) < 1:
            raise ValueError(
                f"{VARIABLE}_THREADS must be a positive integer, got {value!r}"
            )
        return int(value)
    affinity = getattr(os, "sched_getaffinity", None)  # Linux has it
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    intra = tf.config.threading.get_intra_op_parallelism_threads()
    inter = tf.config.threading.get_inter_op_parallelism_threads()
    return min(cores, max(intra, inter)) if intra and inter else cores


_loaded: list = []  # the operators, once they are: TensorFlow cannot load others
_loading = threading.Lock()


def load_error(path):
    """Load the library ``path`` if none is loaded yet; return why not, or None."""
    try:
        with _loading:
            if not _loaded:
                _loaded.append(tf.load_op_library(str(path)))
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


@functools.cache
def _has(path):
    """Return whether the processor, and this library, have a path, by its number."""
    try:
        with tf.init_scope():  # not in the graph that is being built
            z, state, none = tf.zeros([0, 0, 4]), tf.zeros([0, 1]), tf.zeros([0])
            U_and_b, keep = (tf.zeros([1, 4]), tf.zeros([4])), tf.zeros([0], tf.bool)
            arguments = z, z, *U_and_b, state, state, none, none, keep
            operators().custom_layers_lstm(*arguments, path=path, threads=1)
    except tf.errors.UnimplementedError:
        return False
    return True


def recurrence(names):
    """Return what computes `tensorflow_cpu.run_loop`, for an LSTM with these vectors.

    Args:
        names: Names of the vectors, out of ``"i"``, ``"f"`` and ``"o"``.
    """
    return functools.partial(_run, tuple(names))


def _run(names, step, inputs, products, states, vectors, unmasked, return_sequences):
    count = 6 + len(vectors)
    options = {"path": _choice(), "threads": threads()}
    h_masks = [product.h_mask for product in products]
    m = _or_nothing(None if h_masks[0] is None else tf.stack(h_masks))
    keep = tf.zeros([0], tf.bool) if unmasked is None else unmasked[..., 0]

    def loop(early, late, U, b, h, c, *vectors):
        z = tf.concat([early, late], axis=0) + b
        z, U = (tf.split(x, len(products), axis=-1) for x in (z, U))
        outputs, new_states = tensorflow_cpu.loop_over(
            step, z, U, h_masks, [h, c], list(vectors), unmasked, return_sequences
        )
        return [outputs, *new_states] if return_sequences else new_states

    @tf.custom_gradient
    def recur(early, late, U, b, h, c, *vectors):
        p = tf.zeros([0])
        if vectors:
            by_name = dict(zip(names, vectors, strict=True))
            absent = tf.zeros_like(vectors[0])
            p = tf.stack([by_name.get(gate, absent) for gate in "ifo"])
        all_h, all_c, *gates = operators().custom_layers_lstm(
            early, late, U, b, h, c, p, m, keep, **options
        )
        for states in (all_h, all_c):
            states.set_shape([None, *h.shape])

        def gradient(*upstream):
            @tf.custom_gradient
            def backward(*arguments):
                d_outputs = arguments[count] if return_sequences else None
                kept = *gates, all_c, _or_nothing(d_outputs), *arguments[-2:]
                *d_z, d_h, d_c, d_p, d_b = operators().custom_layers_lstm_grad(
                    U, p, m, keep, *kept, **options
                )
                results = (*d_z, d_h, d_c, d_b)
                for d, x in zip(results, (early, late, h, c, b), strict=True):
                    d.set_shape(x.shape)
                d_p.set_shape([3, h.shape[1]])
                d_U = _gradient_of_U(all_h, h_masks, d_z)
                d_vectors = [d_p["ifo".index(name)] for name in names]

                def second(*d_gradients):
                    return _derivative(loop, arguments, count, d_gradients)

                return (*d_z, d_U, d_b, d_h, d_c, *d_vectors), second

            return backward(early, late, U, b, h, c, *vectors, *upstream)

        results = (all_h[1:], all_h[-1], all_c[-1])
        return results if return_sequences else results[1:], gradient

    # The products with W in two parts, which TensorFlow computes side by side.
    half = tensorflow_cpu.sizes(inputs)[0] // 2
    z = [
        _side_by_side([tensorflow_cpu.times_W(part, product) for product in products])
        for part in (inputs[:half], inputs[half:])
    ]
    U = _side_by_side([product.U for product in products])
    b = tf.zeros(U.shape[1])
    if products[0].b is not None:
        b = _side_by_side([product.b for product in products])
    results = recur(*z, U, b, *states, *vectors)
    return results[0] if return_sequences else None, list(results[-2:])


def _gradient_of_U(all_h, h_masks, d_z):
    """Return the gradient of U, a sum of products that can run side by side."""
    early = tf.shape(d_z[0])[0]
    sums = []
    for h, d in zip((all_h[:early], all_h[early:-1]), d_z, strict=True):
        products = []
        for h_mask, part in zip(
            h_masks, tf.split(d, len(h_masks), axis=-1), strict=True
        ):
            kept = h if h_mask is None else h * h_mask
            rows = [tf.reshape(x, [-1, x.shape[-1]]) for x in (kept, part)]
            products.append(tf.matmul(*rows, transpose_a=True))
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


def _or_nothing(x):
    """Return x, or for None the tensor that stands for it."""
    return tf.zeros([0]) if x is None else x
