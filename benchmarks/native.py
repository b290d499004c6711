"""Times the native kernel beside the loop: ``python -m benchmarks.native``.

It must have been built: ``python -m custom_layers.build_native``. For each shape a
training step of `PeepholeLSTM` and of `CoupledLSTM`, each with the loop and with the
kernel, and of ``keras.layers.LSTM`` take turns; the figures are ratios of medians.
"""

import os
import statistics

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf

from benchmarks.cpu import SHAPES, TRACES, make_functions, take_turns
from custom_layers import CoupledLSTM, PeepholeLSTM
from custom_layers.engine.native import library
from recipes.run.command_line import UserError, exit_with

ROUNDS = 15
VARIANTS = [
    (layer, native) for layer in (PeepholeLSTM, CoupledLSTM) for native in ("0", "1")
]


def main(arguments):
    """Time, and print a table; return the exit status."""
    if arguments:
        raise UserError(f"there are no arguments, got {arguments}")
    if library.find() is None:
        raise UserError(
            "the native kernel is not built: python -m custom_layers.build_native"
        )
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(os.cpu_count() or 1)
    names = [f"{it.__name__}, {('loop', 'native')[int(on)]}" for it, on in VARIANTS]
    print(f"| batch, steps, features, units | {' | '.join(names)} |")
    print("|---" * (1 + len(names)) + "|")
    rows = []
    for shape in SHAPES.values():
        rows.append(ratios(shape))
        print(row(", ".join(map(str, shape)), rows[-1]), flush=True)
    print(
        row("geometric mean", map(statistics.geometric_mean, zip(*rows, strict=True)))
    )
    return 0


def ratios(shape):
    """Return each variant's time of a step, in parts of that of Keras's LSTM."""
    steps = {"lstm": make_functions(keras.layers.LSTM(shape[3]), shape)["train"]}
    for layer, native in VARIANTS:
        # The kernel is chosen where a step is traced, at the first call of each trace.
        os.environ["CUSTOM_LAYERS_NATIVE"] = native
        step = make_functions(layer(shape[3]), shape)["train"]
        for _ in range(TRACES):
            step()
        steps[layer, native] = step
    times = take_turns(steps, ROUNDS)
    base = statistics.median(times["lstm"])
    return [statistics.median(times[it]) / base for it in VARIANTS]


def row(title, numbers):
    """Return a row of the table."""
    return f"| {title} | {' | '.join(f'{number:.2f}' for number in numbers)} |"


if __name__ == "__main__":
    exit_with(main)
