"""The gradient by each output of a recurrent layer, beside differences of the loss."""

import dataclasses
import functools
import itertools

import keras
import numpy as np
import pytest

from recipes.comparison.cells import CELLS
from recipes.comparison.plots import draw_gradients
from recipes.comparison.tasks import gradient
from recipes.comparison.tasks.gradient import gradient_norms
from recipes.comparison.tasks.registry import TASKS
from recipes.comparison.trial import Trial, run

T, STEP = 6, 1e-5
OPTIONS = {"clockwork": {"periods": (1, 2, 4)}}


@pytest.fixture
def float64():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("cell", CELLS)
def test_norms_are_those_of_differences(cell, float64, rng):
    """The state is changed after each step, and the layer reads the rest from there."""
    make = functools.partial(CELLS[cell], 3, **OPTIONS.get(cell, {}))
    model = TASKS["gradient"].make_model(make)
    for weight in model.trainable_weights:
        weight.assign(rng.normal(size=weight.shape))
    x, y = rng.normal(size=(2, T, 2)), rng.normal(size=(2, 1))
    norms, all_norms = gradient_norms(model, x, y)
    for them in norms, all_norms:
        assert them.shape == (T,) and them.dtype == np.float64

    reader = make(return_state=True)
    reader.build((None, T, 2))
    reader.set_weights(model.layers[1].get_weights())
    dense = model.layers[2]

    def loss_from(t, states, h):
        """Return the losses from the states of step t, whose output is h."""
        if t + 1 < T and cell != "clockwork":
            h = reader(x[:, t + 1 :], initial_state=states)[0]
        elif t + 1 < T:  # which counts the steps, so step by step with its cell
            for later in range(t + 1, T):
                h, states = reader.cell(x[:, later], states, training=False)
        return np.sum((np.asarray(dense(h)) - y) ** 2, axis=1)

    for t in range(T):
        h, *states = (np.asarray(it) for it in reader(x[:, : t + 1]))
        number = next(i for i, it in enumerate(states) if np.array_equal(it, h))
        squares = np.zeros((len(states), len(x)))
        for i, state in enumerate(states):
            if cell == "clockwork" and i != number:
                continue  # the clock
            for unit in range(state.shape[1]):
                losses = []
                for sign in (1, -1):
                    moved = state + sign * STEP * np.eye(state.shape[1])[unit]
                    new = [*states[:i], moved, *states[i + 1 :]]
                    losses.append(loss_from(t, new, new[number]))
                squares[i] += ((losses[0] - losses[1]) / (2 * STEP)) ** 2
        of_h, of_all = np.sqrt(squares[number]), np.sqrt(squares.sum(axis=0))
        np.testing.assert_allclose(norms[t], of_h.mean(), rtol=1e-5)
        np.testing.assert_allclose(all_norms[t], of_all.mean(), rtol=1e-5)


def test_norms_of_a_simple_rnn_by_hand(float64, rng):
    """∂loss/∂h_t = U (1 − h²) ⊙ ∂loss/∂h_{t+1}, from the last step backwards."""
    model = TASKS["gradient"].make_model(functools.partial(keras.layers.SimpleRNN, 4))
    for weight in model.trainable_weights:
        weight.assign(rng.normal(size=weight.shape))
    W, U, b, V, d = (np.asarray(weight) for weight in model.trainable_weights)
    x, y = rng.normal(size=(5, T, 2)), rng.normal(size=(5, 1))
    h = [np.zeros((5, 4))]
    for t in range(T):
        h.append(np.tanh(x[:, t] @ W + h[-1] @ U + b))
    flow = [2 * (h[T] @ V + d - y) @ V.T]
    for t in range(T, 1, -1):
        flow.append((flow[-1] * (1 - h[t] ** 2)) @ U.T)
    expected = np.linalg.norm(flow[::-1], axis=2).mean(axis=1)
    for norms in gradient_norms(model, x, y):  # h is all that it hands on
        np.testing.assert_allclose(norms, expected)


def test_it_is_noted_before_and_after_training(tmp_path, monkeypatch):
    short = dataclasses.replace(TASKS["gradient"], inputs=(8, 2))
    monkeypatch.setitem(TASKS, "gradient", short)
    result = run(Trial("gradient", "lstm", 1, parameters=200, effort=0.01))
    before, after = result["observed"]["before"], result["observed"]["after"]
    for name in ("h", "s"):
        assert len(before[name]) == len(after[name]) == 8
        assert before[name] != after[name]
        assert all(number > 0 for number in before[name] + after[name])
    assert before["h"] != before["s"]
    draw_gradients(tmp_path / "it.png", [result, result | {"seed": 2}])
    assert (tmp_path / "it.png").read_bytes().startswith(b"\x89PNG")


def test_a_cell_whose_output_is_no_state_is_refused():
    class Doubled(keras.layers.SimpleRNNCell):
        def call(self, inputs, states, training=False):
            h, states = super().call(inputs, states, training=training)
            return 2 * h, states

    def make(**options):
        return keras.layers.RNN(Doubled(3), **options)

    model = TASKS["gradient"].make_model(make)
    model.layers[1].units = 3
    x, y = next(itertools.islice(TASKS["gradient"].batches(1, 2), 1))
    with pytest.raises(TypeError, match="no state of Doubled is its output"):
        gradient.gradient_norms(model, x, y)
