"""The native kernel against loops in float64, on every path of the processor's."""

import concurrent.futures
import functools
import itertools
import os
import shutil
import subprocess
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from cells import TIGHT, assert_close

from custom_layers import (
    ClockworkRNN,
    CoupledLSTM,
    DepthGatedLSTM,
    PeepholeLSTM,
    PeepholeLSTMCell,
    WeightDropLSTM,
    build_native,
    kernel_report,
    native_inference,
    to_onnx,
)
from custom_layers.engine import tensorflow_native
from custom_layers.engine.native import library
from custom_layers.engine.recurrent_layer import RecurrentLayer

try:
    library.compiler()
except library.BuildError as problem:
    pytestmark = [pytest.mark.skip(reason=str(problem))]
else:
    pytestmark = [pytest.mark.xdist_group("native"), pytest.mark.usefixtures("native")]

ALL = {"return_sequences": True, "return_state": True}
F_ONLY, F_AND_O = {"peepholes": ("f",)}, {"peepholes": ("f", "o")}
#: Layer, arguments, sizes (batch, steps, features, units), and whether there is a mask.
CASES = {
    "one of all": (PeepholeLSTM, ALL, (1, 1, 1, 1), False),
    "a vector of units": (PeepholeLSTM, ALL, (8, 5, 3, 16), False),
    "a unit more, a row more": (PeepholeLSTM, ALL, (9, 4, 3, 17), True),
    "a unit less": (
        PeepholeLSTM,
        {**F_ONLY, "go_backwards": True},
        (7, 3, 2, 15),
        True,
    ),
    "no peepholes": (PeepholeLSTM, {**ALL, "peepholes": ()}, (17, 5, 3, 33), False),
    "long sums": (PeepholeLSTM, {**ALL, "use_bias": False}, (3, 2, 5, 259), False),
    "coupled": (CoupledLSTM, ALL, (10, 6, 3, 5), True),
    "coupled, long sums": (CoupledLSTM, {**F_AND_O, **ALL}, (2, 3, 4, 130), False),
    "coupled, last output": (
        CoupledLSTM,
        {**F_AND_O, "zero_output_for_mask": True},
        (5, 7, 2, 8),
        True,
    ),
    "400 steps": (PeepholeLSTM, {"return_state": True}, (9, 400, 3, 12), False),
    "400 steps of many units": (CoupledLSTM, ALL, (3, 400, 7, 100), True),
    "two levels": (DepthGatedLSTM, ALL, (9, 4, 3, 17), True),
    "three levels": (DepthGatedLSTM, {"depth": 3, **F_ONLY}, (11, 6, 3, 5), True),
    "levels without b": (
        DepthGatedLSTM,
        {**ALL, "peepholes": (), "use_bias": False, "go_backwards": True},
        (5, 3, 2, 33),
        False,
    ),
    "40 steps on two levels": (
        DepthGatedLSTM,
        {"return_state": True},
        (9, 40, 3, 12),
        False,
    ),
}


