"""The export of finished runs, and prediction from what it writes."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from digit_files import digits, draw

from recipes import export, predict
from recipes.data.samples import make_reviews
from recipes.onnx_model import OnnxModel
from recipes.run import files
from recipes.run.command_line import UserError
from recipes.run.folder import RunFolder

# In one process: the two runs are made once.
pytestmark = pytest.mark.xdist_group("finished-runs")

ROOT = pathlib.Path(__file__).parents[2]

#: What a tokenizer may read differently.
TEXTS = [
    "superb film , dull plot",
    "SUPERB “Film”…dull\u00a0plot\u200bfilm",
    "ﬁlm ß É e\u0301 中文 \x1c dull\x85film don't 😀 \U0003ffff",
    "",
    " \t\n",
    "film " * 300,
    "a\ufffdb \x00 film\u2028dull",
]


@pytest.fixture(scope="module")
def runs(finished_runs, tmp_path_factory):
    """A copy of the finished runs, exported as ONNX."""
    folder = tmp_path_factory.mktemp("exported") / "runs"
    shutil.copytree(finished_runs, folder)
    for recipe in export.RECIPES:
        run = str(folder / recipe / "run")
        assert export.main(["--run", run, "--format", "onnx"]) == 0
    return folder


def load(path):
    return keras.saving.load_model(path, compile=False)


def test_images_are_answered_as_keras_does(runs, rng):
    folder = RunFolder(runs / "mnist/run")
    images = rng.random((20, 28, 28)).astype("float32")
    model = OnnxModel(folder.path / "model.onnx")
    expected = load(folder.model).predict(images, verbose=0)
    np.testing.assert_allclose(model.predict_on_batch(images), expected, atol=1e-5)


def test_texts_are_answered_as_keras_does(runs):
    folder = RunFolder(runs / "imdb/run")
    reviews, _ = make_reviews(50, 3)
    texts = [*TEXTS, *map(predict.decode, reviews)]
    keras_model, model = load(folder.model), OnnxModel(folder.path / "model.onnx")
    expected = keras_model(tf.constant(texts))
    np.testing.assert_allclose(model.predict_on_batch(texts), expected, atol=1e-5)
    one_by_one = [model.predict_on_batch([text])[0] for text in texts]
    np.testing.assert_allclose(one_by_one, expected, atol=1e-5)
    assert np.ptp(expected) > 0.01


def test_words_have_the_numbers_of_the_tokenizer(runs):
    folder = RunFolder(runs / "imdb/run")
    model = OnnxModel(folder.path / "model.onnx")
    words = (folder.path / "model.vocabulary.txt").read_text().split("\n")[:-1]
    tokenizer = load(folder.model).get_layer("tokenizer")
    vectorize = tokenizer.get_layer("vectorize")
    assert words == vectorize.get_vocabulary()
    for text in TEXTS:
        expected = vectorize(tf.constant([text])).numpy()[0]
        assert model.word_numbers(text) == expected[expected > 0].tolist()


def test_the_words_are_named_after_the_output(runs, tmp_path):
    """Another model's words, or a file of the user's, stay as they are."""
    (tmp_path / "vocabulary.txt").write_text("mine")
    output = str(tmp_path / "film.v2.onnx")
    assert export.main(["--run", str(runs / "imdb/run"), "--output", output]) == 0
    assert (tmp_path / "vocabulary.txt").read_text() == "mine"
    words = (tmp_path / "film.v2.vocabulary.txt").read_text()
    assert words.startswith("\n[UNK]\n")
    assert len(list(tmp_path.iterdir())) == 3


PREDICT = """
import sys
from recipes.run.command_line import exit_with
from recipes import predict
try:
    exit_with(predict.main)
finally:
    slow = {"tensorflow", "keras", "custom_layers", "jax", "torch"} & set(sys.modules)
    assert not slow, slow
