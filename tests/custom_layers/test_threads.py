"""Calls at the same time do not see each other: threads, batch sizes, graphs."""

import functools
import threading

import keras
import numpy as np
import pytest
from cells import OURS

from custom_layers.engine import prepared

pytestmark = pytest.mark.usefixtures("halve_small_layers")

UNITS, FEATURES, TIME = 4, 3, 6
BATCHES = (1, 2, 5, 7)
BACKEND = keras.backend.backend()


def make_model(layer):
    inputs = keras.Input((TIME, FEATURES))
    return keras.Model(inputs, layer(inputs))


def as_layer(name, **options):
    return OURS[name](UNITS, **options)


def as_cell(name, **options):
    return keras.layers.RNN(OURS[name].cell_class(UNITS, **options))


WAYS = {"layer": as_layer, "cell": as_cell}


def at_once(functions, rounds=1):
    """Call each function in a thread of its own; return its results of all rounds."""
    barrier = threading.Barrier(len(functions))
    results, errors = [[] for _ in functions], []

    def work(number):
        try:
            for _ in range(rounds):
                barrier.wait(120)
                results[number].append(functions[number]())
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
    rounds = 2 if how == "predict_on_batch" else 8
    results = at_once([functools.partial(call, x) for x in batches], rounds)
    for of_rounds, wanted in zip(results, expected, strict=True):
        for actual in of_rounds:
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
        for [(actual,)], wanted in zip(results, expected, strict=True):
            if not training:
                np.testing.assert_allclose(actual, wanted, rtol=1e-5, atol=1e-6)
            assert actual.shape == wanted.shape and np.all(np.isfinite(actual))


#: What calls that see each other's values may raise.
WRONG = AssertionError, AttributeError, RuntimeError, TypeError, ValueError


@pytest.mark.parametrize("way", WAYS)
def test_a_planted_shared_attribute_is_caught(way, monkeypatch):
    """A sequence kept where all threads see it: the tests above must fail."""
    shared = {}

    def one_for_all(cell):
        return shared.setdefault(cell, [])

    monkeypatch.setattr(prepared, "_slot", one_for_all)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        errors = (*WRONG, tf.errors.InvalidArgumentError)
        for _ in range(3):
            with pytest.raises(errors):
                test_an_encoder_in_models_that_are_traced_at_once("peephole", way)
    elif way == "layer":
        # On a busy machine the threads may pass each other by, again and again.
        with pytest.raises(WRONG):
            for _ in range(20):
                test_four_threads_with_batches_of_different_sizes(
                    "peephole", way, "eager"
                )
