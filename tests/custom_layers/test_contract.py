"""What Keras promises of a recurrent layer holds for every entry of the registry."""

import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
from cells import (
    OURS,
    VARIANTS,
    assert_close,
    dropouts,
    random_layer,
    random_states,
    run,
)

from custom_layers import LAYERS

UNITS, FEATURES, BATCH, TIME = 4, 5, 3, 10
ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(params=VARIANTS)
def variant(request):
    """A registry name with arguments, as a constructor of random layers."""
    name, arguments, _ = VARIANTS[request.param]

    def make(rng, **more):
        return random_layer(LAYERS[name], UNITS, FEATURES, rng, **arguments, **more)

    make.layer_class = LAYERS[name]
    return make


def twin(layer, **changes):
    """Return a layer with the same weights and a changed configuration."""
    other = type(layer).from_config(layer.get_config() | changes)
    other.build((BATCH, None, FEATURES))
    other.set_weights(layer.get_weights())
    return other


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def test_config_round_trip(variant, rng, x):
    layer = variant(
        rng,
        kernel_regularizer="l2",
        recurrent_constraint="max_norm",
        activity_regularizer="l1",
        **dropouts(variant.layer_class, 0.1, 0.2),
        seed=3,
        name="named",
    )
    config = layer.get_config()
    other = twin(layer)
    assert other.get_config() == config
    if variant.layer_class is not keras.layers.SimpleRNN:  # Keras's own drops it
        assert isinstance(other.activity_regularizer, keras.regularizers.L1)
    assert_close(run(other, x)[0], run(layer, x)[0], 1e-6)
    assert keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(layer)
    ).get_config() == config  # fmt: skip


def test_cell_in_keras_rnn_is_the_layer(variant, rng, x):
    layer = variant(rng)
    cell = type(layer.cell).from_config(layer.cell.get_config())
    wrapped = keras.layers.RNN(cell, return_sequences=True, return_state=True)
    wrapped.build(x.shape)
    wrapped.set_weights(layer.get_weights())
    states = random_states(layer, BATCH, rng)
    for a, b in zip(run(wrapped, x, states), run(layer, x, states), strict=True):
        for actual, expected in zip(a, b, strict=True):
            assert_close(actual, expected, 1e-6)


def test_return_sequences_and_state(variant, rng, x):
    layer = variant(rng)
    outputs, states = run(layer, x)
    assert outputs.shape == (BATCH, TIME, UNITS)
    assert [state.shape for state in states] == [
        (BATCH, size) for size in layer.state_size
    ]
    assert layer.compute_output_shape(x.shape)[0] == outputs.shape
    last = twin(layer, return_sequences=False, return_state=False)
    assert_close(numpy(last(x)), outputs[:, -1], 1e-6)
    assert last.compute_output_shape(x.shape) == (BATCH, UNITS)


def test_initial_state_continues_a_sequence(variant, rng, x):
    layer = variant(rng)
    outputs, states = run(layer, x)
    _, halfway = run(layer, x[:, :3])
    rest, final = run(layer, x[:, 3:], halfway)
    assert_close(rest, outputs[:, 3:], 1e-6)
    for actual, expected in zip(final, states, strict=True):
        assert_close(actual, expected, 1e-6)


def test_stateful_halves_are_the_whole(variant, rng, x):
    layer = variant(rng)
    outputs, _ = run(layer, x)
    stateful = type(layer).from_config(layer.get_config() | {"stateful": True})
    stateful.build(x[:, :5].shape)
    stateful.set_weights(layer.get_weights())
    for _ in range(2):
        halves = [run(stateful, x[:, :5])[0], run(stateful, x[:, 5:])[0]]
        assert_close(np.concatenate(halves, axis=1), outputs, 1e-6)
        stateful.reset_state()


def test_unrolled_is_the_loop(variant, rng, x):
    layer = variant(rng)
    assert_close(run(twin(layer, unroll=True), x)[0], run(layer, x)[0], 1e-6)


def test_right_padding_and_mask_is_the_shorter_sequence(variant, rng, x):
    layer = variant(rng)
    mask = np.arange(TIME) < np.array([[TIME], [5], [1]])
    outputs, states = run(layer, x, mask=mask)
    for row, length in enumerate([TIME, 5, 1]):
        shorter, final = run(layer, x[row : row + 1, :length])
        assert_close(outputs[row, :length], shorter[0], 1e-6)
        assert_close(outputs[row, -1], shorter[0, -1], 1e-6)
        for actual, expected in zip(states, final, strict=True):
            assert_close(actual[row], expected[0], 1e-6)


