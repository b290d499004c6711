"""Every cell computes its paper's equations: values, gradients, limits; and a wrong
cell is caught."""

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

from custom_layers import (
    LAYERS,
    ClockworkRNN,
    ClockworkRNNCell,
    CoupledLSTM,
    CoupledLSTMCell,
    DepthGatedLSTM,
    DepthGatedLSTMCell,
    PeepholeLSTM,
    PeepholeLSTMCell,
)
from custom_layers.engine.prepared import Masks


@pytest.mark.parametrize("variant", VARIANTS)
def test_agrees_with_numpy_loop(variant, rng):
    name, arguments, loop = VARIANTS[variant]
    assert_agrees(random_layer(LAYERS[name], 4, 5, rng, **arguments), loop, rng)


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_agree_with_central_differences(variant, rng):
    """Central differences of the NumPy loop, in float64; every weight has a non-zero
    gradient.

    On JAX and torch ``keras.ops`` computes products of float64 tensors in float32, and
    Keras's own SimpleRNN then fails on JAX: there the layer is one of float32.
    """
    dtype, tolerance = "float32", 2e-6
    if keras.backend.backend() == "tensorflow":
        dtype, tolerance = "float64", 1e-8
    name, arguments, loop = VARIANTS[variant]
    layer = random_layer(LAYERS[name], 4, 3, rng, dtype=dtype, **arguments)
    x = rng.uniform(-1, 1, (2, 9, 3))
    states = random_states(layer, 2, rng, "float64")
    outputs, new_states = loop(x, states, weights_by_name(layer))
    seeds = [rng.uniform(-1, 1, value.shape) for value in [outputs, *new_states]]

    def loss(weights):
        outputs, new_states = loop(x, states, weights)
        return sum(
            np.sum(a * b) for a, b in zip(seeds, [outputs, *new_states], strict=True)
        )

    actual = gradients(
        layer, x.astype(dtype), [state.astype(dtype) for state in states], seeds
    )
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
    gates = ("o", "f", "g", "i")


class OutputGateSeesOldCell(PeepholeLSTMCell):
    @staticmethod
    def equations(z, p, states, σ, φ):
        _, c = states
        o = σ(z.o + p.o * c)
        c = σ(z.f + p.f * c) * c + σ(z.i + p.i * c) * φ(z.g)
        return {"c": c, "h": o * φ(c)}


class PeepholesOfInputAndForgetSwapped(PeepholeLSTMCell):
    @staticmethod
    def equations(z, p, states, σ, φ):
        p.i, p.f = p.f, p.i
        return PeepholeLSTMCell.equations(z, p, states, σ, φ)


class CouplingTheOtherWayRound(CoupledLSTMCell):
    @staticmethod
    def equations(z, p, states, σ, φ):
        f = σ(z.f)
        c = (1 - f) * states[1] + f * φ(z.g)
        return {"c": c, "h": σ(z.o) * φ(c)}


class ForgetAndOutputGateSwapped(CoupledLSTMCell):
    gates = ("o", "g", "f")


def depth_gated_with(level_values):
    """Return a cell of two levels whose upper one is ``level_values(level, bottom,
    …)``."""

    class Mutant(DepthGatedLSTMCell):
        def values(self, inputs, states, training=False):
            bottom, top = self.prepare(Masks()).levels
            below = bottom.values(inputs, states[2:])
            values = level_values(top, below, states)
            names = {f"{k}_1": v for k, v in below.items()}
            return names | {f"{k}_2": v for k, v in values.items()} | {"h": values["h"]}

    return Mutant


DepthGateSeesCellOfStepBefore = depth_gated_with(
    lambda top, below, states: top.values(below["h"], [*states[:2], states[3]])
)
LevelReadsCellNotOutputBelow = depth_gated_with(
    lambda top, below, states: top.values(below["c"], [*states[:2], below["c"]])
)


