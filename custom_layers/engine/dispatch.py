"""Decides which kernel runs a layer; the one place that asks for the device.

A layer of this package runs, in the order of preference,

- on a GPU, on cuDNN's LSTM, where its mathematics is that of an LSTM;
- on a CPU, in a graph of TensorFlow's for training, in the native kernel, where that is
  built and has the cell's equations, or else in a loop of our own, where a step is
  equations after one product (inside `native_inference` the kernel also runs at
  inference);
- unrolled, in a loop of its own, where it has one;
- in Keras's loop over its cell.

In a graph on a CPU, TensorFlow runs independent operations side by side, but a loop
depends on itself from step to step. So both loops read a batch there as two halves,
where that saves more than it costs, in a larger graph.
"""

import contextlib
import contextvars
import functools
from collections.abc import Iterator

import keras
from keras import ops

from custom_layers.engine import cudnn, options
from custom_layers.engine.prepared import (
    Masks,
    Sequence,
    current_sequence,
    one_sequence,
)

if keras.backend.backend() == "tensorflow":
    from custom_layers.engine import (  # these import TensorFlow
        tensorflow_cpu,
        tensorflow_native,
    )

CUDNN = "cuDNN"
NATIVE = "the native kernel"
TENSORFLOW_CPU = "TensorFlow's CPU loop"
UNROLLED = "an unrolled loop of its own"
KERAS = "Keras's loop"
NO_GPU = "cuDNN needs an NVIDIA GPU"

# Below these a step takes as long in halves (measured), and longer to trace.
MIN_BATCH_TO_HALVE = 32  # sequences
MIN_UNITS_TO_HALVE = 64


_native_inference = contextvars.ContextVar("native_inference", default=False)


@contextlib.contextmanager
def native_inference() -> Iterator[None]:
    """Let the native kernel compute inference, too, in graphs that the block traces.

    Without it the kernel only trains: what it is traced into needs its library, and an
    exported model shall not. So export nothing inside the block. A function that was
    traced inside, such as that of ``fit`` for validation, keeps the kernel after it;
    what is saved or exported later does not have it. Nothing changes where the kernel
    is not built, for other backends, or inside a ``MirroredStrategy``, which traces
    each device in a thread of its own.

    >>> import numpy as np
    >>> import keras
    >>> from custom_layers import PeepholeLSTM, native_inference
    >>> model = keras.Sequential([PeepholeLSTM(4), keras.layers.Dense(1)])
    >>> model.compile("adam", "mse")
    >>> x, y = np.ones((8, 5, 3)), np.ones((8, 1))
    >>> with native_inference():
    ...     history = model.fit(x, y, validation_data=(x, y), verbose=0)
    """
    token = _native_inference.set(True)
    try:
        yield
    finally:
        _native_inference.reset(token)


def run(layer, keras_loop, sequences, states, mask, training):
    """Run a layer over its sequences; arguments and results as in ``RNN.inner_loop``.

    Args:
        layer: The layer, in a `Sequence` that is prepared.
        keras_loop: The ``inner_loop`` of ``keras.layers.RNN``.
        sequences: ``(batch, time, features)``.
        states: List of the initial states.
        mask: Boolean ``(batch, time)``, or None.
        training: Whether dropout is on.

    Raises:
        ValueError: ``use_cudnn`` is True and cuDNN cannot run the layer.
    """
    sequence = current_sequence(layer.cell)
    masked = mask is not None
    kernel, reason = choose(layer, device(), training, masked, sequence.from_zero)
    if layer.use_cudnn is True and kernel != CUDNN:
        reason = cudnn.obstacle(layer, masked) or NO_GPU
        raise ValueError(f"use_cudnn is True, but {reason}: 'auto' uses {kernel}")
    if training and layer.cell.zoneout:
        sequences = layer.cell.join_zoneout(sequences)
    loop = functools.partial(keras_loop, training=training)
    in_graph = in_tensorflow_graph() and device() == "cpu"
    if kernel == NATIVE and in_graph:
        if _fits_native(mask) and not tensorflow_cpu.in_xla():
            prepared = layer.cell.prepare(sequence.masks if training else Masks())
            recurrence = functools.partial(tensorflow_native.run, prepared.levels)
            return _on_cpu(layer, recurrence, sequences, states, mask)
        kernel = loop_kernel(layer, training)
    if kernel == TENSORFLOW_CPU and in_graph:
        loop = functools.partial(_in_tensorflow_loop, layer)
    if in_graph and _is_worth_halving(layer, kernel, sequences.shape[0]):
        return _in_halves(layer.cell, loop, sequences, states, mask)
    layer.cell.prepare_sequence(sequence, states[0])
    if kernel == CUDNN:
        return cudnn.run(layer, sequences, states, mask, training)
    if kernel == UNROLLED:
        order = layer.go_backwards, layer.return_sequences
        prepared = sequence.prepared[training]
        return layer.cell.unrolled_loop(prepared, sequences, states, *order)
    return loop(sequences, states, mask)


def _fits_native(mask):
    """Return whether the native kernel takes a mask: one boolean a step, or None."""
    return mask is None or len(mask.shape) == 2 or mask.shape[2] == 1


def _is_worth_halving(layer, kernel, batch):
    """Return whether to run two halves of ``batch`` sequences, None if unknown."""
    if kernel not in (KERAS, TENSORFLOW_CPU) or layer.cell.units < MIN_UNITS_TO_HALVE:
        return False
    if batch is None:
        return kernel == TENSORFLOW_CPU  # in training batches are large
    return batch >= MIN_BATCH_TO_HALVE


