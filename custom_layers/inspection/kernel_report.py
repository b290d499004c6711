"""Which kernel a model's recurrent layers use on each device, and why."""

import keras

from custom_layers.engine.dispatch import (
    KERAS,
    NATIVE,
    TENSORFLOW_CPU,
    choose,
    loop_kernel,
    native_obstacle,
)


def kernel_report(model: keras.layers.Layer) -> dict[str, dict[str, str]]:
    """Tell which kernel every recurrent layer of a model uses on each device.

    On a CPU that is one kernel in training and one at inference, in the graphs that
    ``fit`` and ``predict`` make: an eager call runs Keras's loop. What is not known
    before a call is not seen here: with cuDNN a mask must be right-padded, without a
    fully masked row, and on JAX and torch there must be none; an unrolled
    `ClockworkRNN` skips idle modules only without a mask, and from zero states. Where
    XLA compiles, or a mask has features, a loop stands in for the native kernel: in
    training TensorFlow's, else, and for a `DepthGatedLSTM`, Keras's. Of XLA and eager
    calls the report knows what ``model.compile`` was told.

    Args:
        model: A Keras model or layer. Nested models, wrappers such as
            ``Bidirectional``, and layers held as attributes, in lists or in dicts are
            searched too.

    Returns:
        Dict from the name of each recurrent layer, with " (2)" and so on where a name
        repeats, to ``{"cpu": text, "gpu": text, "native": text}``. The first two name
        the kernel, and, for Keras's loop, the first condition that keeps the layer from
        a better one. The last one says whether the native kernel trains the layer on a
        CPU, or why not.

    Example:
    >>> import keras
    >>> layer = keras.layers.LSTM(8, unroll=True, name="lstm")
    >>> kernel_report(keras.Sequential([layer]))["lstm"]["gpu"]
    "Keras's loop: unroll is True, cuDNN needs False"
    """
    report = {}
    for layer in find_layers(model, keras.layers.RNN):
        name, count = layer.name, 1
        while name in report:  # models inside the model may repeat a name
            name, count = f"{layer.name} ({count + 1})", count + 1
        report[name] = {
            "cpu": _on_cpu(layer, model),
            "gpu": _in_words(*choose(layer, "gpu", training=True)),
            "native": _native(layer, model),
        }
    return report


def _choose_on_cpu(layer, model, training):
    """Return the kernel of a layer in a model on a CPU, and why no better one."""
    kernel, reason = choose(layer, "cpu", training=training)
    if kernel in (NATIVE, TENSORFLOW_CPU) and getattr(model, "run_eagerly", False):
        return KERAS, "the model runs eagerly"
    if kernel == NATIVE and getattr(model, "jit_compile", False):
        return loop_kernel(layer, training), "XLA compiles the model"
    return kernel, reason


def _on_cpu(layer, model):
    """Return which kernels a layer uses on a CPU."""
    training, inference = (_choose_on_cpu(layer, model, it) for it in (True, False))
    path = _path(training[0])
    if training[0] == inference[0]:
        return _in_words(*training) + path
    return f"{training[0]} in training{path}, {inference[0]} at inference"


def _path(kernel):
    """Return which code of which library the native kernel runs, in parentheses."""
    if kernel != NATIVE:
        return ""
    from custom_layers.engine import tensorflow_native  # it imports TensorFlow

    path, library = tensorflow_native.path_name(), tensorflow_native.library_name()
    return f" ({path}, library {library})"


def _native(layer, model):
    """Return whether the native kernel trains a layer in a model, or why not."""
    if not hasattr(layer, "cell_class"):
        return "not used: it is for layers of custom_layers"
    kernel, reason = _choose_on_cpu(layer, model, training=True)
    if kernel == NATIVE:
        return "used in training on a CPU"
    if kernel in (KERAS, TENSORFLOW_CPU):
        return f"not used: {native_obstacle(layer) or reason}"
    return f"not used: {kernel}"


def _in_words(kernel, reason):
    return f"{kernel}: {reason}" if kernel == KERAS else kernel


def find_layers(thing, kind, seen=None):
    """Yield every layer of a kind in a layer or container, once each.

    Args:
        thing: A layer is searched by its attributes; a dict, list, tuple or set by its
            values. All attributes count, private ones too: it does no harm to look
            there. A recurrent layer is not searched.
        kind: The class of the layers.
        seen: The ids of what was looked into before.
    """
    parts = ()
    seen = set() if seen is None else seen
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, dict):
        parts = thing.values()
    elif isinstance(thing, (list, tuple, set)):
        parts = thing
    elif isinstance(thing, keras.layers.Layer):
        if isinstance(thing, kind):
            yield thing
        if not isinstance(thing, keras.layers.RNN):
            parts = (
                getattr(thing, "layers", ()),
                vars(thing),
            )  # a model's in order, then all others
    for part in parts:
        yield from find_layers(part, kind, seen)