class DepthGateIsTheOutputGate(DepthGatedLSTMCell):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.levels[1].gates, self.levels[1].input_gates = ("i", "f", "g", "d"), ("o",)


class FastModulesFeedSlowOnes(ClockworkRNNCell):
    def joined_recurrent_kernel(self):
        return keras.ops.transpose(super().joined_recurrent_kernel())


class ActivationOfCopies(ClockworkRNNCell):
    @staticmethod
    def equations(z, p, states, σ, φ):
        values = ClockworkRNNCell.equations(z, p, states, σ, φ)
        h = keras.ops.where(values["active"] > 0, values["h"], φ(values["h"]))
        return values | {"h": h}


class ClockOneStepLate(ClockworkRNNCell):
    @staticmethod
    def equations(z, p, states, σ, φ):
        h, clock = states
        late = [h, p.clock.tick(clock)]
        values = ClockworkRNNCell.equations(z, p, late, σ, φ)
        return values | {"clock": p.clock.tick(clock)}


MUTANTS = {
    "peephole": [
        InputAndOutputGateSwapped,
        OutputGateSeesOldCell,
        PeepholesOfInputAndForgetSwapped,
    ],
    "coupled": [CouplingTheOtherWayRound, ForgetAndOutputGateSwapped],
    "depth-gated": [
        DepthGateSeesCellOfStepBefore,
        LevelReadsCellNotOutputBelow,
        DepthGateIsTheOutputGate,
    ],
    "clockwork": [FastModulesFeedSlowOnes, ActivationOfCopies, ClockOneStepLate],
}
STOCK = {
    "lstm",
    "gru",
    "gru-cho",
    "weight-drop",
    "simple-rnn",
}  # with Keras's equations


def test_every_cell_of_ours_has_a_mutant():
    assert set(MUTANTS) == set(LAYERS) - STOCK


@pytest.mark.parametrize(
    ("name", "mutant"), [(name, mutant) for name in MUTANTS for mutant in MUTANTS[name]]
)
def test_mutant_is_caught(name, mutant, rng, monkeypatch):
    layer_class = LAYERS[name]
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
    for actual, expected in zip(
        run(ours, x, states), run(keras_lstm, x, states), strict=True
    ):
        for a, b in zip(actual, expected, strict=True):
            assert_close(a, b, 1e-6)


def test_coupled_is_lstm_with_tied_weights(rng):
    """1 − σ(z) = σ(−z): the input gate's weights are the forget gate's, negated."""
    coupled = random_layer(CoupledLSTM, 4, 5, rng)
    tied = random_layer(keras.layers.LSTM, 4, 5, rng)
    tied.set_weights(
        [np.concatenate([-w[..., :4], w], axis=-1) for w in coupled.get_weights()]
    )
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


def test_all_periods_1_is_simple_rnn(rng):
    ours = random_layer(ClockworkRNN, 4, 5, rng, periods=(1,))
    simple = random_layer(keras.layers.SimpleRNN, 4, 5, rng)
    simple.set_weights(ours.get_weights())
    x = rng.uniform(-1, 1, (3, 20, 5)).astype("float32")
    h, clock = random_states(ours, 3, rng)
    assert_close(run(ours, x, [h, clock])[0], run(simple, x, [h])[0], 1e-6)


def test_shut_depth_gate_is_a_plain_stack(rng):
    stack = random_layer(DepthGatedLSTM, 4, 5, rng, depth=3)
    for level in stack.cell.levels[1:]:
        bias = level.bias.numpy()
        bias[-4:] = -1e4  # of d, whose columns come last
        level.bias.assign(bias)
    states = random_states(stack, 3, rng)
    x = rng.uniform(-1, 1, (3, 20, 5)).astype("float32")
    outputs, new_states = run(stack, x, states)
    for number, level in enumerate(stack.cell.levels):
        plain = random_layer(PeepholeLSTM, 4, x.shape[-1], rng)
        kernel, recurrent, bias, *peepholes = level.get_weights()[:6]
        plain.set_weights([kernel[:, :16], recurrent, bias[:16], *peepholes])
        own = slice(4 - 2 * number, 6 - 2 * number)  # from the top down
        x, plain_states = run(plain, x, states[own])
        for actual, expected in zip(new_states[own], plain_states, strict=True):
            assert_close(actual, expected, 1e-6)
    assert_close(outputs, x, 1e-6)