@pytest.fixture
def native(native_cache, monkeypatch):
    """Turn the kernel on; on two threads where the work is worth it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(native_cache))
    monkeypatch.setenv("CUSTOM_LAYERS_NATIVE", "1")
    monkeypatch.setenv("CUSTOM_LAYERS_NATIVE_THREADS", "2")


@pytest.fixture(params=library.PATHS)
def path(request, monkeypatch, native):
    """Force one of the paths."""
    monkeypatch.setenv("CUSTOM_LAYERS_NATIVE", request.param)
    if problem := tensorflow_native.obstacle():
        assert problem == f"this processor lacks CUSTOM_LAYERS_NATIVE={request.param}"
        pytest.skip(problem)
    assert tensorflow_native.path_name() == request.param
    return request.param


@pytest.fixture
def calls(monkeypatch):
    """Count for how many layers the kernel is put into a graph."""
    counted, run = [], tensorflow_native.run
    monkeypatch.setattr(
        tensorflow_native, "run", lambda *a: counted.append(1) or run(*a)
    )
    return counted


def made(layer_class, options, sizes, dtype="float32"):
    """Return a layer with random weights, inputs, states and a mask: one draw for every
    dtype."""
    batch, steps, features, units = sizes
    rng = np.random.default_rng(sum(sizes))
    layer = layer_class(units, dtype=dtype, **options)
    layer.build((batch, steps, features))
    layer.set_weights(
        [
            rng.uniform(-1, 1, w.shape).astype("float32")
            / (w.shape[0] ** 0.5 if len(w.shape) > 1 else 1)
            for w in layer.get_weights()
        ]
    )
    if steps > 100:  # the initial states are to be felt at the end
        bias = layer.cell.bias.numpy()
        bias[units : 2 * units] = 4
        layer.cell.bias.assign(bias)
    x = rng.normal(size=(batch, steps, features)).astype("float32")
    states = rng.normal(size=(len(layer.cell.state_size), batch, units))
    states = states.astype("float32")
    mask = rng.random((batch, steps)) < 0.6
    mask[:1] = False
    return layer, x.astype(dtype), list(states.astype(dtype)), mask


def values_and_gradients(layer, x, states, mask=None):
    """Return a layer's results in training, and the gradients of inputs, states and
    weights."""
    with tf.GradientTape() as tape:
        tape.watch([x, *states])
        results = tf.nest.flatten(
            layer(x, initial_state=states, mask=mask, training=True)
        )
        waves = [
            tf.sin(
                tf.reshape(tf.cast(tf.range(1, tf.size(r) + 1), r.dtype), tf.shape(r))
            )
            for r in results
        ]
        loss = tf.add_n(
            [tf.reduce_sum(w * r) for w, r in zip(waves, results, strict=True)]
        )
    sources = [x, *states, *(weight.value for weight in layer.trainable_weights)]
    return [*results, *tape.gradient(loss, sources)]


def in_graph(*arguments, jit_compile=False):
    """Return values and gradients, computed in a graph, as NumPy arrays."""
    layer, *tensors = arguments
    tensors = tf.nest.map_structure(
        lambda each: None if each is None else tf.convert_to_tensor(each), tensors
    )
    compute = tf.function(
        functools.partial(values_and_gradients, layer), jit_compile=jit_compile
    )
    return [np.asarray(each) for each in compute(*tensors)]


@functools.cache
def expected(name):
    """Return what the loop in float64 gives for a case."""
    layer_class, options, sizes, masked = CASES[name]
    layer, x, states, mask = made(layer_class, options, sizes, "float64")
    cell = layer.cell_class.from_config(layer.cell.get_config())
    around = (
        "return_sequences",
        "return_state",
        "go_backwards",
        "zero_output_for_mask",
    )
    options = {key: options[key] for key in options if key in around}
    loop = keras.layers.RNN(cell, dtype="float64", **options)
    loop.build(x.shape)
    loop.set_weights(layer.get_weights())
    return in_graph(loop, x, states, mask if masked else None)


def check(name):
    """Assert that the kernel agrees with the loop in a case."""
    layer_class, options, sizes, masked = CASES[name]
    layer, x, states, mask = made(layer_class, options, sizes)
    actual = in_graph(layer, x, states, mask if masked else None)
    for mine, wanted in zip(actual, expected(name), strict=True):
        assert_close(mine, wanted, TIGHT)


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_those_of_keras_loop(name, path, calls):
    check(name)
    assert calls == [1]


def test_shapes_at_random(path, rng):
    for layer_class in PeepholeLSTM, CoupledLSTM, DepthGatedLSTM:
        sizes = tuple(int(size) for size in rng.integers(1, (40, 6, 9, 70)))
        layer, x, states, mask = made(layer_class, ALL, sizes)
        loop, *_ = made(layer_class, ALL, sizes, "float64")
        wanted = in_graph(
            loop, x.astype("float64"), [s.astype("f8") for s in states], mask
        )
        for mine, other in zip(in_graph(layer, x, states, mask), wanted, strict=True):
            assert_close(mine, other)


@pytest.mark.parametrize("layer_class", [PeepholeLSTM, CoupledLSTM, DepthGatedLSTM])
def test_results_are_bit_identical_for_any_number_of_threads(
    layer_class, path, monkeypatch
):
    results = []
    for count in ("1", "2", "2", "3", "64"):
        monkeypatch.setenv("CUSTOM_LAYERS_NATIVE_THREADS", count)
        options = {**ALL, "peepholes": ("f", "o")}
        layer, x, states, mask = made(layer_class, options, (45, 30, 5, 40))
        results.append(in_graph(layer, x, states, mask))
    for other in results[1:]:
        for mine, first in zip(other, results[0], strict=True):
            assert np.array_equal(mine, first)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    "layer_class", [PeepholeLSTM, CoupledLSTM, WeightDropLSTM, DepthGatedLSTM]
)
def test_dropout_is_that_of_the_loop(layer_class, tied, path, calls, monkeypatch):
    """With one mask for all gates, and with one for each, as Keras's LSTM."""
    check_dropout(layer_class, tied, path, monkeypatch)
    assert calls == [1]


def check_dropout(layer_class, tied, path, monkeypatch):
    """Assert that the kernel agrees with the loop where both draw the same masks."""
    options = {**ALL, "dropout": 0.3, "recurrent_dropout": 0.4, "tied_dropout": tied}
    results = []
    for choice in (path, "0"):
        monkeypatch.setenv("CUSTOM_LAYERS_NATIVE", choice)
        layer, x, states, mask = made(
            layer_class, {**options, "seed": 3}, (11, 6, 4, 18)
        )
        results.append(in_graph(layer, x, states, mask))
    for mine, other in zip(*results, strict=True):
        assert_close(mine, other)