def test_mask_in_the_middle_and_fully_masked_row(variant, rng, x):
    layer = variant(rng)
    mask = np.ones((BATCH, TIME), bool)
    mask[0, 2:4] = False
    mask[1] = False
    states = random_states(layer, BATCH, rng)
    _, final = run(layer, x, states, mask=mask)
    without = np.delete(x[:1], [2, 3], axis=1)
    _, expected = run(layer, without, [state[:1] for state in states])
    for actual, wanted, before in zip(final, expected, states, strict=True):
        assert_close(actual[0], wanted[0], 1e-6)
        np.testing.assert_array_equal(actual[1], before[1])


def test_go_backwards(variant, rng, x):
    layer = variant(rng)
    backwards = run(twin(layer, go_backwards=True), x)[0]
    assert_close(backwards, run(layer, x[:, ::-1].copy())[0], 1e-6)


def test_bidirectional(variant, rng, x):
    layer = twin(variant(rng), return_state=False)
    both = keras.layers.Bidirectional(layer)
    both.build(x.shape)
    both.forward_layer.set_weights(layer.get_weights())
    outputs = numpy(both(x))
    assert outputs.shape == (BATCH, TIME, 2 * UNITS)
    backward = twin(layer, go_backwards=True)
    backward.set_weights(both.backward_layer.get_weights())
    expected = [numpy(layer(x)), numpy(backward(x))[:, ::-1]]
    assert_close(outputs, np.concatenate(expected, axis=-1), 1e-6)


def test_time_distributed(variant, rng, x):
    layer = twin(variant(rng), return_state=False)
    outputs = numpy(keras.layers.TimeDistributed(layer)(np.stack([x, 2 * x], axis=1)))
    assert outputs.shape == (BATCH, 2, TIME, UNITS)
    assert_close(outputs[:, 1], numpy(layer(2 * x)), 1e-6)


def test_dropout(variant, rng, x):
    """Off at inference, on in training, and the mask is one for the whole sequence."""
    plain = variant(rng)
    layer = twin(plain, **dropouts(variant.layer_class, 0.5, 0.5), seed=1)
    assert_close(run(layer, x)[0], run(plain, x)[0], 1e-6)
    trained = [run(layer, x, training=True)[0] for _ in range(2)]
    assert np.max(np.abs(trained[0] - run(layer, x)[0])) > 1e-3
    assert np.max(np.abs(trained[0] - trained[1])) > 1e-3  # a new mask for every batch
    if len(getattr(layer.cell, "levels", "1")) > 1:
        return  # every level has masks of its own
    # One input feature at a time: an input that is dropped at one step is dropped at
    # all.
    layer = twin(plain, **dropouts(variant.layer_class, 0.5, 0.0), seed=1)
    one = np.zeros((64, TIME, FEATURES), "float32")
    one[..., 0] = 1
    outputs = run(layer, one, training=True)[0]
    kept, dropped = run(plain, 2 * one[:1])[0], run(plain, 0 * one[:1])[0]
    is_kept = np.max(np.abs(outputs - kept), axis=(1, 2)) < 1e-5
    is_dropped = np.max(np.abs(outputs - dropped), axis=(1, 2)) < 1e-5
    assert np.all(is_kept | is_dropped)
    assert 10 < np.sum(is_kept) < 54


def test_a_large_batch_is_its_sequences_one_by_one(variant, rng):
    layer = variant(rng)
    x = rng.uniform(-1, 1, (33, TIME, FEATURES)).astype("float32")
    mask = np.arange(TIME) < rng.integers(1, TIME, (33, 1))
    outputs, states = run(layer, x, mask=mask)
    for rows in (slice(0, 16), slice(16, 33)):
        some, some_states = run(layer, x[rows][:5], mask=mask[rows][:5])
        assert_close(outputs[rows][:5], some, 1e-6)
        for actual, expected in zip(states, some_states, strict=True):
            assert_close(actual[rows][:5], expected, 1e-6)


