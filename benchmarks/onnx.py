"""Times inference: our layer in TensorFlow, exported to onnxruntime, and torch's LSTM.

``python -m benchmarks.onnx``: a batch, and one sequence alone. A layer reads sequences
of 28 steps and 28 features, as in MNIST, and returns its last output. TensorFlow runs
it in a ``tf.function``, traced before; onnxruntime the file that `to_onnx` writes;
torch, where it is installed, its own LSTM, without peepholes. All of them use one
thread. The figures are medians of the wall-clock time of a call, in milliseconds, the
runtimes in turns; the second one divides by TensorFlow's.
"""

import argparse
import importlib.util
import os
import pathlib
import statistics
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import onnxruntime
import tensorflow as tf

from custom_layers import LAYERS, to_onnx

STEPS = FEATURES = 28
BATCHES = (100, 1)
NAMES = ("lstm", "peephole", "coupled", "gru", "depth-gated")


def in_tensorflow(model):
    """Return a function that runs a model in a graph."""
    run = tf.function(
        lambda x: model(x, training=False),
        input_signature=[tf.TensorSpec((None, STEPS, FEATURES))],
    )
    return lambda x: run(tf.constant(x)).numpy()


def in_onnxruntime(model):
    """Return a function that runs a model in onnxruntime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.onnx"
        to_onnx(model, path)
        session = onnxruntime.InferenceSession(str(path), options)
    (given,) = session.get_inputs()
    return lambda x: session.run(None, {given.name: x})[0]


def in_torch(units):
    """Return a function that runs an LSTM of torch's."""
    import torch

    torch.set_num_threads(1)
    lstm = torch.nn.LSTM(FEATURES, units, batch_first=True)

    def run(x):
        with torch.inference_mode():
            return lstm(torch.from_numpy(x))[0][:, -1].numpy()

    return run


def milliseconds(functions, x, calls):
    """Return the median time of a call of each function, by name."""
    spent = {name: [] for name in functions}
    for number in range(calls + 3):
        for name, function in functions.items():
            started = time.perf_counter()
            function(x)
            if number >= 3:  # the first ones warm up
                spent[name].append(1000 * (time.perf_counter() - started))
    return {name: statistics.median(each) for name, each in spent.items()}


def main():
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=128)
    parser.add_argument("--calls", type=int, default=100)
    options = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    print(f"{options.units} units, {STEPS} steps, median of {options.calls} calls, ms")
    print("| layer | batch | TensorFlow | onnxruntime | ratio | torch's LSTM |")
    print("|---|---|---|---|---|---|")
    for name in NAMES:
        sequences = keras.Input((STEPS, FEATURES), name="sequences")
        model = keras.Model(sequences, LAYERS[name](options.units)(sequences))
        functions = {"tf": in_tensorflow(model), "onnx": in_onnxruntime(model)}
        if name == "lstm" and importlib.util.find_spec("torch"):
            functions["torch"] = in_torch(options.units)
        for batch in BATCHES:
            x = np.random.default_rng(0).random((batch, STEPS, FEATURES), "float32")
            took = milliseconds(functions, x, options.calls)
            torch = f"{took['torch']:.2f}" if "torch" in took else "–"
            ratio = took["onnx"] / took["tf"]
            print(
                f"| {name} | {batch} | {took['tf']:.2f} | {took['onnx']:.2f} | "
                f"{ratio:.2f} | {torch} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