"""


@pytest.mark.parametrize("recipe", export.RECIPES)
def test_prediction_needs_onnxruntime_alone(recipe, runs, tmp_path, capsys):
    """No TensorFlow and no Keras, and the same answers."""
    given = ["--text", TEXTS[1]]
    if recipe == "mnist":
        draw(tmp_path / "digit.png", next(digits())[0], (60, 60), "dark")
        given = ["--image", str(tmp_path / "digit.png")]
    run = runs / recipe / "run"
    arguments = [recipe, *given, "--json", "--run"]
    result = subprocess.run(
        [sys.executable, "-c", PREDICT, *arguments, run / "model.onnx"],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": "nonsense"},  # it is not asked
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert predict.main([*arguments, str(run)]) == 0
    actual, expected = map(json.loads, (result.stdout, capsys.readouterr().out))
    assert actual["label"] == expected["label"]
    assert actual["probability"] == pytest.approx(expected["probability"], abs=1e-5)


@pytest.fixture
def refuse(capsys):
    """A function that exports or predicts, and returns the one line of the refusal."""

    def call(program, *arguments):
        with pytest.raises(UserError) as raised:
            program.main([*map(str, arguments)])
        assert "\n" not in str(raised.value)
        assert "\x1b" not in str(raised.value)
        return str(raised.value)

    return call


def test_a_savedmodel_reads_texts_and_replaces_an_older_one(runs):
    run = runs / "imdb/run"
    arguments = ["--run", str(run), "--format", "savedmodel"]
    assert export.main(arguments) == 0
    (run / "model.savedmodel/old").touch()
    assert export.main(arguments) == 0
    assert not (run / "model.savedmodel/old").exists()
    assert not list(run.glob("unfinished-*"))
    loaded = tf.saved_model.load(run / "model.savedmodel")
    actual = loaded.serve(tf.constant(TEXTS))
    expected = load(run / "model.keras")(tf.constant(TEXTS))
    np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.mark.filterwarnings(r"ignore:\s*Warning. tf.lite.Interpreter is deprecated")
def test_a_litert_file_reads_one_image(runs, rng):
    run = runs / "mnist/run"
    assert export.main(["--run", str(run), "--format", "litert"]) == 0
    image = rng.random((1, 28, 28)).astype("float32")
    runner = tf.lite.Interpreter(str(run / "model.tflite")).get_signature_runner()
    (actual,) = runner(image=image).values()
    expected = load(run / "model.keras")(image)
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_litert_has_no_texts(runs, refuse):
    line = refuse(export, "--run", runs / "imdb/run", "--format", "litert")
    assert "as litert: LiteRT has no operators that read texts" in line
    assert not list((runs / "imdb/run").glob("*.tflite"))


def test_litert_needs_a_fixed_length(tmp_path, refuse):
    path = tmp_path / "m.keras"
    x = keras.Input((None, 3), name="x")
    keras.Model(x, keras.layers.LSTM(2)(x)).save(path)
    line = refuse(export, "--run", path, "--format", "litert")
    assert "the input x has the shape (None, None, 3)" in line


def test_what_onnx_cannot_hold(tmp_path, refuse):
    path = tmp_path / "m.keras"
    x = keras.Input((4, 3), batch_size=1)
    keras.Model(x, keras.layers.LSTM(2, stateful=True, name="l")(x)).save(path)
    line = refuse(export, "--run", path)
    assert line.startswith(f"cannot export {path} as onnx: l is stateful")
    assert list(tmp_path.iterdir()) == [path]


def test_which_run_is_exported(tmp_path, refuse, monkeypatch):
    """The newest finished one; a name that two runs share is refused."""
    for age, name in enumerate(["mnist/a", "imdb/b", "imdb/a", "mnist/new"]):
        folder = RunFolder(tmp_path / name)
        folder.path.mkdir(parents=True)
        folder.model.touch()
        if age < 3:
            folder.metrics.touch()
            os.utime(folder.metrics, (1e9 - age, 1e9 - age))
    for name, found in (
        ("", "mnist/a"),
        ("b", "imdb/b"),
        ("new", "mnist/new"),
        (str(tmp_path / "imdb/a"), "imdb/a"),
        (str(tmp_path / "imdb/a/model.keras"), "imdb/a"),
    ):
        path = export.find_any_model(tmp_path, name)
        assert path == RunFolder(tmp_path / found).model
    runs = "--runs", tmp_path
    assert refuse(export, "--run", "a", *runs).startswith("there are two runs 'a'")
    assert "no run 'c' with a model" in refuse(export, "--run", "c", *runs)
    line = refuse(export, "--runs", tmp_path / "none")
    assert "train one with `make train-mnist`" in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "pickle"], "invalid choice: 'pickle'"),
        (["--output", "m.h5"], r"--output must end with \.onnx .* got m\.h5"),
        (["--output", "/proc/none/m.onnx"], "cannot write /proc/none/m.onnx: "),
        (["--output", "{here}/no/m.onnx"], "cannot write .*: No such file"),
        (["--output", "{here}/file/m.onnx"], "cannot write .*: Not a directory"),
        (["--run", "{here}/m.onnx"], "its name must end with .keras"),
        (["--run", "{here}/m.keras"], "cannot load .*damaged"),
        (
            ["--format", "savedmodel", "--output", "{here}/m.savedmodel"],
            "m.savedmodel is in the way",
        ),
    ],
)
def test_exports_that_fail(arguments, message, runs, tmp_path, refuse):
    for name in ("file", "m.onnx", "m.keras", "m.savedmodel"):
        (tmp_path / name).write_text("nothing")
    arguments = [argument.format(here=tmp_path) for argument in arguments]
    if "--run" not in arguments:
        arguments += ["--run", str(runs / "mnist/run")]
    with pytest.raises(UserError, match=message) as raised:
        export.main(arguments)
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.glob("unfinished-*"))


@pytest.mark.parametrize("package", ["onnx", "tf2onnx"])
def test_a_missing_package_of_the_export(package, runs, refuse, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    line = refuse(export, "--run", runs / "mnist/run")
    assert f"needs the package {package}: pip install" in line
    assert line.endswith("; `make .venv/ready-export` installs it")


def test_a_missing_onnxruntime(runs, refuse, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    arguments = ["imdb", "--text", "x", "--run", runs / "imdb/run/model.onnx"]
    line = refuse(predict, *arguments)
    assert "the package onnxruntime is needed: `make .venv/ready-export`" in line


def test_a_full_disk_leaves_the_older_file(runs, refuse, monkeypatch):
    path = runs / "mnist/run/model.onnx"
    before = path.read_bytes()

    def full(model, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "to_onnx", full)
    line = refuse(export, "--run", path.parent)
    assert line == f"cannot write {path}: No space left on device"
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("format", "folder", "where"),
    [
        ("savedmodel", "{here}/unfinished-x", ""),
        ("litert", "{temporary}/x", " in the temporary folder {temporary}"),
    ],
)
def test_a_full_disk_is_named_by_tensorflow_s_formats(
    format, folder, where, runs, tmp_path, refuse, monkeypatch
):
    names = {"here": tmp_path, "temporary": tempfile.gettempdir()}
    message = "{{function_node " + 200 * "x" + "}} " + folder.format(**names)
    message += "/variables/part-00000; No space left on device [Op:SaveV2]"

    def full(*arguments, **options):
        raise tf.errors.ResourceExhaustedError(None, None, message)

    monkeypatch.setattr(keras.Model, "export", full)
    path = tmp_path / f"m{export.SUFFIXES[format]}"
    arguments = ["--run", runs / "mnist/run", "--format", format, "--output", path]
    reason = "No space left on device" + where.format(**names)
    assert refuse(export, *arguments) == f"cannot write {path}: {reason}"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", [0, 100, 5000, -100])
def test_a_damaged_onnx_file(size, runs, tmp_path, refuse):
    whole = (runs / "imdb/run/model.onnx").read_bytes()
    (tmp_path / "m.onnx").write_bytes(whole[:size])
    line = refuse(predict, "imdb", "--text", "x", "--run", tmp_path / "m.onnx")
    assert line.startswith(
        (f"cannot load {tmp_path}/m.onnx, it is", f"{tmp_path}/m.onnx is not a model")
    )


def test_an_onnx_file_without_its_words(runs, tmp_path, refuse):
    import onnx

    model = onnx.load(runs / "imdb/run/model.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "m.onnx")
    line = refuse(predict, "imdb", "--text", "x", "--run", tmp_path / "m.onnx")
    assert line.endswith(
        "is not a model of the imdb recipe: it was made by neither recipe"
    )


def test_a_model_of_the_other_recipe(runs, refuse):
    run = runs / "mnist/run/model.onnx"
    line = refuse(predict, "imdb", "--text", "x", "--run", run)
    assert line.endswith("imdb recipe: it was made by the mnist recipe")
    assert files.is_file(run)
