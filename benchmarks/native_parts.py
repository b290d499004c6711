"""Times the parts of a training step with the native kernel, on one core.

``python -m benchmarks.native_parts`` prints, for each shape, the milliseconds of the
products with W, of the kernel forward and backward, and of the gradients of U and W;
and the rate of each, in parts of the rate of a large product of matrices on that core.
The products inside the kernel are counted, its other arithmetic is not. In training it
overwrites its input; here it writes into new memory.

A second table is for a roofline (Williams et al. 2009): the kernel's operations for
each byte that it must move, since z of all steps fits into no cache of a core. Below
the operations that a core can do in the time of moving a byte, memory would be the
limit. The bytes of a unit in a step: forward, z of each gate is read and the gate is
written, and c and h are read and written; backward, gates, c and the gradient of h are
read, and that of z is written.
"""

import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from benchmarks.cpu import SHAPES, gemm_rate
from custom_layers.engine import tensorflow_native
from recipes.run.command_line import Parser, UserError, exit_with
from recipes.run.environment import device_name, versions

ROUNDS = 15
GATES = {"PeepholeLSTM": 4, "CoupledLSTM": 3}
FLOAT = 4  # bytes
COPIED = 64 * 2**20  # floats, more than any cache holds


def main(arguments):
    """Time, and print a table; return the exit status."""
    parser = Parser(prog="python -m benchmarks.native_parts", description=__doc__)
    parser.parse_args(arguments)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    if problem := tensorflow_native.obstacle():
        raise UserError(f"the native kernel cannot be used: {problem}")
    rate, bandwidth = gemm_rate(), copying_rate()
    print(f"{device_name()}; {versions()}")
    print(f"Matrix products on one core: {2 * rate / 1e9:.0f} GFLOP/s")
    print(f"Copying on one core: {bandwidth / 1e9:.1f} GB/s read and written\n")
    print("| batch, steps, features, units | layer | x W | forward | backward ", end="")
    print("| gradient of U | gradient of W |\n|---|---|---|---|---|---|---|")
    for shape in SHAPES.values():
        for layer, gates in GATES.items():
            cells = [
                f"{ms:.2f} ms, {work / ms / rate * 1000:.0%}"
                for work, ms in parts(shape, gates)
            ]
            title = ", ".join(map(str, shape))
            print(f"| {title} | {layer} | {' | '.join(cells)} |", flush=True)
    print(f"\nOperations a byte; the core can do {2 * rate / bandwidth:.1f}\n")
    print("| units | layer | forward | backward |\n|---|---|---|---|")
    for units in sorted({shape[3] for shape in SHAPES.values()}):
        for layer, gates in GATES.items():
            floats = 2 * gates + 4, 2 * gates + 2
            cells = [f"{2 * gates * units / (FLOAT * n):.0f}" for n in floats]
            print(f"| {units} | {layer} | {' | '.join(cells)} |")
    return 0


def copying_rate():
    """Return bytes a second, read and written, of one core copying a large array."""
    source = np.ones(COPIED, "float32")
    target = np.zeros_like(source)
    ms = median_ms(lambda: np.copyto(target, source))
    return 2 * source.nbytes / ms * 1000


def parts(shape, gates):
    """Return multiply-adds and ms of each part."""
    batch, steps, features, units = shape
    width, rows = gates * units, steps * batch
    normal = tf.random.stateless_normal
    x = normal((rows, features), (0, 0))
    W = normal((features, width), (0, 1), stddev=features**-0.5)
    U = normal((units, width), (0, 2), stddev=units**-0.5)
    h, p, b = (
        normal((batch, units), (0, 3)),
        normal((3, units), (0, 4)),
        tf.zeros(width),
    )
    none = tf.zeros([0])
    no_masks = none, tf.zeros([0], tf.bool)
    operators = tensorflow_native.operators()
    options = {"path": 0, "threads": 1}
    z = tf.split(tf.reshape(x @ W, (steps, batch, width)), [steps // 2, -1])

    def forward():
        return operators.custom_layers_lstm(
            *z, U, b, h, h, p, *no_masks, none, none, none, **options
        )

    all_h, all_c, *kept, _ = forward()
    d_outputs = normal((steps, batch, units), (0, 5))

    def backward():
        return operators.custom_layers_lstm_grad(
            U, p, *no_masks, *kept, all_c, d_outputs, none, h, h, *[none] * 3, **options
        )

    d_z = tf.reshape(tf.concat(backward()[:2], axis=0), (rows, width))
    old_h = tf.reshape(all_h[:-1], (rows, units))
    of_x, of_h = rows * features * width, rows * units * width
    return [
        (of_x, median_ms(lambda: x @ W)),
        (of_h, median_ms(forward)),
        (of_h, median_ms(backward)),
        (of_h, median_ms(lambda: tf.matmul(old_h, d_z, transpose_a=True))),
        (of_x, median_ms(lambda: tf.matmul(x, d_z, transpose_a=True))),
    ]


def median_ms(function):
    """Return the median time of calls, the first ones left out."""
    times = []
    for _ in range(ROUNDS + 2):
        started = time.perf_counter()
        function()
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times[2:])


if __name__ == "__main__":
    exit_with(main)
