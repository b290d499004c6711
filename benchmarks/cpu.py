"""Times every layer beside Keras's, in turns in one process, and prints ratios.

``make bench`` or ``python -m benchmarks.cpu``. First the machine's own rate of matrix
products is taken; the floor of a step is its counted multiply-adds at that rate. Every
figure is the median over rounds in which all layers take turns, with the spread from
the first to the third quartile; of a training step, over `TRACES` traces too.
"""

import argparse
import itertools
import json
import os
import pathlib
import random
import resource
import statistics
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from custom_layers import LAYERS, PeepholeLSTMCell
from recipes.run.command_line import expand
from recipes.run.environment import device_name, versions

SHAPES = {  # batch, steps, features, units
    "mnist": (128, 28, 28, 128),
    "imdb": (64, 80, 32, 100),
    "long": (64, 400, 128, 128),
    "wide": (64, 80, 32, 512),
}
DROPOUTS = {"dropout": 0.2, "recurrent_dropout": 0.2}
TORCH = "torch.nn.LSTM"
TRACES = 3  # of a training step: one can be a quarter slower than another, at random
UNTIMED = ("gru-cho", "simple-rnn")
GATES = {"coupled": 3, "gru": 3, "clockwork": 1}  # others have 4


def layers_for(units, with_dropout):
    """Return the layers to time, by name; the first is the one that ratios refer to."""
    if with_dropout:
        options = {"lstm": {}, "peephole": {}, "coupled": {}, "gru": {}}
        made = {name: LAYERS[name](units, **DROPOUTS) for name in options}
        made["peephole, tied"] = LAYERS["peephole"](
            units, tied_dropout=True, **DROPOUTS
        )
        made["coupled, tied"] = LAYERS["coupled"](units, tied_dropout=True, **DROPOUTS)
        return made
    made = {name: layer(units) for name, layer in LAYERS.items() if name not in UNTIMED}
    made["RNN(PeepholeLSTMCell)"] = keras.layers.RNN(PeepholeLSTMCell(units))
    return made


def multiply_adds(name, shape):
    """Return the multiply-adds of the matrix products of one forward pass."""
    batch, steps, features, units = shape
    gates = GATES.get(name.split(",")[0], 4)
    levels = 2 if name == "depth-gated" else 1
    work = (features + units) * gates * units
    if levels == 2:
        work += 2 * units * gates * units + units * units
    return batch * steps * work


def gemm_rate():
    """Return multiply-adds a second of a large product."""
    a = tf.random.normal((2048, 2048))
    times = []
    for _ in range(8):
        started = time.perf_counter()
        tf.matmul(a, a).numpy()
        times.append(time.perf_counter() - started)
    return 2048**3 / min(times)


def make_functions(layer, shape):
    """Return functions: a training step, inference of a batch, and of one sequence."""
    batch, steps, features, _ = shape
    inputs = keras.Input((steps, features))
    model = keras.Model(inputs, keras.layers.Dense(1)(layer(inputs)))
    optimizer = keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(size=(batch, steps, features)), tf.float32)
    y = tf.constant(rng.normal(size=(batch, 1)), tf.float32)
    one = x[:1]

    def train():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(x, training=True) - y))
        variables = model.trainable_variables
        optimizer.apply_gradients(
            zip(tape.gradient(loss, variables), variables, strict=True)
        )
        return loss

    @tf.function(jit_compile=False)
    def infer():
        return model(x, training=False)

    @tf.function(jit_compile=False)
    def infer_one():
        return model(one, training=False)

    traces = itertools.cycle(
        [tf.function(train, jit_compile=False) for _ in range(TRACES)]
    )
    return {"train": lambda: next(traces)(), "infer": infer, "infer one": infer_one}


