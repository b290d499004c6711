"""The traces are what the layer computes: states, gates, masked, backwards."""

import keras
import numpy as np
import pytest
from cells import (
    VARIANTS,
    assert_close,
    random_layer,
    random_states,
    run,
    weights_by_name,
)
from reference import by_gate, sigmoid

from custom_layers import LAYERS, ClockworkRNN, CoupledLSTM, DepthGatedLSTM, trace_gates

UNITS, FEATURES, BATCH, TIME = 4, 5, 3, 10
TRACED = {
    key: (LAYERS[name], arguments) for key, (name, arguments, _) in VARIANTS.items()
}
GATES = {
    "lstm": "i f o",
    "peephole": "i f o",
    "coupled": "f o",
    "gru": "z r",
    "depth-gated": "i_1 f_1 o_1 i_2 f_2 d_2 o_2",
    "clockwork": "active",
    "weight-drop": "i f o",
    "simple-rnn": "",
}


@pytest.fixture(params=TRACED)
def make(request):
    layer_class, arguments = TRACED[request.param]
    return lambda rng, **more: random_layer(
        layer_class, UNITS, FEATURES, rng, **arguments, **more
    )


def test_h_and_c_are_the_layer_s(make, rng, x):
    layer = make(rng)
    for states in (
        None,
        random_states(layer, BATCH, rng) if "simple" not in layer.name else None,
    ):
        outputs, new_states = run(layer, x, states)
        traces = trace_gates(layer, x, initial_state=states)
        assert {values.shape for values in traces.values()} == {(BATCH, TIME, UNITS)}
        assert_close(traces["h"], outputs, 1e-6)
        if "c" in traces:
            assert_close(traces["c"][:, -1], new_states[1], 1e-6)


def test_masked_steps_hold_states_and_have_no_gates(make, rng, x):
    layer = make(rng)
    mask = np.ones((BATCH, TIME), bool)
    mask[0, 6:] = False
    mask[1, 2:4] = False
    mask[2, :3] = False
    outputs, states = run(layer, x, mask=mask)
    traces = trace_gates(layer, x, mask=mask)
    assert_close(
        np.where(mask[..., None], traces["h"], 0),
        np.where(mask[..., None], outputs, 0),
        1e-6,
    )
    assert_close(traces["h"][:, -1], states[0], 1e-6)
    np.testing.assert_array_equal(traces["h"][1, 3], traces["h"][1, 1])
    assert not traces["h"][2, :3].any()
    for name, values in traces.items():
        held = name.split("_")[0] in ("h", "c")
        np.testing.assert_array_equal(
            np.isnan(values), (~mask & (not held))[..., None] & np.ones(UNITS, bool)
        )


def test_go_backwards(make, rng, x):
    layer = make(rng, go_backwards=True)
    mask = np.arange(TIME) < np.array([[TIME], [5], [8]])
    traces = trace_gates(layer, x, mask=mask)
    outputs = run(layer, x, mask=mask)[0]
    assert_close(traces["h"][:, -1], outputs[:, -1], 1e-6)
    (candidate, *_) = (
        values for name, values in traces.items() if name.startswith("g")
    )
    assert np.isnan(candidate[1, :5]).all() and not np.isnan(candidate[1, 5:]).any()
    assert_close(trace_gates(layer, x)["h"], run(layer, x)[0], 1e-6)


@pytest.mark.parametrize("name", GATES)
def test_names(name, rng, x):
    layer_class, arguments = TRACED[name]
    traces = trace_gates(
        random_layer(layer_class, UNITS, FEATURES, rng, **arguments), x
    )
    found = {key for key in traces if key.split("_")[0] not in ("g", "c", "h")}
    assert found == set(GATES[name].split())
    assert {"h"} <= traces.keys()
    assert ("c" in traces) == (name not in ("gru", "clockwork", "simple-rnn"))
    for key in found:
        assert np.all((traces[key] >= 0) & (traces[key] <= 1))
        assert len(np.unique(traces[key])) > (1 if key == "active" else 50)


@pytest.mark.parametrize("name", ["lstm", "weight-drop", "peephole-none"])
def test_gates_of_an_lstm(name, rng, x):
    """The formulas of Gers et al. 2000, from the traced h."""
    layer_class, arguments = TRACED[name]
    layer = random_layer(layer_class, UNITS, FEATURES, rng, **arguments)
    traces = trace_gates(layer, x)
    W, U, b = by_gate(weights_by_name(layer), "ifco")
    before = np.concatenate([np.zeros((BATCH, 1, UNITS)), traces["h"][:, :-1]], axis=1)
    z = {gate: x @ W[gate] + before @ U[gate] + b[gate] for gate in "ifco"}
    for gate in "ifo":
        assert_close(traces[gate], sigmoid(z[gate]), 1e-5)
    assert_close(traces["g"], np.tanh(z["c"]), 1e-5)
    assert_close(traces["h"], traces["o"] * np.tanh(traces["c"]), 1e-6)


