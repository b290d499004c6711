"""Times the programs as a whole, and what they reach in a fraction of the article's training.

``python -m benchmarks.recipes``, the last part of ``make bench``. It measures, for the preset ``modern``
of both: from the start to the end of the first step; the seconds of an epoch, validation included,
beside its steps times the bare step, which is forward, backward and optimiser on one batch that is there
already; and the test accuracy after 500 steps on MNIST, and after one epoch on IMDB.
"""

import csv
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from recipes import imdb, mnist
from recipes.training import prepare

#: What each program shall reach soon: flags, the article's final accuracy, the part of its training.
SOON = {
    "mnist": (("--steps", "500"), 0.883, "a twentieth of its 10,000 steps"),
    "imdb": (("--epochs", "1"), 0.82, "one of its 7 epochs"),
}


def train(recipe, flags, runs):
    """Run a program; return the seconds to the end of its first step, its metrics and its history."""
    name = "-".join(flags).strip("-")
    command = [sys.executable, "-m", f"recipes.{recipe}", "--runs", runs, "--name", name, *flags]
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        said, first_step = b"", None
        while piece := process.stdout.read1():
            said += piece
            if first_step is None and re.search(rb"(?<!Epoch )\b1/\d+", said):  # Keras's progress bar
                first_step = time.perf_counter() - started
    if process.returncode:
        raise SystemExit(process.returncode)
    folder = pathlib.Path(runs) / recipe / name
    with open(folder / "history.csv", newline="") as file:
        history = list(csv.DictReader(file))
    return first_step, json.loads((folder / "metrics.json").read_text()), history


def bare_step(recipe):
    """Return the median seconds of a training step on a batch that is there already."""
    program = {"mnist": mnist, "imdb": imdb}[recipe]
    config = program.PRESETS["modern"]
    prepare(config)
    model = program.make_modern(config, 1000)
    rng = np.random.default_rng(0)
    if recipe == "mnist":
        x, y = rng.random((config.batch, 28, 28), "float32"), rng.integers(0, 10, config.batch)
    else:
        x = rng.integers(2, config.vocabulary, (config.batch, config.words), "int32")
        y = rng.integers(0, 2, (config.batch, 1))
    x, y = tf.constant(x), tf.constant(y)
    loss, optimizer, variables = model.loss, model.optimizer, model.trainable_variables
    loss = loss if callable(loss) else keras.losses.get(loss)
    optimizer.build(variables)

    @tf.function(jit_compile=False)
    def step():
        with tf.GradientTape() as tape:
            value = tf.reduce_mean(loss(y, model(x, training=True)))
        optimizer.apply_gradients(zip(tape.gradient(value, variables), variables))
        return value

    times = []
    for _ in range(60):
        started = time.perf_counter()
        step().numpy()
        times.append(time.perf_counter() - started)
    return statistics.median(times[10:])


def main():
    """Measure both programs and print what came out."""
    print("| program | start to first step, s | an epoch, s | its steps × the bare step, s | ratio |")
    print("|---|---|---|---|---|")
    said = []
    with tempfile.TemporaryDirectory() as runs:
        for recipe, (flags, aim, part) in SOON.items():
            first_step, _, history = train(recipe, ("--epochs", "2"), runs)
            bare = bare_step(recipe) * (int(history[1]["step"]) - int(history[0]["step"]))
            epoch = float(history[1]["seconds"])
            print(
                f"| {recipe} | {first_step:.1f} | {epoch:.1f} | {bare:.1f} | {epoch / bare:.2f} |",
                flush=True,
            )
            _, metrics, _ = train(recipe, flags, runs)
            said.append(
                f"- {recipe} {' '.join(flags)}: test accuracy {metrics['test_accuracy']:.4f} in "
                f"{metrics['fit_seconds']:.0f} s, on the {metrics['data']} data; the article's ended "
                f"with {aim}, and this is {part}."
            )
    print("\n" + "\n".join(said))


if __name__ == "__main__":
    main()