def torch_functions(shape):
    """Return the same for torch's LSTM, or None where torch is not installed."""
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(os.cpu_count())
    batch, steps, features, units = shape
    lstm, head = (
        torch.nn.LSTM(features, units, batch_first=True),
        torch.nn.Linear(units, 1),
    )
    optimizer = torch.optim.Adam([*lstm.parameters(), *head.parameters()])
    x, y = torch.randn(batch, steps, features), torch.randn(batch, 1)

    def train():
        optimizer.zero_grad()
        loss = torch.mean((head(lstm(x)[0][:, -1]) - y) ** 2)
        loss.backward()
        optimizer.step()
        return loss.detach()

    def infer_from(sequences):
        with torch.no_grad():
            return head(lstm(sequences)[0][:, -1])

    return {
        "train": train,
        "infer": lambda: infer_from(x),
        "infer one": lambda: infer_from(x[:1]),
    }


def take_turns(functions, rounds):
    """Return the times in ms of each function, called in turn, in changing order."""
    for function in functions.values():
        for _ in range(TRACES):
            function().numpy()
    times = {name: [] for name in functions}
    names = list(functions)
    for turn in range(rounds):
        random.Random(turn).shuffle(names)
        for name in names:
            started = time.perf_counter()
            functions[name]().numpy()
            times[name].append((time.perf_counter() - started) * 1000)
            if name == TORCH:
                time.sleep(
                    0.3
                )  # its threads stay awake, and would slow the next one down
    return times


def summary(times):
    """Return median and quartiles."""
    low, middle, high = statistics.quantiles(times, n=4)
    return {"ms": round(middle, 3), "from": round(low, 3), "to": round(high, 3)}


def time_shape(title, shape, rounds, rate, with_dropout=False):
    """Print a table of all layers at one shape; return its rows."""
    print(f"\n### {title}: batch, steps, features, units = {shape}\n")
    print("| layer | what | ms | quartiles | ratio to lstm | ratio to floor |")
    print("|---|---|---|---|---|---|")
    functions = {
        name: make_functions(layer, shape)
        for name, layer in layers_for(shape[3], with_dropout).items()
    }
    torch_lstm = None if with_dropout else torch_functions(shape)
    if torch_lstm:
        functions[TORCH] = torch_lstm
    rows = []
    for what, passes in {"train": 3, "infer": 1, "infer one": 1}.items():
        times = take_turns(
            {name: made[what] for name, made in functions.items()}, rounds
        )
        for name, values in times.items():
            work = (
                multiply_adds(name, (1, *shape[1:]) if what == "infer one" else shape)
                * passes
            )
            floor = work / rate * 1000
            figures = summary(values)
            ratio = figures["ms"] / statistics.median(times["lstm"])
            row = {"shape": title, "layer": name, "what": what, **figures}
            row |= {
                "to_lstm": round(ratio, 3),
                "to_floor": round(figures["ms"] / floor, 2),
            }
            rows.append(row)
            print(
                f"| {name} | {what} | {figures['ms']:.2f} "
                f"| {figures['from']:.2f}–{figures['to']:.2f} "
                f"| {ratio:.2f} | {row['to_floor']:.2f} |",
                flush=True,
            )
    return rows


def growth(rounds):
    """Print how a training step grows with steps and with units; return the rows."""
    print("\n### Growth of a training step\n")
    print("| layer | batch, steps, features, units | ms |")
    print("|---|---|---|")
    rows = []
    shapes = [(64, steps, 32, 100) for steps in (50, 100, 200, 400, 800)]
    shapes += [(64, 50, 32, units) for units in (32, 64, 128, 256, 512, 1024)]
    for shape in shapes:
        functions = {
            name: make_functions(LAYERS[name](shape[3]), shape)["train"]
            for name in ("lstm", "peephole", "coupled")
        }
        for name, times in take_turns(functions, rounds).items():
            rows.append({"layer": name, "shape": shape, **summary(times)})
            print(f"| {name} | {shape} | {rows[-1]['ms']:.1f} |", flush=True)
    return rows


