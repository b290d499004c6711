"""What the cell tests share: layers with random weights, their reference, gradients by
backend."""

import functools

import keras
import numpy as np
from reference import REFERENCES, clockwork, depth_gated

from custom_layers import LAYERS, WeightDropLSTM

#: The layers of this package, by name.
OURS = {name: layer for name, layer in LAYERS.items() if hasattr(layer, "cell_class")}

#: Every configuration that is checked against its loop: id -> (registry name,
#: arguments, loop).
VARIANTS = {name: (name, {}, REFERENCES[name]) for name in LAYERS}
VARIANTS |= {
    "peephole-none": ("peephole", {"peepholes": ()}, REFERENCES["peephole"]),
    "peephole-f": ("peephole", {"peepholes": ("f",)}, REFERENCES["peephole"]),
    "peephole-o-i": ("peephole", {"peepholes": ("o", "i")}, REFERENCES["peephole"]),
    "coupled-f-o": ("coupled", {"peepholes": ("f", "o")}, REFERENCES["coupled"]),
    "depth-gated-3": (
        "depth-gated",
        {"depth": 3},
        functools.partial(depth_gated, depth=3),
    ),
    "clockwork-2-3": (
        "clockwork",
        {"periods": (2, 3)},
        functools.partial(clockwork, periods=(2, 3)),
    ),
}

TIGHT = 1e-5  # relative agreement in float32, over 60 steps, |weights| up to 1


def random_layer(layer_class, units, features, rng, scale=1.0, **arguments):
    """Return a built layer whose weights, biases too, are random and non-zero."""
    arguments = {"return_sequences": True, "return_state": True} | arguments
    layer = layer_class(units, **arguments)
    layer.build((None, None, features))
    layer.set_weights(
        [rng.uniform(-scale, scale, weight.shape) for weight in layer.get_weights()]
    )
    return layer


def random_states(layer, batch, rng, dtype="float32"):
    """Return random non-zero states for a layer, all sequences at the same random time
    of a clock."""
    states = [
        rng.uniform(-1, 1, (batch, size)).astype(dtype) for size in layer.state_size
    ]
    if hasattr(layer.cell, "clock"):
        digits = layer.cell.clock.at(int(rng.integers(1, 1000)))
        states[1] = np.tile(digits.astype(dtype), (batch, 1))
    return states


def dropouts(layer_class, dropout, recurrent):
    """Return the arguments that drop inputs, and states or recurrent weights, of a
    layer."""
    name = "weight_dropout" if layer_class is WeightDropLSTM else "recurrent_dropout"
    return {"dropout": dropout, name: recurrent}


def weights_by_name(layer):
    """Return the weights as float64 arrays, by name; with the level's name in a stack
    of levels."""
    return {
        _name(weight): weight.numpy().astype("float64")
        for weight in layer.trainable_weights
    }


def _name(weight):
    *_, parent, name = weight.path.split("/")
    return f"{parent}/{name}" if parent.startswith("level_") else name


def run(layer, x, states=None, **call):
    """Call a layer with return_sequences and return_state; return NumPy outputs and
    states."""
    outputs, *new_states = layer(x, initial_state=states, **call)
    convert = keras.ops.convert_to_numpy
    return convert(outputs), [convert(state) for state in new_states]


def assert_close(actual, expected, tolerance=TIGHT):
    """Assert that the largest error is within ``tolerance`` of the largest expected
    value."""
    actual, expected = np.asarray(actual, "float64"), np.asarray(expected, "float64")
    assert actual.shape == expected.shape
    error = np.max(np.abs(actual - expected)) / (np.max(np.abs(expected)) or 1)
    assert error <= tolerance, f"relative error {error:.2e}, allowed {tolerance:.0e}"


def assert_agrees(layer, loop, rng, batch=3, time=60, features=5):
    """Assert that a layer computes what its NumPy loop computes, from random states."""
    x = rng.uniform(-1, 1, (batch, time, features)).astype("float32")
    states = random_states(layer, batch, rng)
    outputs, new_states = run(layer, x, states)
    expected, expected_states = loop(
        x.astype("float64"),
        [state.astype("float64") for state in states],
        weights_by_name(layer),
    )
    assert_close(outputs, expected)
    for actual, wanted in zip(new_states, expected_states, strict=True):
        assert_close(actual, wanted)


def gradients(layer, x, states, seeds):
    """Return d(sum of seeds·outputs)/d(weights), by name, from the backend's own
    differentiation."""

    def loss(result):
        outputs, *new_states = result
        return sum(
            keras.ops.sum(keras.ops.multiply(b, a))
            for a, b in zip(seeds, [outputs, *new_states], strict=True)
        )

    weights = layer.trainable_variables
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            value = loss(layer(x, initial_state=states))
        values = tape.gradient(value, [weight.value for weight in weights])
    elif backend == "jax":
        import jax

        def value(trainable):
            fixed = [variable.value for variable in layer.non_trainable_variables]
            return loss(
                layer.stateless_call(trainable, fixed, x, initial_state=states)[0]
            )

        values = jax.grad(value)([weight.value for weight in weights])
    else:
        loss(layer(x, initial_state=states)).backward()
        values = [weight.value.grad for weight in weights]
    return {
        _name(weight): keras.ops.convert_to_numpy(value)
        for weight, value in zip(weights, values, strict=True)
    }
