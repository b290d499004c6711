"""Times the programs as a whole, and what they reach in a part of the article's time.

``python -m benchmarks.recipes``, the last part of ``make bench``. For the preset
``modern`` of both it measures: from the start to the end of the first step; a step in
``fit``, with its input pipeline, beside the bare step, which is forward, backward and
optimiser on one batch that is there already; and the test accuracy after 500 steps on
MNIST, and after one epoch on IMDB.

Then, where the native kernel can be used, a step in ``fit`` with the cells that it has,
with TensorFlow's loop and with the kernel. ``--cells`` measures that alone.
"""

import dataclasses
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

from custom_layers.engine import tensorflow_native
from recipes import imdb, mnist
from recipes.run.command_line import Parser, exit_with
from recipes.run.environment import set_up
from recipes.run.folder import RunFolder
from recipes.training.batches import make_batches

#: Flags, the article's final accuracy, and the part of its training that they take.
SOON = {
    "mnist": (("--steps", "500"), 0.883, "a twentieth of its 10,000 steps"),
    "imdb": (("--epochs", "1"), 0.82, "one of its 7 epochs"),
}


def train(recipe, flags, runs):
    """Run a program; return the seconds to its first step's end, and its metrics."""
    name = "-".join(flags).strip("-")
    command = [
        sys.executable,
        "-m",
        "recipes",
        recipe,
        "--runs",
        runs,
        "--name",
        name,
        *flags,
    ]
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        said, first_step = b"", None
        while piece := process.stdout.read1():
            said += piece
            if first_step is None and re.search(
                rb"(?<!Epoch )(?<!\d)1/\d+", said
            ):  # Keras's progress bar
                first_step = time.perf_counter() - started
    if process.returncode:
        raise SystemExit(process.returncode)
    folder = RunFolder(pathlib.Path(runs) / recipe / name)
    return first_step, json.loads(folder.metrics.read_text())


def time_steps(recipe, cell="lstm", rounds=4):
    """Return the median milliseconds of a step in ``fit``, and of a bare one."""
    program, steps = {"mnist": (mnist, 200), "imdb": (imdb, 30)}[recipe]
    config = dataclasses.replace(program.PRESETS["modern"], cell=cell)
    set_up(config)
    model = program.make_modern(config, 10_000)
    rng, augment = np.random.default_rng(0), None
    if recipe == "mnist":
        data = rng.random((5000, 28, 28), "float32"), rng.integers(0, 10, 5000)

        def augment(images, seed):
            return mnist.distort(images, seed, config.distortion)
    else:
        words = rng.integers(2, config.vocabulary, (5000, config.words), "int32")
        evidence = rng.random((*words.shape, 3, 2), "float32")
        inputs = {"words": words, "evidence": evidence}
        data = inputs, rng.integers(0, 2, (5000, 1))
    batches = make_batches(data, config, augment)
    x, y = next(iter(batches))
    optimizer, variables = model.optimizer, model.trainable_variables
    loss = model.loss if callable(model.loss) else keras.losses.get(model.loss)
    optimizer.build(variables)

    @tf.function(jit_compile=False)
    def bare_step():
        with tf.GradientTape() as tape:
            value = tf.reduce_mean(loss(y, model(x, training=True)))
        optimizer.apply_gradients(
            zip(tape.gradient(value, variables), variables, strict=True)
        )
        return value

    def bare():
        for _ in range(steps):
            bare_step().numpy()

    def in_fit():
        model.fit(batches, steps_per_epoch=steps, shuffle=False, verbose=0)

    times = {in_fit: [], bare: []}
    for turn in range(rounds + 1):
        for run in times:
            started = time.perf_counter()
            run()
            if turn:  # the first one traced
                times[run].append((time.perf_counter() - started) * 1000 / steps)
    return [statistics.median(values) for values in times.values()]


def time_cells():
    """Print a table of a step in ``fit``, with the loop and with the native kernel."""
    print(
        "| program and cell | loop, ms | native kernel, ms | ratio |\n|---|---|---|---|"
    )
    for recipe in SOON:
        for cell in "lstm", "peephole", "coupled":
            ms = []
            for choice in "01" if cell != "lstm" else "0":
                os.environ[tensorflow_native.VARIABLE] = choice
                ms.append(time_steps(recipe, cell, rounds=2)[0])
            ratio = f"{ms[1]:.1f} | {ms[1] / ms[0]:.2f}" if ms[1:] else "– | –"
            print(f"| {recipe}, {cell} | {ms[0]:.1f} | {ratio} |", flush=True)


def main(arguments):
    """Measure both programs and print what came out."""
    parser = Parser(prog="python -m benchmarks.recipes", description=__doc__)
    parser.add_argument("--cells", action="store_true", help="the last table alone")
    if not parser.parse_args(arguments).cells:
        time_programs()
    if problem := tensorflow_native.obstacle():
        print(f"The native kernel cannot be used: {problem}")
    else:
        time_cells()
    return 0


def time_programs():
    """Print how fast both programs start and train, and what they reach."""
    print(
        "| program | start to first step, s | a step in fit, ms | the bare step, ms "
        "| ratio |"
    )
    print("|---|---|---|---|---|")
    said = []
    with tempfile.TemporaryDirectory() as runs:
        for recipe, (flags, aim, part) in SOON.items():
            first_step, metrics = train(recipe, flags, runs)
            in_fit, bare = time_steps(recipe)
            print(
                f"| {recipe} | {first_step:.1f} | {in_fit:.2f} | {bare:.2f} "
                f"| {in_fit / bare:.2f} |",
                flush=True,
            )
            said.append(
                f"- {recipe} {' '.join(flags)}: test accuracy "
                f"{metrics['test_accuracy']:.4f} after {metrics['steps']} steps, "
                f"{metrics['fit_seconds']:.0f} s with validations and saving, on the "
                f"{metrics['data']} data; the article's ended with {aim}, and this is "
                f"{part}."
            )
    print("\n" + "\n".join(said) + "\n")


if __name__ == "__main__":
    exit_with(main)
