"""Writes a model as ONNX, with ONNX's own recurrent operators."""

import contextlib
import importlib
import logging
import os
import pathlib
import warnings
from typing import Any

import keras

from custom_layers.conversion import layers, onnx_activations
from custom_layers.inspection.kernel_report import find_layers

PACKAGES = ("onnx", "tf2onnx")
OPSET = 15  # of what is not recurrent: the one that tf2onnx prefers


def to_onnx(model: keras.Model, path: str | os.PathLike[str]) -> None:
    """Write a model as an ONNX file, whose recurrent layers are ONNX's own operators.

    LSTM, peephole, coupled and weight-drop LSTM become ONNX's ``LSTM``, with its
    peepholes ``P`` and its ``input_forget``, both GRUs its ``GRU``, and the simple RNN
    its ``RNN``: in both directions, with initial and final states, and with any mask.
    Every other cell becomes a ``Loop``, and so do these with activations that ONNX
    lacks or with options such as ``layer_norm``. Everything around them goes through
    tf2onnx, which Keras uses, too.

    The results are Keras's at inference, up to rounding. ONNX has no texts: a model
    that reads them through a ``TextVectorization`` takes word numbers instead, as the
    input ``words``, and the file's metadata hold the ``vocabulary`` and what becomes of
    each of the ``characters``. The other inputs have the names that they have in Keras,
    also in a model that takes a dict or nested lists; outputs in a dict are called as
    their keys, joined by ``_`` where dicts or lists are nested.

    It needs the packages onnx and tf2onnx, and Keras on TensorFlow. While it runs, the
    model must not be used.

    Args:
        model: A functional or sequential model, built, with recurrent layers in
            float32.
        path: The file to write.

    Raises:
        ValueError: ONNX cannot hold the model: it is not functional, a recurrent layer
            is stateful or not in float32, a text is read otherwise than described, or
            there is an operation that ONNX lacks. The message says which. Or Keras
            runs on another backend.
        ImportError: A package is missing.

    Example:
        >>> import numpy as np, onnxruntime, tempfile
        >>> from custom_layers import PeepholeLSTM
        >>> sequences = keras.Input((None, 3), name="sequences")
        >>> model = keras.Model(sequences, PeepholeLSTM(4)(sequences))
        >>> x = np.ones((2, 5, 3), "float32")
        >>> if keras.backend.backend() == "tensorflow":
        ...     with tempfile.TemporaryDirectory() as folder:
        ...         to_onnx(model, f"{folder}/model.onnx")
        ...         session = onnxruntime.InferenceSession(f"{folder}/model.onnx")
        ...     (outputs,) = session.run(None, {"sequences": x})
        ...     np.testing.assert_allclose(outputs, model(x), atol=1e-6)
    """
    _check(model)
    for package in PACKAGES:
        _import(package)
    output_names = _output_names(model)
    proto = _convert(model, output_names)
    pathlib.Path(path).write_bytes(proto.SerializeToString())


def _check(model):
    """Raise ValueError for a model that ONNX cannot hold."""
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise ValueError(
            f"the export to ONNX needs Keras on TensorFlow, got {backend}: save the "
            "model, and load it with KERAS_BACKEND=tensorflow"
        )
    if not getattr(model, "inputs", None) or not getattr(model, "outputs", None):
        raise ValueError(
            "the model must be functional or sequential, and built, got "
            f"{type(model).__name__}: keras.Model(inputs, model(inputs)) makes it so"
        )
    for layer in find_layers(model, keras.layers.RNN):
        if layer.stateful:
            raise ValueError(
                f"{layer.name} is stateful, but ONNX keeps nothing from one call to "
                "the next: give it an initial_state and use return_state instead"
            )
        for each in (layer, *_cells(layer)):  # their dtypes may differ
            if each.compute_dtype != "float32":
                of_it = "" if each is layer else f"{type(each).__name__} of "
                raise ValueError(
                    f"{of_it}{layer.name} must compute in float32, got "
                    f"{each.compute_dtype}"
                )


def _cells(layer):
    """Return the cells of a recurrent layer that are layers of Keras."""
    cells = getattr(layer.cell, "cells", [layer.cell])
    return [cell for cell in cells if isinstance(cell, keras.layers.Layer)]


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"the export to ONNX needs the package {name}: "
            f"pip install {' '.join(PACKAGES)}"
        ) from error


@contextlib.contextmanager
def _quiet():
    """Let tf2onnx say nothing: what it complains of is looked for in its result."""
    loggers = [logging.getLogger(name) for name in ("tf2onnx", "tensorflow")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _output_names(model):
    """Return a name for each output of a model: its key in a dict, or its layer's.

    Of dicts in dicts the keys are joined, as in ``"states_h"``, and so are the places
    in lists in dicts, as in ``"states_1"``.
    """
    output = getattr(model, "output", None)  # a sequential model may have none
    if isinstance(output, dict):
        names = list(_leaf_names(output))
    else:
        names = getattr(model, "output_names", None) or [model.layers[-1].name]
    taken = {tensor.name for tensor in model.inputs}
    unique = []
    for name in names:
        number, new = 1, name
        while new in taken:
            number += 1
            new = f"{name}_{number}"
        taken.add(new)
        unique.append(new)
    return unique


def _leaf_names(outputs, start=""):
    """Yield the names of all tensors in a dict, in the order of ``model.outputs``."""
    if isinstance(outputs, dict):
        items = sorted((str(key), it) for key, it in outputs.items())
    elif isinstance(outputs, list | tuple):
        items = [(str(number), it) for number, it in enumerate(outputs)]
    else:
        yield start
        return
    for name, it in items:
        yield from _leaf_names(it, f"{start}_{name}" if start else name)


def _of_loops(model):
    """Return the activations of loops in words: those that ONNX's operators lack."""
    found = [
        f"{name}={layers.activation_name(function)!r} of {layer.name}"
        for layer in find_layers(model, keras.layers.RNN)
        for cell in _cells(layer)
        for name in ("activation", "recurrent_activation")
        if (function := getattr(cell, name, None)) is not None
        and not onnx_activations.has(function)
    ]
    return f", perhaps for {' or '.join(found)}" if found else ""


def _convert(model, output_names):
    """Return a model as ONNX's, with its metadata."""
    import onnx

    from custom_layers.export import graph, tracing

    with _quiet():
        trace = tracing.Trace(model, output_names)
        proto, _ = _import("tf2onnx.convert").from_function(
            trace.function, input_signature=list(trace.inputs.values()), opset=OPSET
        )
    graph.join(proto.graph, trace.holes, output_names)
    if lacking := graph.unknown_operators(proto.graph):
        raise ValueError(
            f"ONNX has no operator for TensorFlow's {', '.join(lacking)}, which the "
            f"model uses{_of_loops(model)}"
        )
    graph.describe_shapes(proto.graph, trace.inputs, model.outputs)
    onnx.helper.set_model_props(proto, trace.metadata)
    onnx.checker.check_model(proto)
    return proto