@pytest.mark.parametrize("batch, steps", [(1, 3), (0, 2)])
@pytest.mark.parametrize("layer_class", [PeepholeLSTM, DepthGatedLSTM])
def test_sizes_that_are_unknown_or_zero(layer_class, batch, steps, calls, monkeypatch):
    count = len(layer_class.cell_class(5).state_size)
    some = [tf.TensorSpec((None, None, 3)), [tf.TensorSpec((None, 5))] * count]
    results = []
    for choice in "10":
        monkeypatch.setenv("CUSTOM_LAYERS_NATIVE", choice)
        layer, x, states, _ = made(layer_class, ALL, (batch, steps, 3, 5))
        compute = tf.function(
            functools.partial(values_and_gradients, layer),
            input_signature=some,
            jit_compile=False,
        )
        results.append(compute(x, states))
    for mine, other in zip(*results, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-6)
    assert calls == [1]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dropout", [0, 0.4])
@pytest.mark.parametrize("layer_class", [PeepholeLSTM, CoupledLSTM, DepthGatedLSTM])
def test_second_derivatives_are_those_of_the_loop(
    layer_class, dropout, masked, calls, monkeypatch
):
    def curvature(layer, x, states, mask):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                outputs = layer(x, initial_state=states, mask=mask, training=True)
                loss = tf.reduce_sum(tf.sin(outputs))
            slope = tf.reduce_sum(inner.gradient(loss, x) ** 2)
        weights = [weight.value for weight in layer.trainable_weights]
        return outer.gradient(slope, [x, *weights])

    results = []
    for choice in "10":
        monkeypatch.setenv("CUSTOM_LAYERS_NATIVE", choice)
        options = {"recurrent_dropout": dropout, "seed": 3}
        layer, x, states, mask = made(layer_class, options, (3, 4, 2, 5))
        mask = tf.constant(mask) if masked else None
        tensors = *tf.nest.map_structure(tf.constant, [x, states]), mask
        compute = tf.function(functools.partial(curvature, layer), jit_compile=False)
        results.append(compute(*tensors))
    for mine, other in zip(*results, strict=True):
        assert_close(mine, other)
    assert calls == [1]


@pytest.mark.parametrize("layer_class", [PeepholeLSTM, CoupledLSTM, DepthGatedLSTM])
def test_a_tape_around_a_graph_has_the_gradients_of_eager_calls(layer_class, calls):
    """TensorFlow then puts the gradients into another graph."""
    layer, x, states, _ = made(layer_class, {}, (3, 4, 2, 5))
    x, states = tf.nest.map_structure(tf.constant, (x, states))
    sources = [x, *states, *(weight.value for weight in layer.trainable_weights)]

    def loss(x, states):
        outputs = layer(x, initial_state=states, training=True)
        return tf.reduce_sum(tf.sin(outputs))

    def gradients(loss):
        with tf.GradientTape() as tape:
            tape.watch([x, *states])
            value = loss(x, states)
        return tape.gradient(value, sources)

    outside = gradients(tf.function(loss, jit_compile=False))
    assert calls == [1]
    for mine, other in zip(outside, gradients(loss), strict=True):  # Keras's loop
        assert_close(mine, other)
    assert calls == [1]


SURROUNDINGS = {
    "a branch": lambda call, x: tf.cond(
        tf.size(x) > 0, lambda: call(x), lambda: tf.zeros([3, 4, 5])
    ),
    "a map": lambda call, x: tf.map_fn(lambda row: call(row[None])[0], x),
    "a sparse gradient": lambda call, x: tf.gather(call(x), [2, 0]),
}