@pytest.mark.parametrize("reset_after", [True, False])
def test_gates_of_a_gru(reset_after, rng, x):
    layer = random_layer(
        keras.layers.GRU, UNITS, FEATURES, rng, reset_after=reset_after
    )
    traces = trace_gates(layer, x)
    weights = weights_by_name(layer)
    W, U, _ = by_gate(weights | {"bias": np.zeros(3)}, "zrh")
    b = np.split(weights["bias"].reshape(-1, 3 * UNITS).sum(axis=0), 3)
    before = np.concatenate([np.zeros((BATCH, 1, UNITS)), traces["h"][:, :-1]], axis=1)
    for gate, bias in zip("zr", b[:2], strict=True):
        assert_close(traces[gate], sigmoid(x @ W[gate] + before @ U[gate] + bias), 1e-5)


def test_without_bias_and_with_other_activations(rng, x):
    for layer_class in (
        keras.layers.LSTM,
        keras.layers.GRU,
        keras.layers.SimpleRNN,
        CoupledLSTM,
    ):
        if layer_class is keras.layers.GRU and keras.backend.backend() == "jax":
            continue  # with JAX's float64 on, Keras's own GRU fails without a bias
        options = {"use_bias": False, "activation": "softsign"}
        if layer_class is not keras.layers.SimpleRNN:
            options["recurrent_activation"] = "softsign"
        layer = random_layer(layer_class, UNITS, FEATURES, rng, **options)
        assert_close(trace_gates(layer, x)["h"], run(layer, x)[0], 1e-6)


def test_clockwork_s_modules_tick_in_turn(rng, x):
    layer = random_layer(ClockworkRNN, UNITS, FEATURES, rng, periods=(1, 3))
    active = trace_gates(layer, x)["active"]
    np.testing.assert_array_equal(active[0, :, 0], np.ones(TIME))
    np.testing.assert_array_equal(active[0, :, 2], np.arange(TIME) % 3 == 0)


def test_top_level_of_a_stack(rng, x):
    traces = trace_gates(random_layer(DepthGatedLSTM, UNITS, FEATURES, rng, depth=3), x)
    np.testing.assert_array_equal(traces["h"], traces["h_3"])
    np.testing.assert_array_equal(traces["c"], traces["c_3"])


def test_stateful_starts_from_its_states_and_keeps_them(rng, x):
    layer = CoupledLSTM(UNITS, return_sequences=True, return_state=True, stateful=True)
    run(layer, x)
    expected = trace_gates(layer, x)["h"]
    np.testing.assert_array_equal(trace_gates(layer, x)["h"], expected)
    assert_close(expected, run(layer, x)[0], 1e-6)


def test_half_precision(rng, x):
    layer = random_layer(
        keras.layers.LSTM, UNITS, FEATURES, rng, dtype="mixed_bfloat16"
    )
    traces = trace_gates(layer, x)
    assert {values.dtype for values in traces.values()} == {np.dtype("float32")}
    outputs = keras.ops.convert_to_numpy(keras.ops.cast(layer(x)[0], "float32"))
    assert_close(traces["h"], outputs, 1e-2)


def test_cell_in_keras_rnn_and_unbuilt(x):
    layer = keras.layers.RNN(keras.layers.LSTMCell(UNITS), return_sequences=True)
    traces = trace_gates(layer, x)
    assert_close(traces["h"], keras.ops.convert_to_numpy(layer(x)), 1e-6)


@pytest.mark.parametrize(
    ("layer", "arguments", "message"),
    [
        (
            keras.layers.Dense(4),
            {},
            "layer must be a recurrent layer of custom_layers, .* got Dense",
        ),
        (
            keras.layers.Bidirectional(keras.layers.LSTM(4)),
            {},
            "got Bidirectional; trace its forward_layer and its backward_layer",
        ),
        (
            keras.layers.RNN([keras.layers.LSTMCell(4)] * 2),
            {},
            "got RNN of StackedRNNCells",
        ),
        (
            keras.layers.LSTM(4),
            {"sequences": np.ones((2, 3))},
            r"sequences must have shape \(batch, time",
        ),
        (
            keras.layers.LSTM(4),
            {"mask": np.ones((3, 9))},
            r"mask must have shape \(3, 10\), .* \(3, 9\)",
        ),
        (
            keras.layers.LSTM(4),
            {"initial_state": [np.ones((3, 4))]},
            r"initial_state must have shapes \[\(3, 4\), \(3, 4\)\], got shapes \[",
        ),
    ],
)
def test_wrong_arguments(layer, arguments, message, x):
    with pytest.raises(ValueError, match=message):
        trace_gates(layer, **{"sequences": x, **arguments})


def test_attached_mask_counts_as_in_the_layer(rng, x):
    layer = random_layer(keras.layers.GRU, UNITS, FEATURES, rng)
    x[0, 7:] = 0
    masked = keras.layers.Masking()(x)
    traces = trace_gates(layer, masked)
    assert_close(traces["h"], keras.ops.convert_to_numpy(layer(masked)[0]), 1e-6)
    assert np.isnan(traces["z"][0, 7:]).all()