def choose(layer, device, training, masked=False, from_zero=True):
    """Return the kernel that a recurrent layer runs on, and why on no better one.

    Args:
        layer: A recurrent layer, also one of Keras.
        device: ``"cpu"`` or ``"gpu"``.
        training: Whether in training or at inference.
        masked: Whether there is a mask.
        from_zero: Whether the states are zeros at first.
    """
    obstacle = NO_GPU
    if device == "gpu" and (obstacle := cudnn.obstacle(layer, masked)) is None:
        return CUDNN, ""
    ours = hasattr(layer, "cell_class")
    unrolled = ours and layer.unroll and layer.cell.unrolled_loop
    if unrolled and from_zero and not masked:
        return UNROLLED, obstacle
    if device == "gpu":
        return KERAS, obstacle
    if not ours:
        hint = "keras.layers.RNN has no other; the layers of custom_layers may have"
        return KERAS, hint if hasattr(layer.cell, "is_equations_alone") else obstacle
    if not training and not _native_inference.get():
        return KERAS, f"{TENSORFLOW_CPU} is for training"
    if obstacle := _graph_obstacle(layer):
        return KERAS, obstacle
    of_native, of_loop = native_obstacle(layer), _loop_obstacle(layer)
    if of_native is None:
        return NATIVE, ""
    if of_loop is None and training:
        return TENSORFLOW_CPU, of_native
    return KERAS, of_loop or of_native


def native_obstacle(layer):
    """Return why the native kernel does not train a layer of this package, or None."""
    cell = layer.cell
    if obstacle := _graph_obstacle(layer):
        return obstacle
    for each in [cell, *cell.levels]:
        if not each.is_native_lstm:
            return f"it has no equations of {type(cell).__name__}"
        for name, wanted in {
            "activation": "tanh",
            "recurrent_activation": "sigmoid",
        }.items():
            function = getattr(each, name)
            if function is not getattr(keras.activations, wanted):
                given = getattr(function, "__name__", type(function).__name__)
                return f"{name} is {given}, it needs {wanted}"
        if each.compute_dtype != "float32":
            return f"the dtype is {each.compute_dtype}, it needs float32"
        if each.cell_clip is not None:
            return f"cell_clip is {each.cell_clip!r}, it needs None"
    return tensorflow_native.obstacle()


def loop_kernel(layer, training):
    """Return the loop that stands in for the native kernel, as where XLA compiles."""
    in_loop = training and _loop_obstacle(layer) is None
    return TENSORFLOW_CPU if in_loop else KERAS


def _graph_obstacle(layer):
    """Return why a layer cannot run on a CPU without Keras's loop, or None."""
    if keras.backend.backend() != "tensorflow":
        return f"the backend is {keras.backend.backend()}, not tensorflow"
    if layer.unroll:
        return "unroll is True"
    for each in [layer.cell, *layer.cell.levels]:
        for name, value in options.around_equations(each).items():
            return f"{name} is {value!r}"
    return None


def _loop_obstacle(layer):
    """Return why a layer cannot train in TensorFlow's CPU loop, or None."""
    cell = layer.cell
    if not cell.is_equations_alone():
        return f"{type(cell).__name__} is more than equations after one product"
    for name in ("activation", "recurrent_activation"):
        function = getattr(cell, name)
        known = getattr(keras.activations, getattr(function, "__name__", ""), None)
        if function is not None and function is not known:  # it may draw random numbers
            return f"{name} is none of keras.activations"
    return None


def device():
    """Return ``"gpu"`` where Keras's backend computes on a GPU, else ``"cpu"``."""
    if keras.backend.backend() == "torch":
        import torch

        return "gpu" if torch.cuda.is_available() else "cpu"
    first = keras.distribution.list_devices()[0]
    return "gpu" if first.startswith("gpu") else "cpu"


def in_tensorflow_graph():
    """Return whether TensorFlow is building a graph."""
    if keras.backend.backend() != "tensorflow":
        return False
    return tensorflow_cpu.current_graph() is not None


def matmul_in_training():
    """Return what makes the products with U whose gradient is faster, or None."""
    if not in_tensorflow_graph() or device() != "cpu":
        return None
    return tensorflow_cpu.matmul_with_transposed_copy


def _in_tensorflow_loop(layer, sequences, states, mask):
    prepared = current_sequence(layer.cell).prepared[True]
    names = layer.cell.state_names
    recurrence = functools.partial(tensorflow_cpu.run_loop, prepared, names)
    return _on_cpu(layer, recurrence, sequences, states, mask)


def _on_cpu(layer, recurrence, sequences, states, mask):
    return tensorflow_cpu.train(
        recurrence,
        sequences,
        states,
        mask,
        go_backwards=layer.go_backwards,
        return_sequences=layer.return_sequences,
        zero_output_for_mask=layer.zero_output_for_mask,
    )


def _in_halves(cell, loop, sequences, states, mask):
    """Run a loop over the two halves of a batch, with dropout masks of their own."""
    whole, results = current_sequence(cell), []
    for half, half_mask, *half_states in tensorflow_cpu.halves(
        sequences, mask, *states
    ):
        part = Sequence(whole.in_layer, whole.training, whole.from_zero)
        part.masks = Masks(U=whole.masks.U)  # one for the whole batch
        with one_sequence(cell, part):
            cell.masks(half[:, 0], half_states[0], part)
            cell.prepare_sequence(part, half_states[0])
            results.append(loop(half, half_states, half_mask))
    last, outputs, new_states = zip(*results, strict=True)
    new_states = [
        ops.concatenate(pair, axis=0) for pair in zip(*new_states, strict=True)
    ]
    return ops.concatenate(last, axis=0), ops.concatenate(outputs, axis=0), new_states
