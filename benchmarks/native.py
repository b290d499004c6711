"""Times the native kernel beside the loop: ``python -m benchmarks.native``.

It must have been built: ``python -m custom_layers.build_native``. For each shape a
training step of `PeepholeLSTM` and of `CoupledLSTM`, each with the loop and with the
kernel, and of ``keras.layers.LSTM`` take turns; the figures are ratios of medians.
``--dropout 0.2`` gives all of them that ``dropout`` and ``recurrent_dropout``. Without
it torch's LSTM takes part, where torch is installed.
"""

import importlib.util
import os
import statistics

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf

from benchmarks.cpu import (
    SHAPES,
    TORCH,
    TRACES,
    make_functions,
    take_turns,
    torch_functions,
)
from custom_layers import CoupledLSTM, PeepholeLSTM
from custom_layers.engine.native import library
from recipes.run.command_line import Parser, UserError, exit_with

ROUNDS = 15
VARIANTS = [
    (layer, native) for layer in (PeepholeLSTM, CoupledLSTM) for native in ("0", "1")
]


def main(arguments):
    """Time, and print a table; return the exit status."""
    parser = Parser(prog="python -m benchmarks.native", description=__doc__)
    parser.add_argument(
        "--dropout", type=float, default=0.0, help="of inputs and states (default: 0)"
    )
    dropout = parser.parse_args(arguments).dropout
    if not 0 <= dropout < 1:
        raise UserError(f"--dropout must be at least 0 and below 1, got {dropout}")
    if library.find() is None:
        raise UserError(
            "the native kernel is not built: python -m custom_layers.build_native"
        )
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(os.cpu_count() or 1)
    names = [f"{it.__name__}, {('loop', 'native')[int(on)]}" for it, on in VARIANTS]
    has_torch = not dropout and importlib.util.find_spec("torch") is not None
    names = ["keras.layers.LSTM, ms", *names, *([TORCH] if has_torch else [])]
    print(f"| batch, steps, features, units | {' | '.join(names)} |")
    print("|---" * (1 + len(names)) + "|")
    rows = []
    for shape in SHAPES.values():
        base, ratios = compare(shape, dropout, has_torch)
        rows.append(ratios)
        print(row(", ".join(map(str, shape)), [base, *ratios]), flush=True)
    means = map(statistics.geometric_mean, zip(*rows, strict=True))
    print(row("geometric mean |", means))
    return 0


def compare(shape, dropout, has_torch):
    """Return the ms of a step of Keras's LSTM, and the others' times in parts of it."""

    def make(layer):
        layer = layer(shape[3], dropout=dropout, recurrent_dropout=dropout)
        return make_functions(layer, shape)["train"]

    steps = {"lstm": make(keras.layers.LSTM)}
    for layer, native in VARIANTS:
        # The kernel is chosen where a step is traced, at the first call of each trace.
        os.environ["CUSTOM_LAYERS_NATIVE"] = native
        step = make(layer)
        for _ in range(TRACES):
            step()
        steps[layer, native] = step
    if has_torch:
        steps[TORCH] = torch_functions(shape)["train"]
    base, *others = map(statistics.median, take_turns(steps, ROUNDS).values())
    return base, [other / base for other in others]


def row(title, numbers):
    """Return a row of the table."""
    return f"| {title} | {' | '.join(f'{number:.2f}' for number in numbers)} |"


if __name__ == "__main__":
    exit_with(main)