@pytest.mark.parametrize("around", SURROUNDINGS)
@pytest.mark.parametrize("layer_class", [PeepholeLSTM, CoupledLSTM, DepthGatedLSTM])
def test_gradients_through_what_surrounds_a_layer(
    layer_class, around, calls, monkeypatch
):
    def gradients(layer, x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            call = functools.partial(layer, training=True)
            loss = tf.reduce_sum(tf.sin(SURROUNDINGS[around](call, x)))
        weights = [weight.value for weight in layer.trainable_weights]
        return [tf.convert_to_tensor(d) for d in tape.gradient(loss, [x, *weights])]

    results = []
    for choice in "10":
        monkeypatch.setenv("CUSTOM_LAYERS_NATIVE", choice)
        options = {"return_sequences": True}
        layer, x, *_ = made(layer_class, options, (3, 4, 2, 5))
        compute = functools.partial(gradients, layer)
        results.append(tf.function(compute, jit_compile=False)(tf.constant(x)))
    for mine, other in zip(*results, strict=True):
        assert_close(mine, other)
    assert calls


@pytest.mark.parametrize("name", ["a unit more, a row more", "two levels"])
def test_xla_gets_the_loop(name, calls):
    layer_class, options, sizes, _ = CASES[name]
    layer, x, states, mask = made(layer_class, options, sizes)
    actual = in_graph(layer, x, states, mask, jit_compile=True)
    for mine, wanted in zip(actual, expected(name), strict=True):
        assert_close(mine, wanted)
    assert not calls


@pytest.mark.parametrize("layer_class", [PeepholeLSTM, DepthGatedLSTM])
def test_a_mask_for_each_feature_gets_the_loop(layer_class, calls):
    layer, x, *_ = made(layer_class, {}, (2, 3, 4, 4))
    mask = np.random.default_rng(1).random((2, 3, 4)) < 0.6
    compute = functools.partial(layer, x, mask=tf.constant(mask), training=True)
    assert_close(tf.function(compute)(), compute())
    assert not calls


class Mirrored(PeepholeLSTMCell):
    """A cell with other equations."""

    @staticmethod
    def equations(z, p, states, σ, φ):
        z.g = -z.g
        return PeepholeLSTMCell.equations(z, p, states, σ, φ)


class MirroredLSTM(RecurrentLayer):
    """Its layer."""

    cell_class = Mirrored


class Halved(PeepholeLSTMCell):
    """A cell with the same equations, and other parameters in them."""

    def parameters(self):
        vectors, constants = super().parameters()
        return {name: vector / 2 for name, vector in vectors.items()}, constants


class HalvedLSTM(RecurrentLayer):
    """Its layer."""

    cell_class = Halved


def with_normalisation_below(units):
    """Return a stack whose bottom level has an option that the stack has not."""
    layer = DepthGatedLSTM(units)
    layer.cell.levels[0] = PeepholeLSTMCell(units, layer_norm=True)
    return layer


def with_another_activation_above(units):
    """Return a stack whose upper level has another activation than the stack."""
    layer = DepthGatedLSTM(units)
    layer.cell.levels[1].activation = keras.activations.relu
    return layer


def with_a_level_of_another_kind(units):
    """Return a stack whose levels are not those that its class makes."""
    layer = DepthGatedLSTM(units)
    layer.cell.levels[0] = Mirrored(units)
    return layer


def unrolled_clockwork(units):
    return ClockworkRNN(units, [1, 2], unroll=True)


@pytest.mark.parametrize(
    ("layer_class", "options", "reason"),
    [
        (PeepholeLSTM, {}, None),
        (CoupledLSTM, {"tied_dropout": True, "recurrent_dropout": 0.1}, None),
        (CoupledLSTM, {"dropout": 0.1, "recurrent_dropout": 0.1}, None),
        (WeightDropLSTM, {}, None),
        (DepthGatedLSTM, {"depth": 3, "recurrent_dropout": 0.1}, None),
        (DepthGatedLSTM, {"activation": "relu"}, "activation is relu, it needs tanh"),
        (with_a_level_of_another_kind, {}, "it has no equations of DepthGated"),
        (with_another_activation_above, {}, "activation is relu, it needs tanh"),
        (with_normalisation_below, {}, "layer_norm is True"),
        (PeepholeLSTM, {"activation": "relu"}, "activation is relu, it needs tanh"),
        (
            PeepholeLSTM,
            {"recurrent_activation": "hard_sigmoid"},
            "recurrent_activation is hard_sigmoid, it needs sigmoid",
        ),
        (PeepholeLSTM, {"dtype": "float64"}, "the dtype is float64, it needs float32"),
        (PeepholeLSTM, {"cell_clip": 3.0}, "cell_clip is 3.0, it needs None"),
        (PeepholeLSTM, {"layer_norm": True}, "layer_norm is True"),
        (PeepholeLSTM, {"zoneout_h": 0.1}, "zoneout_h is 0.1"),
        (PeepholeLSTM, {"projection": 2}, "projection is 2"),
        (PeepholeLSTM, {"unroll": True}, "unroll is True"),
        (
            PeepholeLSTM,
            {"activation": keras.layers.LeakyReLU()},
            "activation is LeakyReLU, it needs tanh",
        ),
        (MirroredLSTM, {}, "it has no equations of Mirrored"),
        (HalvedLSTM, {}, "it has no equations of Halved"),
        (keras.layers.LSTM, {}, "it is for layers of custom_layers"),
        (unrolled_clockwork, {}, "an unrolled loop of its own"),
    ],
)
def test_the_report_says_whether_it_is_used_and_why_not(
    layer_class, options, reason, calls
):
    layer = layer_class(4, **options)
    tf.function(lambda: layer(tf.ones((2, 3, 5)), training=True))()
    report = kernel_report(layer)[layer.name]
    if reason is None:
        assert report["native"] == "used in training on a CPU"
        names = tensorflow_native.path_name(), tensorflow_native.library_name()
        used = "the native kernel in training ({}, library {}), Keras's loop"
        used = used.format(*names)
        assert report["cpu"].startswith(used)
    else:
        assert report["native"].startswith("not used: " + reason)
        assert "native" not in report["cpu"]
    assert bool(calls) == (reason is None)


@pytest.mark.parametrize(
    ("options", "reason", "layer_class", "kernel"),
    [
        (
            {"jit_compile": True},
            "XLA compiles the model",
            PeepholeLSTM,
            "TensorFlow's CPU loop in training, Keras's loop at inference",
        ),
        (
            {"jit_compile": True},
            "XLA compiles the model",
            DepthGatedLSTM,
            "Keras's loop: XLA compiles the model",
        ),
        (
            {"run_eagerly": True},
            "the model runs eagerly",
            CoupledLSTM,
            "Keras's loop: the model runs eagerly",
        ),
    ],
)
def test_the_report_knows_how_the_model_is_compiled(
    options, reason, layer_class, kernel, calls
):
    model = keras.Sequential([layer_class(4, name="layer")])
    model.compile("sgd", "mse", **options)
    model.fit(np.ones((2, 3, 5)), np.ones((2, 4)), verbose=0)
    assert kernel_report(model)["layer"]["native"] == f"not used: {reason}"
    assert kernel_report(model)["layer"]["cpu"] == kernel
    assert not calls


def test_it_can_be_turned_off_and_misspelled(calls, monkeypatch):
    layer = PeepholeLSTM(4)
    monkeypatch.setenv("CUSTOM_LAYERS_NATIVE", "0")
    report = kernel_report(layer)[layer.name]["native"]
    assert report == "not used: CUSTOM_LAYERS_NATIVE is 0"
    tf.function(lambda: layer(tf.ones((2, 3, 5)), training=True))()
    assert not calls
    monkeypatch.setenv("CUSTOM_LAYERS_NATIVE", "off")
    with pytest.raises(
        ValueError, match="one of 0, 1, portable, avx2, avx512, got 'off"
    ):
        kernel_report(layer)
    monkeypatch.setenv("CUSTOM_LAYERS_NATIVE", "1")
    monkeypatch.setenv("CUSTOM_LAYERS_NATIVE_THREADS", "0")
    with pytest.raises(
        ValueError, match="THREADS must be an integer from 1 to 1024, got '0'"
    ):
        tf.function(lambda: layer(tf.ones((2, 3, 5)), training=True))()


@pytest.mark.parametrize("content", [None, b"", b"\x7fELF of another machine"])
def test_without_a_library_that_loads_everything_works(
    content, calls, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(tensorflow_native, "_loaded", [])
    reason = "it is not built: run `python -m custom_layers.build_native`"
    if content is not None:
        (library.cache() / library._key()).mkdir(parents=True)
        (library.cache() / library._key() / "0.so").write_bytes(content)
        reason = "its library does not load: "
    layer = PeepholeLSTM(4)
    report = kernel_report(layer)[layer.name]
    assert report["native"].startswith(f"not used: {reason}")
    assert report["cpu"].startswith("TensorFlow's CPU loop in training")
    tf.function(lambda: layer(tf.ones((2, 3, 5)), training=True))()
    assert not calls


@pytest.mark.parametrize(
    "layer_class", [PeepholeLSTM, CoupledLSTM, WeightDropLSTM, DepthGatedLSTM]
)
def test_inference_inside_the_block_is_that_of_keras_loop(layer_class, path, calls):
    options = {**ALL, "dropout": 0.3, "recurrent_dropout": 0.3}
    layer, x, states, mask = made(layer_class, options, (9, 5, 4, 18))

    def outputs():
        compute = tf.function(functools.partial(layer, training=False))
        return compute(x, initial_state=states, mask=tf.constant(mask))

    expected = outputs()
    assert not calls
    with native_inference():
        inside = outputs()
        report = kernel_report(layer)[layer.name]["cpu"]
    assert report.startswith(f"the native kernel ({path}, library ")
    assert calls == [1]
    for mine, other in zip(inside, expected, strict=True):
        assert_close(mine, other)
    outputs()
    assert calls == [1]


def test_validation_inside_the_block_leaks_into_no_file(calls, tmp_path):
    model = keras.Sequential([keras.Input((None, 3)), PeepholeLSTM(4)])
    model.compile("adam", "mse", jit_compile=False)
    x = np.random.default_rng(1).normal(size=(8, 6, 3)).astype("float32")
    with native_inference():
        model.evaluate(x, x[:, 0, :1], verbose=0)
        assert calls == [1]
        model.fit(x, x[:, 0, :1], validation_data=(x, x[:, 0, :1]), verbose=0)
    traced = len(calls)
    assert traced > 1
    model.export(tmp_path / "exported", verbose=False)
    model.export(tmp_path / "lite.tflite", format="litert", verbose=False)
    to_onnx(model, tmp_path / "model.onnx")
    for name in ("exported/saved_model.pb", "lite.tflite", "model.onnx"):
        assert b"CustomLayersLstm" not in (tmp_path / name).read_bytes()
    assert len(calls) == traced


def test_a_path_that_the_processor_lacks_is_an_obstacle(calls, monkeypatch):
    monkeypatch.setenv("CUSTOM_LAYERS_NATIVE", "avx512")
    monkeypatch.setattr(tensorflow_native, "_has", lambda number: number < 2)
    layer = PeepholeLSTM(4)
    reason = "not used: this processor lacks CUSTOM_LAYERS_NATIVE=avx512"
    assert kernel_report(layer)[layer.name]["native"] == reason
    tf.function(lambda: layer(tf.ones((2, 3, 5)), training=True))()
    assert not calls
    monkeypatch.setenv("CUSTOM_LAYERS_NATIVE", "1")
    assert "(portable, library " in kernel_report(layer)[layer.name]["cpu"]


@pytest.mark.parametrize("choice", ["0", "1"])
def test_on_other_systems_everything_works(choice, calls, monkeypatch):
    monkeypatch.setattr(tensorflow_native.platform, "system", lambda: "Darwin")
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setenv("CUSTOM_LAYERS_NATIVE", choice)
    layer = PeepholeLSTM(4)
    tf.function(lambda: layer(tf.ones((2, 3, 5)), training=True))()
    reason = kernel_report(layer)[layer.name]["native"]
    if choice == "1":
        assert reason == "not used: the system is Darwin, it needs Linux"
    assert not calls


def test_a_cache_that_goes_away_does_not_matter(calls, tmp_path, monkeypatch):
    """A process that has loaded the library keeps it."""
    layer = PeepholeLSTM(4)
    kernel_report(layer)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    tf.function(lambda: layer(tf.ones((2, 3, 5)), training=True))()
    assert calls


@pytest.mark.parametrize("layer_class", [PeepholeLSTM, CoupledLSTM, DepthGatedLSTM])
def test_numbers_that_overflow_and_nan_are_those_of_the_loop(
    layer_class, path, monkeypatch
):
    results = []
    for choice in (path, "0"):
        monkeypatch.setenv("CUSTOM_LAYERS_NATIVE", choice)
        layer, x, states, _ = made(layer_class, ALL, (9, 3, 4, 18))
        x[1, 1] = np.nan
        x[2], x[3], x[4] = 1e30, -1e30, 1e4
        states[1][5] = 1e30
        outputs = tf.function(functools.partial(layer, training=True))
        results.append(outputs(x, initial_state=states))
    for mine, other in zip(*results, strict=True):
        assert np.isnan(other[1]).any() and not np.isnan(other[2:]).any()
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-6)


MIRRORED = """
import keras, numpy as np, tensorflow as tf
from custom_layers import DepthGatedLSTM, PeepholeLSTM, kernel_report
cpu = tf.config.list_physical_devices("CPU")[0]
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
x = np.random.default_rng(1).normal(size=(8, 5, 3)).astype("float32")
for devices in ["cpu:0"], ["cpu:0", "cpu:1"]:
    keras.utils.set_random_seed(2)
    with tf.distribute.MirroredStrategy(devices).scope():
        layers = PeepholeLSTM(7, return_sequences=True), DepthGatedLSTM(5, name="layer")
        model = keras.Sequential([*layers, keras.layers.Dense(1)])
        model.compile("adam", "mse", jit_compile=False)
    fitted = model.fit(x, x[:, 0, :1], epochs=4, batch_size=8, verbose=0)
    print(kernel_report(model)["layer"]["native"], *fitted.history["loss"])
"""


def test_mirrored_devices_have_the_losses_of_one(native_cache):
    result = subprocess.run(
        [sys.executable, "-c", MIRRORED],
        env={
            **os.environ,
            "CUSTOM_LAYERS_NATIVE": "1",
            "XDG_CACHE_HOME": str(native_cache),
        },
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    used = "used in training on a CPU "
    one, two = result.stdout.splitlines()
    assert one.startswith(used) and two.startswith(used)
    one, two = (np.array(each.removeprefix(used).split(), float) for each in (one, two))
    assert len(one) == 4 and np.ptp(one) > 1e-3
    np.testing.assert_allclose(two, one, rtol=1e-5)


def test_saved_files_do_not_need_it(calls, tmp_path, monkeypatch):
    inputs = keras.Input((None, 3))
    layer = keras.layers.Bidirectional(PeepholeLSTM(4, return_sequences=True))
    hidden = CoupledLSTM(5, return_sequences=True)(layer(inputs))
    hidden = DepthGatedLSTM(3)(hidden)
    model = keras.Model(inputs, keras.layers.Dense(1)(hidden))
    model.compile("adam", "mse")
    x = np.random.default_rng(1).normal(size=(12, 6, 3)).astype("float32")
    before = model.get_weights()
    model.fit(x, x[:, 0, :1], validation_split=0.5, verbose=0)
    assert calls
    assert not any(map(np.array_equal, before, model.get_weights()))
    predicted = model.predict(x, verbose=0)
    model.save(tmp_path / "model.keras")
    model.export(tmp_path / "exported", verbose=False)
    graph = (tmp_path / "exported/saved_model.pb").read_bytes()
    assert b"MatMul" in graph and b"CustomLayersLstm" not in graph
    monkeypatch.setenv("CUSTOM_LAYERS_NATIVE", "0")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_close(loaded.predict(x, verbose=0), predicted)
    traced = len(calls)
    loaded.fit(x, x[:, 0, :1], verbose=0)
    assert len(calls) == traced


#: A line of lstm_path.cc, what stands there in its place, and the case that tells.
MISTAKES = {
    "o sees the old c": ("z[O] + p_o * c)", "z[O] + p_o * old)", "one of all"),
    "i = 1": (": 1.0f - f;\n          V c", ": V{} + 1.0f;\n          V c", "coupled"),
    "p_o has no part in d_c": ("d_z_o * p_o;", "0.0f * p_o;", "a vector of units"),
    "tanh' = 1 - tanh": ("1.0f - shown * shown", "1.0f - shown", "one of all"),
    "coupled f without g": ("old - g)", "old)", "coupled"),
    "p_f has no part in d_c⁻": (" + d_z_f * p_f;", ";", "a unit less"),
    "a masked step hands no d_h on": (
        "d_h += load(a.d_h + at, width);",
        "d_h += V{};",
        "a unit more, a row more",
    ),
    "d_b of f is that of g": (
        "d_b[F] += d_z_f;",
        "d_b[F] += d_z_g;",
        "a unit less",
    ),
    "b comes without its tail": (
        "b[g] = load(a.b + g * n + unit, width);",
        "b[g] = load(a.b + g * n + unit, width == LANES ? width : 0);",
        "a unit more, a row more",
    ),
    "long sums begin anew": (
        "B + first * COLUMNS * LANES",
        "B",
        "long sums",
    ),
    "d sees no c_below": (
        " +\n                                r_below * below);",
        ");",
        "two levels",
    ),
    "d_z_d has no part in d_c⁻": ("d_old += d_z_d * q;", ";", "two levels"),
    "d_r is d_q": ("d_r += d_z_d * below;", "d_r += d_z_d * old;", "two levels"),
    "r has no part in d_c_below": (" + d_z_d * r_below,", ",", "three levels"),
    "the level above has no part in d_c": (
        "d_c += load(a.d_all_c + at_all, width);",
        "d_c += V{};",
        "three levels",
    ),
    "the last row is left out": (
        "r < count; ++r) {\n          const int64_t at = (row + r) * n + unit;",
        "r < count - (count == 1); ++r) {\n"
        "          const int64_t at = (row + r) * n + unit;",
        "a unit more, a row more",
    ),
}


@pytest.fixture
def operators(tmp_path, monkeypatch):
    """A function that builds a copy of the sources with a mistake in it, only one path
    beside the portable one, and has it used. Its operators have names of their own."""
    names = itertools.count()

    def plant(right, wrong, path="portable"):
        folder = tmp_path / f"copy{next(names)}"
        shutil.copytree(library.SOURCES, folder)
        source, op = folder / "lstm_path.cc", folder / "tensorflow_op.cc"
        assert source.read_text().count(right) == 1
        source.write_text(source.read_text().replace(right, wrong))
        name = f"Mistake{abs(hash(right))}Lstm"
        op.write_text(op.read_text().replace("CustomLayersLstm", name))
        monkeypatch.setattr(library, "SOURCES", folder)
        monkeypatch.setattr(library, "FLAGS", ("-std=c++17", "-O0", "-fPIC"))
        paths = {name: library.PATHS[name] for name in ("portable", path)}
        monkeypatch.setattr(library, "PATHS", paths)
        file = library._compile(library.compiler(), folder)
        built = tf.load_op_library(str(file))
        found = {name: getattr(built, name) for name in dir(built)}
        forward, backward = sorted(
            (name for name in found if name.startswith("mistake")), key=len
        )[:2]
        there = types.SimpleNamespace(
            custom_layers_lstm=found[forward], custom_layers_lstm_grad=found[backward]
        )
        monkeypatch.setattr(tensorflow_native, "_loaded", [there, file])

    return plant


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_is_caught(mistake, operators):
    right, wrong, case = MISTAKES[mistake]
    operators(right, wrong)
    with pytest.raises(AssertionError, match="relative error"):
        check(case)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("read += group * own;", "read += (GROUPS - 1 - group) * own;"),
        ("d_h += sum[mask][r][v] *", "d_h += sum[MASKS - 1 - mask][r][v] *"),
    ],
)
def test_a_mask_of_another_gate_is_caught(right, wrong, operators, monkeypatch):
    operators(right, wrong)
    with pytest.raises(AssertionError, match="relative error"):
        check_dropout(CoupledLSTM, False, "1", monkeypatch)


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("avx2", "< int32_t(count)", "< int32_t(count - 1)"),
        (
            "avx512",
            "(V)_mm512_maskz_loadu_ps(__mmask16((1u << count) - 1)",
            "(V)_mm512_maskz_loadu_ps(__mmask16((1u << count) / 2 - 1)",
        ),
        (
            "avx512",
            "_mm512_mask_storeu_ps(to, __mmask16((1u << count) - 1)",
            "_mm512_mask_storeu_ps(to, __mmask16((1u << count) / 2 - 1)",
        ),
    ],
)
def test_a_mistake_in_the_last_vector_is_caught(name, right, wrong, operators):
    assert tensorflow_native.obstacle() is None
    if not tensorflow_native._has(library.PATHS[name][0]):
        pytest.skip(f"this processor lacks {name}")
    operators(right, wrong, name)
    with pytest.raises(AssertionError, match="relative error"):
        check("a unit more, a row more")


