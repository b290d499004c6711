"""Checks every layer on Keras's device, meant for a GPU: values, gradients, time.

``PYTHONPATH=tests/custom_layers python -m benchmarks.gpu`` needs Keras, one backend
(``KERAS_BACKEND``), and this checkout. It prints a table with a row a layer: largest
relative error of outputs and states against the NumPy loops of
``tests/custom_layers/reference.py``, largest relative difference of the gradients from
Keras's loop, and the median milliseconds of a training step, plain and
compiled, with the ratio of the better one to ``keras.layers.LSTM``. The exit status is
1 if a value is wrong.
"""

import argparse
import sys
import time

import keras
import numpy as np
from cells import VARIANTS, gradients, random_layer, random_states, run, weights_by_name

from custom_layers import LAYERS, kernel_report
from custom_layers.engine import dispatch

TOLERANCE = 1e-3  # cuDNN may multiply in TensorFloat-32


def error(actual, expected):
    """Return the largest error, relative to the largest value; infinite for NaN."""
    actual, expected = np.asarray(actual, "float64"), np.asarray(expected, "float64")
    if actual.shape != expected.shape or not np.all(np.isfinite(actual)):
        return np.inf
    return np.max(np.abs(actual - expected)) / (np.max(np.abs(expected)) or 1)


def value_error(variant):
    """Return the error of a variant's outputs and states against its NumPy loop."""
    name, arguments, loop = VARIANTS[variant]
    rng = np.random.default_rng(1)
    layer = random_layer(LAYERS[name], 64, 32, rng, scale=0.2, **arguments)
    x = rng.uniform(-1, 1, (16, 40, 32)).astype("float32")
    states = random_states(layer, 16, rng)
    outputs, new_states = run(layer, x, states)
    wide = [state.astype("float64") for state in states]
    wanted, wanted_states = loop(x.astype("float64"), wide, weights_by_name(layer))
    pairs = zip([outputs, *new_states], [wanted, *wanted_states], strict=True)
    return max(error(actual, expected) for actual, expected in pairs)


def gradient_error(variant):
    """Return how a variant's gradients differ from those of its loop without cuDNN.

    None for a layer that has no other kernel.
    """
    name, arguments, _ = VARIANTS[variant]
    rng = np.random.default_rng(2)
    layer = random_layer(LAYERS[name], 64, 32, rng, scale=0.2, **arguments)
    if dispatch.choose(layer, "gpu", training=True)[0] != dispatch.CUDNN:
        return None
    plain = LAYERS[name](
        64, return_sequences=True, return_state=True, use_cudnn=False, **arguments
    )
    plain.build((None, None, 32))
    plain.set_weights(layer.get_weights())
    x = rng.uniform(-1, 1, (16, 40, 32)).astype("float32")
    states = random_states(layer, 16, rng)
    seeds = [rng.uniform(-1, 1, (16, 40, 64)).astype("float32"), *(0.0 for _ in states)]
    fused, loop = (gradients(it, x, states, seeds) for it in (layer, plain))
    return max(error(fused[key], loop[key]) for key in loop)


def step_milliseconds(variant, shape, jit_compile, steps=30, repeats=5):
    """Return the median time of a training step."""
    name, arguments, _ = VARIANTS[variant]
    batch, length, features, units = shape
    layer = LAYERS[name](units, **arguments)
    model = keras.Sequential(
        [keras.Input((length, features)), layer, keras.layers.Dense(1)]
    )
    model.compile("adam", "mse", jit_compile=jit_compile)
    rng = np.random.default_rng(3)
    x = rng.normal(size=(batch * steps, length, features)).astype("float32")
    y = rng.normal(size=(batch * steps, 1)).astype("float32")
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        model.fit(x, y, batch_size=batch, shuffle=False, verbose=0)
        times.append((time.perf_counter() - started) / steps * 1000)
    return float(np.median(times[1:]))


def main(arguments):
    """Print the table; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--shape", default="64,400,128,128", help="batch,steps,features,units"
    )
    parser.add_argument(
        "--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS)
    )
    options = parser.parse_args(arguments)
    shape = tuple(int(number) for number in options.shape.split(","))
    device = dispatch.device()
    print(
        f"Keras {keras.__version__}, backend {keras.backend.backend()}, {device}, "
        f"shape {shape}"
    )
    print(
        "| layer | kernel | value error | gradient difference | plain ms "
        "| compiled ms | ratio |"
    )
    print("|---|---|---|---|---|---|---|")
    reference, wrong = None, []
    # The first is what ratios refer to.
    for variant in dict.fromkeys(["lstm", *options.variants]):
        name, extra, _ = VARIANTS[variant]
        (kernel,) = {
            kernels[device]
            for kernels in kernel_report(LAYERS[name](8, **extra)).values()
        }
        errors = [value_error(variant), gradient_error(variant)]
        if any(not value <= TOLERANCE for value in errors if value is not None):
            wrong.append(variant)
        difference = "" if errors[1] is None else f"{errors[1]:.1e}"
        times = [step_milliseconds(variant, shape, False)]
        if kernel != "cuDNN" or keras.backend.backend() == "jax":
            times.append(step_milliseconds(variant, shape, True))
        best = min(times)
        reference = reference or best
        compiled = f"{times[1]:.2f}" if len(times) > 1 else ""
        print(
            f"| {variant} | {kernel.split(':')[0]} | {errors[0]:.1e} | {difference} "
            f"| {times[0]:.2f} | {compiled} | {best / reference:.2f} |",
            flush=True,
        )
    print(f"wrong: {', '.join(wrong)}" if wrong else f"all within {TOLERANCE:g}")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