def test_mixed_precision(variant, rng, x):
    layer = variant(rng)
    mixed = type(layer).from_config(layer.get_config() | {"dtype": "mixed_bfloat16"})
    mixed.build(x.shape)
    mixed.set_weights(layer.get_weights())
    outputs = mixed(x)[0]
    assert keras.backend.standardize_dtype(outputs.dtype) == "bfloat16"
    assert {weight.dtype for weight in mixed.trainable_weights} == {"float32"}
    difference = numpy(keras.ops.cast(outputs, "float32")) - run(layer, x)[0]
    assert 0 < np.max(np.abs(difference)) < 0.1


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("name", OURS)
def test_fit(name, rng, x, jit_compile):
    """Training lowers the loss, compiled or not, with dropouts and a mask."""
    if keras.backend.backend() == "torch" and jit_compile:
        pytest.skip("Keras uses torch.compile, which needs a C++ tool chain")
    if keras.backend.backend() == "jax" and not jit_compile:
        pytest.skip("op by op, JAX takes minutes")
    if keras.backend.backend() == "tensorflow" and jit_compile and name != "clockwork":
        pytest.skip("each takes 10 s to compile: test_tensorflow_cpu has one, JAX all")
    options = {"return_state": False, "seed": 1} | dropouts(LAYERS[name], 0.1, 0.1)
    layer = random_layer(LAYERS[name], UNITS, FEATURES, rng, **options)
    inputs = keras.Input((TIME, FEATURES))
    model = keras.Model(
        inputs, keras.layers.Dense(1)(layer(keras.layers.Masking()(inputs)))
    )
    model.compile(keras.optimizers.Adam(0.01), "mse", jit_compile=jit_compile)
    model.optimizer.build(model.trainable_variables)  # else TensorFlow traces twice
    x[1, 5:] = 0
    history = model.fit(x, np.ones((BATCH, TIME, 1)), epochs=30, verbose=0)
    assert history.history["loss"][-1] < 0.5 * history.history["loss"][0]


def test_trainable_weights_all_move(variant, rng, x):
    layer = twin(
        variant(rng), return_state=False, **dropouts(variant.layer_class, 0.0, 0.0)
    )
    model = keras.Sequential(
        [keras.Input((TIME, FEATURES)), layer, keras.layers.Dense(1)]
    )
    # Op by op, JAX takes minutes.
    model.compile(
        keras.optimizers.SGD(0.1), "mse", run_eagerly=keras.backend.backend() != "jax"
    )
    before = layer.get_weights()
    model.fit(x, np.ones((BATCH, TIME, 1)), verbose=0)
    for weight, old in zip(layer.weights, before, strict=True):
        moved = numpy(weight.value) != old
        assert np.mean(moved) > 0.5, weight.name
    layer.trainable = False
    assert layer.trainable_weights == []


def test_a_cell_by_itself_follows_its_weights(variant, rng, x):
    """A step in the user's own loop, in training, with dropout: nothing of an earlier
    step is kept."""
    cell = variant(rng, **dropouts(variant.layer_class, 0.5, 0.5), seed=1).cell
    states = [
        keras.ops.convert_to_tensor(state) for state in cell.get_initial_state(BATCH)
    ]
    first = numpy(cell(x[:, 0], states, training=True)[0])
    cell.set_weights([3 * weight for weight in cell.get_weights()])
    assert np.max(np.abs(numpy(cell(x[:, 0], states, training=True)[0]) - first)) > 1e-3
    states = [states[0] + 1, *states[1:]]
    before = numpy(cell(x[:, 0], states)[0])
    cell.set_weights([0 * weight for weight in cell.get_weights()])
    assert np.max(np.abs(numpy(cell(x[:, 0], states)[0]) - before)) > 1e-3


def test_a_function_as_initializer_and_activation(variant, rng, x):
    def tenth(shape, dtype=None):
        return keras.ops.full(shape, 0.1, dtype)

    def half(z):
        return z / 2

    layer = variant(rng, activation=half)
    type(layer)(UNITS, kernel_initializer=tenth, recurrent_initializer=tenth)(x)
    assert np.all(np.isfinite(run(layer, x)[0]))


LOAD = """
import sys, numpy as np, keras, custom_layers
model = keras.saving.load_model(sys.argv[1])
np.save(sys.argv[3], keras.ops.convert_to_numpy(model(np.load(sys.argv[2]))))
"""


def test_saved_model_predicts_the_same_in_another_process(tmp_path, rng, x):
    """All variants in one model, so that one process is enough."""
    inputs = keras.Input((TIME, FEATURES))
    outputs = []
    for name, arguments, _ in VARIANTS.values():
        layer = random_layer(
            LAYERS[name], UNITS, FEATURES, rng, **arguments, return_state=False
        )
        outputs.append(layer(inputs))
        if arguments == {}:
            outputs.append(keras.layers.Bidirectional(twin(layer, name=None))(inputs))
    model = keras.Model(inputs, keras.layers.Concatenate()(outputs))
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", x)
    files = [str(tmp_path / name) for name in ("model.keras", "x.npy", "y.npy")]
    subprocess.run(
        [sys.executable, "-c", LOAD, *files], cwd=ROOT, check=True, timeout=120
    )
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), numpy(model(x)))