def prediction(rounds):
    """Print throughput and latency of ``predict`` and of a compiled function."""
    print("\n### Prediction, 128 units, MNIST's shape\n")
    print("| layer | how | sequences a second | ms for one | traces |")
    print("|---|---|---|---|---|")
    rows = []
    x = np.random.default_rng(0).normal(size=(2560, 28, 28)).astype("float32")
    for name in ("lstm", "peephole", "coupled"):
        model = keras.Sequential(
            [keras.Input((28, 28)), LAYERS[name](128), keras.layers.Dense(10)]
        )
        model.compile(jit_compile=False)
        compiled = tf.function(
            lambda x, model=model: model(x, training=False), reduce_retracing=False
        )
        many = [tf.constant(x[i : i + 128]) for i in range(0, len(x), 128)]
        one = tf.constant(x[:1])
        ways = {
            "predict": (
                lambda model=model: model.predict(x, batch_size=128, verbose=0),
                lambda model=model: model.predict(x[:1], verbose=0),
            ),
            "tf.function": (
                lambda compiled=compiled, many=many: [compiled(part) for part in many][
                    -1
                ].numpy(),
                lambda compiled=compiled, one=one: compiled(one).numpy(),
            ),
        }
        for way, (all_at_once, single) in ways.items():
            times = []
            for call in (all_at_once, single):
                call()
                spent = []
                for _ in range(rounds):
                    started = time.perf_counter()
                    call()
                    spent.append(time.perf_counter() - started)
                times.append(statistics.median(spent))
            traces = (
                compiled.experimental_get_tracing_count()
                if way == "tf.function"
                else ""
            )
            row = {
                "layer": name,
                "way": way,
                "per_second": len(x) / times[0],
                "one_ms": times[1] * 1000,
            }
            rows.append(row)
            print(
                f"| {name} | {way} | {row['per_second']:,.0f} "
                f"| {row['one_ms']:.2f} | {traces} |"
            )
    return rows


def geometric_means(rows):
    """Print the geometric mean over the shapes of the training ratios; return them."""
    print(
        "\n### Training step, ratio to keras.layers.LSTM, "
        "geometric mean over the shapes\n"
    )
    means = {}
    for dropout in (False, True):
        chosen = [
            row
            for row in rows
            if row["what"] == "train" and row["shape"].endswith("dropout") is dropout
        ]
        for name in dict.fromkeys(row["layer"] for row in chosen):
            ratios = [row["to_lstm"] for row in chosen if row["layer"] == name]
            title = f"{name}, dropouts 0.2" if dropout else name
            means[title] = round(statistics.geometric_mean(ratios), 3)
            print(f"- {title}: {means[title]:.2f}")
    return means


def main():
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--rounds", type=int, default=21, help="times each function is timed"
    )
    parser.add_argument(
        "--shapes", nargs="*", default=list(SHAPES), choices=list(SHAPES)
    )
    parser.add_argument(
        "--no-growth", action="store_true", help="leave the growth tables out"
    )
    parser.add_argument(
        "--default-threads", action="store_true", help="TensorFlow's own threads"
    )
    parser.add_argument("--out", default="runs/bench.json", help="where the JSON goes")
    options = parser.parse_args(expand(sys.argv[1:]))
    tf.get_logger().setLevel("ERROR")  # many functions are traced here, on purpose
    if not options.default_threads:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(os.cpu_count())
    # The rate of one core times the cores: with one thread to an operation, that is the
    # limit.
    rate = gemm_rate() * (1 if options.default_threads else os.cpu_count())
    print(f"{device_name()}; {versions()}")
    print(f"Matrix products: {2 * rate / 1e9:.0f} GFLOP/s")
    rows = []
    for name in options.shapes:
        rows += time_shape(name, SHAPES[name], options.rounds, rate)
        if name != "wide":
            rows += time_shape(
                f"{name}, dropout", SHAPES[name], options.rounds, rate, True
            )
    report = {
        "device": device_name(),
        "versions": versions(),
        "flops": 2 * rate,
        "rows": rows,
    }
    report["means"] = geometric_means(rows)
    report["prediction"] = prediction(options.rounds)
    if not options.no_growth:
        report["growth"] = growth(options.rounds)
    report["peak_memory_mib"] = (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    )
    print(f"\nPeak memory: {report['peak_memory_mib']:,} MiB")
    path = pathlib.Path(options.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1))
    print(f"Figures: {path}")


if __name__ == "__main__":
    main()
