"""Calls at the same time do not see each other: threads, batch sizes, graphs."""

import functools
import threading

import keras
import numpy as np
import pytest

from custom_layers import LAYERS
from custom_layers.engine import prepared

pytestmark = pytest.mark.usefixtures("halve_small_layers")

UNITS, FEATURES, TIME = 4, 3, 6
BATCHES = (1, 2, 5, 7)
BACKEND = keras.backend.backend()
OURS = {name: layer for name, layer in LAYERS.items() if hasattr(layer, "cell_class")}


def make_model(layer):
    inputs = keras.Input((TIME, FEATURES))
    return keras.Model(inputs, layer(inputs))


def as_layer(name, **options):
    return OURS[name](UNITS, **options)


def as_cell(name, **options):
    return keras.layers.RNN(OURS[name].cell_class(UNITS, **options))


WAYS = {"layer": as_layer, "cell": as_cell}


def at_once(functions, rounds=1):
    """Call the functions, each in a thread of its own; return results or raise."""
    barrier = threading.Barrier(len(functions))
    results, errors = [None] * len(functions), []

    def work(number):
        try:
            for _ in range(rounds):
                barrier.wait(120)
                results[number] = functions[number]()
        except Exception as error:
            barrier.abort()
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise next(
            (e for e in errors if type(e) is not threading.BrokenBarrierError),
            errors[0],
        )
    return results


def data():
    rng = np.random.default_rng(1)
    return [rng.normal(size=(b, TIME, FEATURES)).astype("float32") for b in BATCHES]


def eager(model):
    return model


def compiled(model):
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.function(model, jit_compile=False)
    if BACKEND == "jax":
        import jax

        fixed = [
            [variable.value for variable in variables]
            for variables in (model.trainable_variables, model.non_trainable_variables)
        ]
        return jax.jit(lambda x: model.stateless_call(*fixed, x)[0])
    return model


def on_batch(model):
    return model.predict_on_batch


CALLS = {"eager": eager, "compiled": compiled}
if BACKEND != "jax":  # there Keras's own predict_on_batch fails from threads
    CALLS["predict_on_batch"] = on_batch


@pytest.mark.parametrize("how", CALLS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", OURS)
def test_four_threads_with_batches_of_different_sizes(name, way, how):
    """The first calls, which trace, and the later ones."""
    model = make_model(WAYS[way](name))
    batches = data()
    expected = [keras.ops.convert_to_numpy(model(x)) for x in batches]
    call = CALLS[how](model)
    if how == "predict_on_batch":
        call(
            batches[0]
        )  # Keras itself makes the function of a model in one thread only
    rounds = 2 if how == "predict_on_batch" else 8
    results = at_once([functools.partial(call, x) for x in batches], rounds)
    for actual, wanted in zip(results, expected, strict=True):
        actual = keras.ops.convert_to_numpy(actual)
        np.testing.assert_allclose(actual, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="graphs are TensorFlow's")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", OURS)
def test_an_encoder_in_models_that_are_traced_at_once(name, way):
    """Inference and training, with dropout: every model has its own graph."""
    import tensorflow as tf

    encoder = make_model(WAYS[way](name, dropout=0.2, recurrent_dropout=0.2, seed=1))
    batches = data()
    expected = [keras.ops.convert_to_numpy(encoder(x)) for x in batches]
    models = [tf.function(lambda x, t: (encoder(x, training=t),)) for _ in batches]
    for training in (False, True):
        results = at_once(
            [
                functools.partial(model, tf.constant(x), training)
                for model, x in zip(models, batches, strict=True)
            ]
        )
        for (actual,), wanted in zip(results, expected, strict=True):
            if not training:
                np.testing.assert_allclose(actual, wanted, rtol=1e-5, atol=1e-6)
            assert actual.shape == wanted.shape and np.all(np.isfinite(actual))


def test_a_planted_shared_attribute_is_caught(monkeypatch):
    """A sequence kept where all threads see it: the test above must fail."""
    shared = {}

    def one_for_all(cell):
        return shared.setdefault(cell, [])

    monkeypatch.setattr(prepared, "_slot", one_for_all)
    caught = 0
    for _ in range(3):
        try:
            test_four_threads_with_batches_of_different_sizes(
                "peephole", "layer", "eager"
            )
        except Exception:
            caught += 1
    assert caught == 3