def test_a_closed_module_copies_exactly(rng):
    layer = random_layer(ClockworkRNN, 6, 5, rng, periods=(2, 3, 5))
    x = rng.uniform(-1, 1, (3, 31, 5)).astype("float32")
    outputs, _ = run(layer, x)
    for module, period in enumerate((2, 3, 5)):
        own = outputs[..., 2 * module : 2 * module + 2]
        for t in range(1, 31):
            copied = np.array_equal(own[:, t], own[:, t - 1])
            assert copied == (t % period != 0)


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16", "float32"])
@pytest.mark.parametrize("start", [0, 250, 2998, 70_000])
def test_the_clock_survives_low_precision(dtype, start, rng):
    """Periods that bfloat16, which sticks at 256, and float16, at 2048, cannot count up
    to."""
    periods = (3, 257, 3001)
    layer = random_layer(ClockworkRNN, 3, 2, rng, periods=periods, dtype=dtype)
    digits = layer.cell.clock.at(start)
    h, x = rng.uniform(-1, 1, (1, 3)), rng.uniform(-1, 1, (1, 12, 2)).astype("float32")
    outputs = layer(
        x, initial_state=[h.astype("float32"), np.array([digits], "float32")]
    )[0]
    outputs = keras.ops.convert_to_numpy(keras.ops.cast(outputs, "float32"))[0]
    for t in range(1, 12):
        ticks = [bool(changed) for changed in outputs[t] != outputs[t - 1]]
        assert ticks == [(start + t) % period == 0 for period in periods]


def test_unrolled_with_the_ticking_modules_alone_is_the_loop(rng):
    """Outputs, states and gradients; also backwards."""
    for options in ({}, {"go_backwards": True}, {"use_bias": False}):
        loop = random_layer(ClockworkRNN, 6, 5, rng, periods=(2, 3, 5), **options)
        skipping = ClockworkRNN.from_config(loop.get_config() | {"unroll": True})
        skipping.build((None, 11, 5))
        skipping.set_weights(loop.get_weights())
        x = rng.uniform(-1, 1, (3, 11, 5)).astype("float32")
        seeds = [rng.uniform(-1, 1, (3, 11, 6)).astype("float32"), 0.0, 0.0]
        for a, b in zip(run(skipping, x), run(loop, x), strict=True):
            for actual, expected in zip(a, b, strict=True):
                assert_close(actual, expected, 1e-6)
        expected = gradients(loop, x, None, seeds)
        for name, gradient in gradients(skipping, x, None, seeds).items():
            assert_close(gradient, expected[name], 1e-5)


def test_the_clock_pauses_on_padding_and_starts_at_the_end_backwards(rng):
    layer = random_layer(ClockworkRNN, 4, 5, rng, periods=(1, 4))
    x = rng.uniform(-1, 1, (1, 9, 5)).astype("float32")
    mask = np.array([[True, False, True, True, False, True, True, True, False]])
    _, (_, clock) = run(layer, x, mask=mask)
    np.testing.assert_array_equal(clock, [[0, 6 % 4]])
    backwards = ClockworkRNN.from_config(layer.get_config() | {"go_backwards": True})
    backwards.build(x.shape)
    backwards.set_weights(layer.get_weights())
    outputs, (_, clock) = run(backwards, x)
    np.testing.assert_array_equal(clock, [[0, 9 % 4]])
    slow = outputs[0, :, 2:]
    assert [bool(np.any(slow[t] != slow[t - 1])) for t in range(1, 9)] == [
        t % 4 == 0 for t in range(1, 9)
    ]
