"""Every cell computes its paper's equations: values, gradients, limits; and a wrong cell is caught."""

import keras
import numpy as np
import pytest
from cells import (
    VARIANTS,
    assert_agrees,
    assert_close,
    gradients,
    random_layer,
    random_states,
    run,
    weights_by_name,
)

from custom_layers import CELLS, CoupledLSTM, CoupledLSTMCell, PeepholeLSTM, PeepholeLSTMCell


@pytest.fixture
def rng():
    return np.random.default_rng(20)


@pytest.mark.parametrize("variant", VARIANTS)
def test_agrees_with_numpy_loop(variant, rng):
    name, arguments, loop = VARIANTS[variant]
    assert_agrees(random_layer(CELLS[name], 4, 5, rng, **arguments), loop, rng)


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_agree_with_central_differences(variant, rng):
    """Central differences of the NumPy loop, in float64; every weight has a non-zero gradient.

    On JAX and torch ``keras.ops`` computes products of float64 tensors in float32.
    """
    tolerance = 1e-8 if keras.backend.backend() == "tensorflow" else 2e-6
    name, arguments, loop = VARIANTS[variant]
    layer = random_layer(CELLS[name], 4, 3, rng, dtype="float64", **arguments)
    x = rng.uniform(-1, 1, (2, 6, 3))
    states = random_states(layer, 2, rng, "float64")
    outputs, new_states = loop(x, states, weights_by_name(layer))
    seeds = [rng.uniform(-1, 1, value.shape) for value in [outputs, *new_states]]

    def loss(weights):
        outputs, new_states = loop(x, states, weights)
        return sum(np.sum(a * b) for a, b in zip(seeds, [outputs, *new_states]))

    actual = gradients(layer, x, states, seeds)
    weights = weights_by_name(layer)
    step = 1e-5
    for weight_name, value in weights.items():
        expected = np.zeros_like(value)
        for index in np.ndindex(value.shape):
            at = value[index]
            value[index] = at + step
            above = loss(weights)
            value[index] = at - step
            below = loss(weights)
            value[index] = at
            expected[index] = (above - below) / (2 * step)
        assert np.all(expected != 0), weight_name
        assert np.max(np.abs(actual[weight_name] - expected)) < tolerance, weight_name


# A planted mistake must fail the same check.


class InputAndOutputGateSwapped(PeepholeLSTMCell):
    gates = ("o", "f", "c", "i")


class OutputGateSeesOldCell(PeepholeLSTMCell):
    def step(self, z, states):
        σ, φ, p = self.recurrent_activation, self.activation, self.peephole
        _, old = states
        i, f = σ(z["i"] + p("i", old)), σ(z["f"] + p("f", old))
        c = f * old + i * φ(z["c"])
        return {"c": c, "h": σ(z["o"] + p("o", old)) * φ(c)}


class PeepholesOfInputAndForgetSwapped(PeepholeLSTMCell):
    def peephole(self, gate, c):
        return super().peephole({"i": "f", "f": "i", "o": "o"}[gate], c)


class CouplingTheOtherWayRound(CoupledLSTMCell):
    def step(self, z, states):
        σ, φ = self.recurrent_activation, self.activation
        f = σ(z["f"])
        c = (1 - f) * states[1] + f * φ(z["c"])
        return {"c": c, "h": σ(z["o"]) * φ(c)}


class ForgetAndOutputGateSwapped(CoupledLSTMCell):
    gates = ("o", "c", "f")


MUTANTS = {
    "peephole": [
        InputAndOutputGateSwapped,
        OutputGateSeesOldCell,
        PeepholesOfInputAndForgetSwapped,
    ],
    "coupled": [CouplingTheOtherWayRound, ForgetAndOutputGateSwapped],
}
STOCK = {"lstm", "gru"}  # Keras's own; the project writes no equations for them


def test_every_cell_of_ours_has_a_mutant():
    assert set(MUTANTS) == set(CELLS) - STOCK


@pytest.mark.parametrize(
    ("name", "mutant"), [(name, mutant) for name in MUTANTS for mutant in MUTANTS[name]]
)
def test_mutant_is_caught(name, mutant, rng, monkeypatch):
    layer_class = CELLS[name]
    monkeypatch.setattr(layer_class, "cell_class", mutant)
    layer = random_layer(layer_class, 4, 5, rng)
    with pytest.raises(AssertionError, match="relative error"):
        assert_agrees(layer, VARIANTS[name][2], rng)


# Limits: where a cell must equal another one.


def test_no_peepholes_is_keras_lstm(rng):
    ours = random_layer(PeepholeLSTM, 4, 5, rng, peepholes=())
    keras_lstm = random_layer(keras.layers.LSTM, 4, 5, rng)
    keras_lstm.set_weights(ours.get_weights())
    x = rng.uniform(-1, 1, (3, 20, 5)).astype("float32")
    states = random_states(ours, 3, rng)
    for actual, expected in zip(run(ours, x, states), run(keras_lstm, x, states)):
        for a, b in zip(actual, expected):
            assert_close(a, b, 1e-6)


def test_coupled_is_lstm_with_tied_weights(rng):
    """1 − σ(z) = σ(−z): the input gate's weights are the forget gate's, negated."""
    coupled = random_layer(CoupledLSTM, 4, 5, rng)
    tied = random_layer(keras.layers.LSTM, 4, 5, rng)
    tied.set_weights([np.concatenate([-w[..., :4], w], axis=-1) for w in coupled.get_weights()])
    x = rng.uniform(-1, 1, (3, 20, 5)).astype("float32")
    states = random_states(coupled, 3, rng)
    assert_close(run(coupled, x, states)[0], run(tied, x, states)[0], 1e-6)


def test_coupled_known_value():
    """One step of TensorFlow 1's cell, as its own test publishes it; forget bias 1."""
    layer = CoupledLSTM(2, return_state=True)
    layer.build((3, 1, 4))
    bias = np.array([1, 1, 0, 0, 0, 0], "float32")
    layer.set_weights([np.full((4, 6), 0.5), np.full((2, 6), 0.5), bias])
    x = np.repeat([[1.0], [2.0], [3.0]], 4, axis=1)[:, None].astype("float32")
    tenth = np.full((3, 2), 0.1, "float32")
    _, h, c = layer(x, initial_state=[tenth, tenth])
    h, c = keras.ops.convert_to_numpy(h), keras.ops.convert_to_numpy(c)
    np.testing.assert_allclose(h[:, 0], [0.121753, 0.103349, 0.100178], atol=1e-6)
    np.testing.assert_allclose(c[:, 1], [0.137523, 0.105450, 0.100742], atol=1e-6)


def test_equal_dropout_to_keras_lstm(rng):
    """Same seed, same weights: Keras's masks and ours are the same masks."""
    options = {"dropout": 0.3, "recurrent_dropout": 0.4, "seed": 7}
    ours = random_layer(PeepholeLSTM, 4, 5, rng, peepholes=(), **options)
    keras_lstm = random_layer(keras.layers.LSTM, 4, 5, rng, **options)
    keras_lstm.set_weights(ours.get_weights())
    x = rng.uniform(-1, 1, (3, 20, 5)).astype("float32")
    dropped = run(ours, x, training=True)[0]
    assert_close(dropped, run(keras_lstm, x, training=True)[0], 1e-6)
    assert np.max(np.abs(dropped - run(ours, x, training=False)[0])) > 0.01
