"""A call that failed leaves nothing behind: later calls compute with the weights of
now."""

import gc

import keras
import numpy as np
import pytest
from cells import OURS

pytestmark = pytest.mark.usefixtures("halve_small_layers")

UNITS, FEATURES, TIME = 4, 3, 6
BACKEND = keras.backend.backend()


class Failing(Exception):
    """Raised in the middle of a loop."""


def fail(z):
    raise Failing


def in_rnn(cell):
    return keras.layers.RNN(cell)


def stacked(cell):
    return keras.layers.RNN([keras.layers.SimpleRNNCell(FEATURES), cell])


def bidirectional(cell):
    return keras.layers.Bidirectional(keras.layers.RNN(cell))


WRAPPERS = {"RNN": in_rnn, "stacked": stacked, "bidirectional": bidirectional}


def cell_of(layer):
    """Return the cell of ours in a layer."""
    layer = getattr(layer, "forward_layer", layer)
    cell = getattr(layer, "cell", layer)
    return cell.cells[1] if hasattr(cell, "cells") else cell


def as_graph(layer, **options):
    """Return the layer as a traced function."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.function(lambda x: layer(x, **options))
    if BACKEND == "jax":
        import jax

        fixed = [
            [variable.value for variable in variables]
            for variables in (layer.trainable_variables, layer.non_trainable_variables)
        ]
        return jax.jit(lambda x: layer.stateless_call(*fixed, x, **options)[0])
    return layer


def break_off(layer, call, x):
    """Make a call fail in the middle of its loop."""
    cell = cell_of(layer)
    parts = [cell, *getattr(cell, "levels", ())]
    before = [part.activation for part in parts]
    for part in parts:
        part.activation = fail
    with pytest.raises(Failing):
        call(x)
    for part, activation in zip(parts, before, strict=True):
        part.activation = activation


def assert_follows_its_weights(cell):
    """A step of the cell, with another batch size, and with other weights."""
    x = np.ones((5, FEATURES), "float32")
    states = cell.get_initial_state(5)
    for _ in range(2):
        cell.set_weights([np.zeros(weight.shape) for weight in cell.get_weights()])
        output, _ = cell(x, states)
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(output), 0)
        cell.set_weights([np.full(weight.shape, 0.3) for weight in cell.get_weights()])
        output, _ = cell(x, states)
        assert np.all(keras.ops.convert_to_numpy(output) > 0.01)


@pytest.mark.parametrize("how", ["eager", "graph"])
@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("name", OURS)
def test_a_cell_whose_loop_failed(name, wrapper, how):
    layer = WRAPPERS[wrapper](OURS[name].cell_class(UNITS))
    x = np.ones((2, TIME, FEATURES), "float32")
    layer(x)
    call = layer if how == "eager" else as_graph(layer)
    break_off(layer, call, x)
    assert_follows_its_weights(cell_of(layer))
    expected = layer(np.ones((3, TIME, FEATURES), "float32"))
    assert expected.shape[0] == 3


@pytest.mark.parametrize("how", ["eager", "graph"])
@pytest.mark.parametrize("name", OURS)
def test_a_layer_whose_loop_failed(name, how):
    layer = OURS[name](UNITS, dropout=0.2, recurrent_dropout=0.2)
    x = np.ones((2, TIME, FEATURES), "float32")
    layer(x)
    break_off(layer, layer if how == "eager" else as_graph(layer), x)
    assert_follows_its_weights(layer.cell)


@pytest.mark.parametrize("name", OURS)
def test_a_mask_of_the_wrong_length(name):
    layer = keras.layers.RNN(OURS[name].cell_class(UNITS))
    x = np.ones((2, TIME, FEATURES), "float32")
    layer(x)
    with pytest.raises(Exception):  # noqa: B017 - each backend has its own
        layer(x, mask=np.ones((2, TIME - 2), bool))
    assert_follows_its_weights(layer.cell)


@pytest.mark.parametrize("shape", [(2, TIME - 2), (2, TIME + 1), (3, TIME), (2,)])
@pytest.mark.parametrize("name", OURS)
def test_a_layer_names_the_mask_that_does_not_fit(name, shape):
    message = (
        rf"mask must have shape \(batch, time\), here \(2, {TIME}\), got \({shape[0]}"
    )
    with pytest.raises(ValueError, match=message):
        OURS[name](UNITS)(np.ones((2, TIME, FEATURES), "float32"), mask=np.ones(shape))


@pytest.mark.parametrize("name", OURS)
def test_a_failed_call_prints_nothing(name, caplog, capfd):
    """TensorFlow would warn of every array of the loop: it was never used."""
    layer = OURS[name](UNITS)
    x = np.ones((2, TIME, FEATURES), "float32")
    layer(x)
    break_off(layer, layer, x)
    with pytest.raises(ValueError, match="mask must have shape"):
        layer(x, mask=np.ones((2, TIME - 2), bool))
    gc.collect()
    assert "never used" not in caplog.text + capfd.readouterr().err


@pytest.mark.parametrize("name", OURS)
def test_masks_of_a_failed_call_do_not_reach_a_batch_of_another_size(name):
    layer = keras.layers.RNN(
        OURS[name].cell_class(UNITS, dropout=0.5, recurrent_dropout=0.5)
    )
    x = np.ones((2, TIME, FEATURES), "float32")
    layer(x, training=True)
    break_off(layer, lambda x: layer(x, training=True), x)
    other = np.ones((5, TIME, FEATURES), "float32")
    assert layer(other, training=True).shape == (5, UNITS)


@pytest.mark.skipif(BACKEND != "jax", reason="it is about JAX's tracers")
@pytest.mark.parametrize("name", OURS)
def test_a_training_step_that_failed_in_jax_leaves_no_tracer(name):
    layer = keras.layers.RNN(
        OURS[name].cell_class(UNITS, dropout=0.2, weight_dropout=0.2)
    )
    x = np.ones((2, TIME, FEATURES), "float32")
    layer(x)
    break_off(layer, as_graph(layer, training=True), x)
    assert layer(x, training=True).shape == (2, UNITS)
