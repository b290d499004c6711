"""Files that other libraries wrote, with what these computed; see saved/make_….py."""

import pathlib

import keras
import numpy as np
import pytest
from cells import assert_close, run

FOLDER = pathlib.Path(__file__).parent / "saved"
BOTH = {"return_sequences": True, "return_state": True}


def assert_computes(layer, file, name, states="hc"):
    """Assert that a layer computes what a file says that a layer ``name`` computed."""
    data = np.load(FOLDER / file)
    start = [data[f"{name}_{state}0"] for state in states]
    outputs, end = run(layer, data["x"], start)
    assert_close(outputs, data[f"{name}_y"])
    for state, array in zip(states, end, strict=True):
        assert_close(array, data[f"{name}_{state}"])


def assert_same_weights(layer, other):
    """Assert that two layers have the same weights, bit by bit, by the same names."""
    assert type(layer) is type(other)
    assert [it.name for it in layer.weights] == [it.name for it in other.weights]
    pairs = zip(layer.get_weights(), other.get_weights(), strict=True)
    for array, wanted in pairs:
        np.testing.assert_array_equal(array, wanted, strict=True)


def in_rnn(layer, **arguments):
    """Return ``keras.layers.RNN`` around the cell of a layer."""
    rnn = keras.layers.RNN(layer.cell, **(BOTH | arguments))
    rnn.build((None, None, layer.cell.kernel.shape[0]))
    return rnn


def skip_where_keras_fails(layer):
    """Skip a GRU with ``reset_after`` and without a bias on JAX: with 64 bits, which
    the tests switch on, Keras mixes float32 and float64."""
    cell = getattr(layer, "cell", None)
    fails = getattr(cell, "reset_after", False) and not cell.use_bias
    if fails and keras.backend.backend() == "jax":
        pytest.skip("Keras's GRU without a bias does not run on JAX with 64 bits")
