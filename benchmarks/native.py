"""Times the native kernel beside the loop: ``python -m benchmarks.native``.

It must have been built: ``python -m custom_layers.build_native``. For each shape a
training step of `PeepholeLSTM`, of `CoupledLSTM` and of a `DepthGatedLSTM` with two
levels, each with the loop and with the kernel, and of ``keras.layers.LSTM`` take turns,
and then inference of a batch; the figures are ratios of medians, to
``keras.layers.LSTM`` and to the floor (see `benchmarks.cpu`). At inference, and for
`DepthGatedLSTM`, the loop is Keras's.
``--dropout 0.2`` gives all of them that ``dropout`` and ``recurrent_dropout``. Without
it torch's LSTM takes part, where torch is installed.
"""

import concurrent.futures
import importlib.util
import multiprocessing
import os
import pathlib
import statistics

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf

from benchmarks.cpu import (
    SHAPES,
    TORCH,
    TRACES,
    gemm_rate,
    make_functions,
    multiply_adds,
    take_turns,
    torch_functions,
)
from custom_layers import (
    CoupledLSTM,
    DepthGatedLSTM,
    PeepholeLSTM,
    native_inference,
)
from custom_layers.engine import tensorflow_native
from recipes.run.command_line import Parser, UserError, exit_with
from recipes.run.environment import device_name, versions

ROUNDS = 15
CELLS = {
    PeepholeLSTM: "peephole",
    CoupledLSTM: "coupled",
    DepthGatedLSTM: "depth-gated",
}
VARIANTS = [(layer, native) for layer in CELLS for native in ("0", "1")]
OF_MEMORY = SHAPES["long"]


def main(arguments):
    """Time, and print a table; return the exit status."""
    parser = Parser(prog="python -m benchmarks.native", description=__doc__)
    parser.add_argument(
        "--dropout", type=float, default=0.0, help="of inputs and states (default: 0)"
    )
    dropout = parser.parse_args(arguments).dropout
    if not 0 <= dropout < 1:
        raise UserError(f"--dropout must be at least 0 and below 1, got {dropout}")
    use_all_cores()
    if problem := tensorflow_native.obstacle():
        raise UserError(f"the native kernel cannot be used: {problem}")
    names = [f"{it.__name__}, {('loop', 'native')[int(on)]}" for it, on in VARIANTS]
    has_torch = not dropout and importlib.util.find_spec("torch") is not None
    names = ["keras.layers.LSTM", *names, *([TORCH] if has_torch else [])]
    rate = gemm_rate() * (os.cpu_count() or 1)
    print(f"{device_name()}; {versions()}")
    print(f"Matrix products: {2 * rate / 1e9:.0f} GFLOP/s\n")
    for what, passes in {"train": 3, "infer": 1}.items():
        print(f"{what}\n\n| batch, steps, features, units | {' | '.join(names)} |")
        print("|---" * (1 + len(names)) + "|")
        rows = []
        for shape in SHAPES.values():
            times = compare(what, shape, dropout, has_torch)
            timed = ["lstm", *(CELLS[layer] for layer, _ in VARIANTS), "lstm"]
            floors = [passes * 1000 * multiply_adds(it, shape) / rate for it in timed]
            rows.append([ms / times[0] for ms in times])
            cells = [
                f"{ratio:.2f} · {ms / floor:.2f}"
                for ratio, ms, floor in zip(rows[-1], times, floors, strict=False)
            ]
            title = f"{', '.join(map(str, shape))} ({times[0]:.1f} ms)"
            print(f"| {title} | {' | '.join(cells)} |", flush=True)
        means = map(statistics.geometric_mean, zip(*rows, strict=True))
        print(f"| geometric mean | {' | '.join(f'{it:.2f}' for it in means)} |\n")
    print(f"Memory of a training step, MiB, {', '.join(map(str, OF_MEMORY))}:", end=" ")
    variants = [(keras.layers.LSTM, "0"), *VARIANTS]
    print(", ".join(f"{n} {memory(*v)}" for n, v in zip(names, variants, strict=False)))
    return 0


def use_all_cores():
    """Give an operation one thread, and the operations all cores."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(os.cpu_count() or 1)


def compare(what, shape, dropout, has_torch):
    """Return the ms of a step, or of inference, of Keras's LSTM and the others."""

    def make(layer):
        layer = layer(shape[3], dropout=dropout, recurrent_dropout=dropout)
        return make_functions(layer, shape)[what]

    functions = {"lstm": make(keras.layers.LSTM)}
    for layer, native in VARIANTS:
        # The kernel is chosen where a step is traced, at the first call of each trace.
        os.environ["CUSTOM_LAYERS_NATIVE"] = native
        function = make(layer)
        with native_inference():
            for _ in range(TRACES):
                function()
        functions[layer, native] = function
    if has_torch:
        functions[TORCH] = torch_functions(shape)[what]
    return [*map(statistics.median, take_turns(functions, ROUNDS).values())]


def memory(layer, native):
    """Return the MiB by which a process grows at most in training steps of a layer."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context) as process:
        return process.submit(growth_of_this_process, layer, native).result()


def growth_of_this_process(layer, native):
    """Train some steps; return the MiB by which the most memory in use grew."""
    use_all_cores()
    os.environ["CUSTOM_LAYERS_NATIVE"] = native
    step = make_functions(layer(OF_MEMORY[3]), OF_MEMORY)["train"]
    small = make_functions(layer(8), (1, 2, 3, 8))["train"]
    for _ in range(TRACES):
        small()  # what any first step needs
    before = peak_of_this_process()
    for _ in range(TRACES):
        step()
    return peak_of_this_process() - before


def peak_of_this_process():
    """Return the most MiB that this process had in use, and not those of its parent."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024


if __name__ == "__main__":
    exit_with(main)
