"""What Keras's tools make of the layers is what they make of Keras's LSTM."""

import copy
import json
import pickle
import subprocess
import sys

import keras
import numpy as np
import pytest

from custom_layers import LAYERS, CoupledLSTM, PeepholeLSTM, PeepholeLSTMCell

on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the export needs TensorFlow"
)
NAMES = sorted(LAYERS)
#: The layers of this package, and the one that they are compared with.
OURS = [name for name in NAMES if name == "lstm" or hasattr(LAYERS[name], "cell_class")]


def set_random(model, rng):
    weights = [rng.uniform(-1, 1, w.shape) for w in model.get_weights()]
    model.set_weights(weights)
    return model


@pytest.fixture(params=OURS)
def model(request, rng):
    """A model with a masked layer, and random weights."""
    x = keras.Input((6, 3), name="x")
    layer = LAYERS[request.param](4, return_sequences=True, go_backwards=True)
    h = layer(keras.layers.Masking()(x))
    return set_random(keras.Model(x, keras.layers.Dense(2)(h)), rng)


class OwnCell(PeepholeLSTMCell):
    """An LSTM without a forget gate."""

    @staticmethod
    def equations(z, p, states, σ, φ):
        i, g, o = σ(z.i), φ(z.g), σ(z.o)
        c = states[1] + i * g
        return {"i": i, "f": i, "g": g, "c": c, "o": o, "h": o * φ(c)}


#: Layers with several options each, and a cell of one's own.
OPTIONS = {
    "all": lambda: PeepholeLSTM(
        4,
        layer_norm=True,
        cell_clip=0.7,
        zoneout_h=0.1,
        zoneout_c=0.2,
        projection=3,
        projection_clip=0.3,
        return_sequences=True,
    ),
    "coupled_tfa": lambda: CoupledLSTM(
        4, peepholes=("f",), layer_norm="tfa", projection=3, return_sequences=True
    ),
    "coupled_clip": lambda: CoupledLSTM(4, cell_clip=0.3, zoneout_h=0.4),
    "tf1": lambda: PeepholeLSTM(4, layer_norm="tf1", layer_norm_epsilon=0.01),
    "own": lambda: keras.layers.RNN(OwnCell(4)),
}


@pytest.fixture
def every(rng):
    """A model with a masked layer of each kind, and with options."""
    x = keras.Input((6, 3), name="x")
    masked = keras.layers.Masking()(x)
    outputs = {name: LAYERS[name](4, return_sequences=True)(masked) for name in NAMES}
    outputs |= {name: make()(masked) for name, make in OPTIONS.items()}
    return set_random(keras.Model(x, outputs), rng)


@pytest.fixture
def x(rng):
    """One sequence, with steps that `Masking` masks."""
    x = rng.uniform(-1, 1, (1, 6, 3)).astype("float32")
    x[:, [1, 4, 5]] = 0
    return x


def ask(model, x):
    return keras.ops.convert_to_numpy(model(x, training=False))


def results(model, x):
    values = model(x, training=False)
    return {k: keras.ops.convert_to_numpy(v) for k, v in values.items()}


def assert_same(actual, expected):
    assert sorted(actual) == sorted(expected) == sorted([*NAMES, *OPTIONS])
    for name, value in expected.items():
        assert actual[name].shape == value.shape and np.abs(value).max() > 0.01
        np.testing.assert_allclose(actual[name], value, rtol=0, atol=1e-5)


#: A program that runs an exported model, and has never heard of this package.
PROGRAM = """
import json, sys
import numpy as np, tensorflow as tf
kind, path, x, output = sys.argv[1:]
x = np.load(x)
if kind == "savedmodel":
    model = tf.saved_model.load(path)
    results = model.serve(x)
    results = {name: np.array(value) for name, value in results.items()}
else:
    runner = tf.lite.Interpreter(path).get_signature_runner()
    results = runner(x=x)
np.savez(output, **results)
assert "custom_layers" not in sys.modules
"""


def run_elsewhere(kind, path, x, tmp_path):
    np.save(tmp_path / "x.npy", x)
    arguments = [kind, path, tmp_path / "x.npy", tmp_path / "output.npz"]
    subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)],
        check=True,
        cwd=tmp_path,
        capture_output=True,
    )
    return dict(np.load(tmp_path / "output.npz"))


@on_tensorflow
def test_a_savedmodel_runs_without_the_package(every, x, tmp_path):
    every.export(tmp_path / "model", format="tf_saved_model", verbose=False)
    actual = run_elsewhere("savedmodel", tmp_path / "model", x, tmp_path)
    assert_same(actual, results(every, x))


@on_tensorflow
@pytest.mark.filterwarnings("ignore")  # of the converter
def test_a_litert_file_runs_without_the_package(every, x, tmp_path):
    import tensorflow as tf

    every.export(
        tmp_path / "model.tflite",
        format="litert",
        verbose=False,
        input_signature=[tf.TensorSpec((1, 6, 3), name="x")],
        target_spec={"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]},
    )
    actual = run_elsewhere("litert", tmp_path / "model.tflite", x, tmp_path)
    assert_same(actual, results(every, x))


@on_tensorflow
@pytest.mark.filterwarnings("ignore")  # of tf2onnx
def test_keras_own_export_to_onnx(model, x, tmp_path):
    """It works for all layers, as for Keras's LSTM; they are loops then."""
    import onnxruntime

    expected = ask(model, x)
    model.export(tmp_path / "m.onnx", format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    (given,) = session.get_inputs()
    (actual,) = session.run(None, {given.name: x})
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))],
    ids=["deepcopy", "pickle"],
)
def test_a_copy_gives_the_same(copied, model, x):
    expected = ask(model, x)
    other = copied(model)
    np.testing.assert_allclose(ask(other, x), expected, atol=1e-6)
    other.set_weights([0 * w for w in other.get_weights()])  # its weights are its own
    np.testing.assert_allclose(ask(model, x), expected, atol=1e-6)


def test_a_clone_has_new_weights_and_the_same_configuration(model, x, tmp_path):
    clone = keras.models.clone_model(model)
    assert json.dumps(clone.get_config()) == json.dumps(model.get_config())
    expected = ask(model, x)
    assert not np.allclose(ask(clone, x), expected)
    model.save_weights(tmp_path / "m.weights.h5")
    clone.load_weights(tmp_path / "m.weights.h5")
    np.testing.assert_allclose(ask(clone, x), expected, atol=1e-6)


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method")
def test_int8_weights(model, x):
    """The dense layer gets them; the recurrent ones stay as they are, as Keras's do."""
    expected = ask(model, x)
    recurrent = model.layers[2].get_weights()
    model.quantize("int8")
    assert model.layers[-1].kernel.dtype == "int8"
    for one, other in zip(model.layers[2].get_weights(), recurrent, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(ask(model, x), expected, atol=0.1)
