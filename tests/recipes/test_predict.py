"""Prediction with the models of finished runs."""

import io
import json
import os
import re

import keras
import numpy as np
import pytest
from digit_files import KINDS, digits, draw
from PIL import Image

from recipes import predict
from recipes.data.digit_image import read_digit
from recipes.run.command_line import UserError
from recipes.run.folder import RunFolder

# In one process: the two runs are made once.
pytestmark = pytest.mark.xdist_group("finished-runs")


def test_digits_are_recognised(finished_runs, tmp_path, capsys):
    path = tmp_path / "digit.png"
    images, labels = [], []
    for number, (grey, label) in enumerate(digits()):
        size = (20 + 9 * number, 25 + 8 * number)
        draw(path, grey, size, KINDS[number % len(KINDS)])
        images.append(read_digit(path))
        labels.append(label)
    newest = predict.find_model("mnist", finished_runs, "")
    model = predict.load_model("mnist", newest)
    probabilities = model.predict(np.array(images), verbose=0)
    assert np.mean(probabilities.argmax(axis=1) == labels) > 0.6
    arguments = ["mnist", "--image", str(path), "--runs", str(finished_runs)]
    assert predict.main([*arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    np.testing.assert_allclose(result["probabilities"], probabilities[-1], atol=1e-5)
    assert result["label"] == probabilities[-1].argmax()
    assert result["probability"] == max(result["probabilities"])
    assert predict.main(arguments) == 0
    assert capsys.readouterr().out == f"{result['label']} {result['probability']:.4f}\n"


class Standard(io.TextIOWrapper):
    def isatty(self):
        return False


@pytest.mark.parametrize("source", ["a file", "standard input"])
def test_reviews_are_read_line_by_line(
    source, finished_runs, tmp_path, capsys, monkeypatch
):
    text = "good film .\n\nit was \xff dull\n".encode("latin-1")
    arguments = ["imdb", "--json", "--runs", str(finished_runs)]
    if source == "a file":
        (tmp_path / "reviews.txt").write_bytes(text)
        arguments += ["--file", str(tmp_path / "reviews.txt")]
    else:
        monkeypatch.setattr("sys.stdin", Standard(io.BytesIO(text)))
    assert predict.main(arguments) == 2
    out, err = capsys.readouterr()
    results = [json.loads(line) for line in out.splitlines()]
    assert [result["line"] for result in results] == [1, 3]
    assert {result["label"] for result in results} <= {"good", "bad"}
    assert err == "error: line 2 is empty\n"


def test_a_text_is_answered_in_a_line(finished_runs, capsys):
    arguments = ["imdb", "--runs", str(finished_runs), "--text", "-5 $tars"]
    assert predict.main(arguments) == 0
    assert re.fullmatch(r"(good|bad) [01]\.\d{4}  -5 \$tars\n", capsys.readouterr().out)


def test_the_newest_finished_run_is_the_default(tmp_path):
    for age, name in enumerate(["newest", "older", "unfinished"]):
        folder = RunFolder(tmp_path / "imdb" / name)
        folder.path.mkdir(parents=True)
        folder.model.touch()
        if name != "unfinished":
            folder.metrics.touch()
            os.utime(folder.metrics, (1e9 - age, 1e9 - age))
    os.utime(folder.model, (2e9, 2e9))
    for asked, found in (
        ("", "newest"),
        ("older", "older"),
        (str(folder.path), "unfinished"),
        (str(folder.model), "unfinished"),
    ):
        path = predict.find_model("imdb", tmp_path, asked)
        assert path == RunFolder(tmp_path / "imdb" / found).model


def assert_refused(arguments, message, runs):
    """Assert that predicting ends with one line that matches ``message``."""
    with pytest.raises(UserError, match=message) as raised:
        predict.main([*arguments, "--runs", str(runs)])
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ("nope", "no run 'nope' with a model in .*; there are run"),
        ("{runs}/mnist/run", "not a model of the imdb recipe: .* mnist recipe"),
        ("{here}/damaged.keras", "cannot load .*damaged"),
        ("{here}/other.keras", "made by neither recipe"),
    ],
)
def test_models_that_cannot_be_used(run, message, finished_runs, tmp_path):
    whole = RunFolder(finished_runs / "imdb/run").model.read_bytes()
    (tmp_path / "damaged.keras").write_bytes(whole[:5000])
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    other.save(tmp_path / "other.keras")
    run = run.format(runs=finished_runs, here=tmp_path)
    arguments = ["imdb", "--text", "good", "--run", run]
    assert_refused(arguments, message, finished_runs)


def test_no_model_says_how_to_train_one(tmp_path):
    message = "no finished run in .*train one with `make train-imdb`"
    assert_refused(["imdb", "--text", "good"], message, tmp_path)


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("--text", " \n", "the text is empty"),
        ("--file", "{here}/no.txt", "cannot read .*no.txt: No such file"),
        ("--file", os.devnull, "there is no review to read"),
    ],
)
def test_texts_that_cannot_be_read(flag, value, message, finished_runs, tmp_path):
    arguments = ["imdb", flag, value.format(here=tmp_path)]
    assert_refused(arguments, message, finished_runs)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no.png", "no such image"),
        ("", "cannot read the image"),
        ("text.png", "cannot read the image"),
        ("cut.png", "cannot read the image"),
        ("blank.png", "is blank"),
        ("clear.png", "is blank"),
    ],
)
def test_images_that_cannot_be_read(name, message, finished_runs, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    Image.new("L", (30, 40), 255).save(tmp_path / "blank.png")
    Image.new("RGBA", (30, 40), 0).save(tmp_path / "clear.png")
    draw(tmp_path / "good.png", next(digits())[0], (40, 40), "dark")
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:300])
    arguments = ["mnist", "--image", str(tmp_path / name)]
    assert_refused(arguments, message, finished_runs)


def test_an_image_for_a_model_of_reviews(finished_runs, tmp_path):
    draw(tmp_path / "good.png", next(digits())[0], (40, 40), "dark")
    arguments = ["mnist", "--image", str(tmp_path / "good.png")]
    arguments += ["--run", str(finished_runs / "imdb/run")]
    assert_refused(arguments, "imdb recipe", finished_runs)
