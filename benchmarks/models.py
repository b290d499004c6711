"""Times a new model up to its first step, and measures the memory that it leaves.

``python -m benchmarks.models``, part of ``make bench``: people who search
hyper-parameters build hundreds of models in one process. Each is small, is built,
compiled and trained for one step with `fit`, and dropped with ``clear_session``. Time
is that of the processor, median over models, the layers in turns; memory is what the
process grows by for each of many models, in a process of its own for a layer.
"""

import argparse
import gc
import os
import statistics
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from custom_layers import LAYERS, PeepholeLSTMCell

WARM_UP = 5  # models
KEPT = ("lstm", "peephole", "coupled")  # the layers whose memory is measured


def layers():
    """Return constructors by name; the first is the one that ratios refer to."""
    return {**LAYERS, "RNN(PeepholeLSTMCell)": cell_in_rnn}


def cell_in_rnn(units):
    """Return Keras's layer around a cell of this package."""
    return keras.layers.RNN(PeepholeLSTMCell(units))


def train_one_model(layer, units):
    """Build a model and train it for one step."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(64, 28, 28)), rng.integers(10, size=64)
    model = keras.Sequential(
        [keras.Input((28, 28)), layer(units), keras.layers.Dense(10, "softmax")]
    )
    model.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
    model.fit(x, y, batch_size=64, verbose=0)


def times(models, units):
    """Return for each layer the median seconds of processor time for a new model."""
    spent = {name: [] for name in layers()}
    for number in range(models + 1):
        for name, layer in layers().items():
            started = time.process_time()
            train_one_model(layer, units)
            if number:  # the first warms up
                spent[name].append(time.process_time() - started)
        keras.backend.clear_session()
    return {name: statistics.median(each) for name, each in spent.items()}


def resident_mib():
    """Return the memory of this process."""
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20


def growth(name, models, units):
    """Return by how many MiB this process grows for each model."""
    for number in range(WARM_UP + models):
        if number == WARM_UP:
            before = resident_mib()
        train_one_model(layers()[name], units)
        keras.backend.clear_session()
    return (resident_mib() - before) / models


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", type=int, default=10, help="models to time")
    parser.add_argument("--kept", type=int, default=200, help="models for the memory")
    parser.add_argument("--units", type=int, default=32, help="units of each layer")
    parser.add_argument("--growth", choices=layers(), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.growth:
        print(growth(options.growth, options.kept, options.units))
        return
    print("\n### A new model: up to its first step, and what stays after it\n")
    print("| layer | CPU s | ratio to lstm | MiB a model |")
    print("|---|---|---|---|")
    seconds = times(options.models, options.units)
    for name, median in seconds.items():
        mib = "–"
        if name in KEPT:
            command = [sys.executable, "-m", "benchmarks.models", "--growth", name]
            command += ["--kept", str(options.kept), "--units", str(options.units)]
            run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            mib = f"{float(run.stdout.split()[-1]):.1f}"
        ratio = median / seconds["lstm"]
        print(f"| {name} | {median:.2f} | {ratio:.2f} | {mib} |", flush=True)


if __name__ == "__main__":
    main()