def test_an_unplanted_copy_passes(operators):
    operators("V c = f * old + i * g;", "V c = i * g + f * old;")
    check("a unit more, a row more")


def builder(capsys):
    """Run the command; return its status, and what it prints to either stream."""
    status = build_native.main()
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_the_command_mends_a_damaged_library(native_cache, tmp_path, monkeypatch):
    """In a process of its own, which has loaded none yet. The compiler only copies."""
    compiler = tmp_path / "compiler"
    copy = f'for to; do :; done\ncase "$to" in *.so) cp "{library.find()}" "$to";; esac'
    compiler.write_text(f"#!/bin/sh\n{copy}\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path, _ = library.build()
    whole = path.read_bytes()
    path.write_bytes(b"damaged")
    module = [sys.executable, "-m", "custom_layers.build_native"]
    result = subprocess.run(module, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"native kernel: built, {path}\n"
    assert path.read_bytes() == whole


def test_the_command_builds_once(native_cache, capsys):
    status, out, err = builder(capsys)
    assert (status, err) == (0, "")
    assert out == f"native kernel: ready, {library.find()}\n"
    assert str(native_cache) in out


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"PATH": "/nowhere"}, "there is no C++ compiler (c++, g++, clang++, or CXX)"),
        ({"CXX": "/nowhere/c++ -O2"}, "CXX is '/nowhere/c++', which is no program"),
        ({"CXX": "false"}, "false failed: status 1"),
        ({"CXX": "true"}, "true is no compiler: it wrote no library"),
        ({"CXX": "g++ 'x"}, 'CXX is "g++ \'x": No closing quotation'),
        ({"XDG_CACHE_HOME": "/dev/null"}, "Not a directory"),
        ({"XDG_CACHE_HOME": "/proc/nowhere"}, "No such file or directory"),
    ],
)
def test_what_keeps_it_from_building_is_one_line(variables, said, capsys, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    status, out, err = builder(capsys)
    assert (status, out) == (2, "")
    assert said in err and err.count("\n") == 1
    assert err.startswith(
        "native kernel: not built, training on a CPU uses TensorFlow's"
    )


def test_the_library_that_is_asked_for_is_used(tmp_path, monkeypatch):
    """Of two compilers' the one that was built or asked for last."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(
        library, "_compile", lambda command, folder: make_file(folder / "lstm.so")
    )
    first, _ = library.build()
    monkeypatch.setenv("CXX", "sh -c 'echo another' sh")
    second, _ = library.build()
    assert first != second and library.find() == second
    monkeypatch.delenv("CXX")
    assert library.build() == (first, False)
    assert library.find() == first

    def refuse(path):
        raise PermissionError

    monkeypatch.setattr(os, "utime", refuse)
    assert library.build() == (first, False)


def make_file(path):
    path.write_bytes(b"")
    return path


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (
            "/usr/bin/ld: final link failed: No space left on device\n"
            "collect2: error: ld returned 1 exit status",
            "/usr/bin/ld: final link failed: No space left on device",
        ),
        (
            "/usr/bin/ld: no space\nclang: error: linker command failed",
            "/usr/bin/ld: no space",
        ),
        ("a.cc: In function f:\na.cc:1: error: no x\n  1 | x", "a.cc:1: error: no x"),
        ("collect2: fatal error", "status 3"),
        ("", "status 3"),
    ],
)
def test_what_is_shown_of_what_a_compiler_says(said, line):
    failing = [sys.executable, "-c", "import sys; sys.exit(3)"]
    if said:
        failing[-1] = f"import sys; sys.stderr.write({said!r}); sys.exit(3)"
    with pytest.raises(library.BuildError) as error:
        library.run(failing)
    assert str(error.value) == f"{sys.executable} failed: {line}"


def test_a_compiler_that_fails_leaves_nothing_behind(tmp_path, capsys, monkeypatch):
    broken = tmp_path / "sources"
    shutil.copytree(library.SOURCES, broken)
    (broken / "lstm.h").write_text("mistake\n")
    monkeypatch.setattr(library, "SOURCES", broken)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    status, _, err = builder(capsys)
    assert status == 2 and "error" in err and err.count("\n") == 1
    assert not [path for path in library.cache().rglob("*") if path.is_file()]


def test_two_builders_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(library, "FLAGS", ("-std=c++17", "-O0", "-fPIC"))
    monkeypatch.setattr(library, "PATHS", {"portable": library.PATHS["portable"]})
    with concurrent.futures.ThreadPoolExecutor() as pool:
        first, second = pool.map(lambda _: library.build(), range(2))
    assert first[0] == second[0] and first[1] and second[1]
    assert [path for path in library.cache().rglob("*") if path.is_file()] == [first[0]]
    assert first[0].read_bytes().startswith(b"\x7fELF")


def test_the_module_is_a_command(tmp_path):
    """With no compiler to be found: one line, and no traceback."""
    result = subprocess.run(
        [sys.executable, "-m", "custom_layers.build_native"],
        env={**os.environ, "PATH": "/nowhere", "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert result.stderr.splitlines()[-1].startswith("native kernel: not built")
