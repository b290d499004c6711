"""Pictures of a run, and prediction with its model, on the samples."""

import html.parser
import io
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
from unittest import mock

import keras
import numpy as np
import pytest
import sklearn.datasets
import tensorflow as tf
from PIL import Image

from recipes import imdb, mnist, pictures, predict
from recipes.command_line import UserError
from recipes.digit_image import read_digit

# In one process: the two runs are made once.
pytestmark = pytest.mark.xdist_group("pictures")

ROOT = pathlib.Path(__file__).parent.parent
EXPECTED = {
    "mnist": ["curves.png", "confusion.png", "mistakes.png", "gates.png"],
    "imdb": [
        "curves.png",
        "calibration.png",
        "mistakes.txt",
        "gates.png",
        "gates.html",
    ],
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder of two finished runs, one of each recipe."""
    folder = tmp_path_factory.mktemp("runs")
    common = ["--data", "sample", "--runs", str(folder), "--name", "run"]
    patch = pytest.MonkeyPatch()
    for recipe in (mnist, imdb):  # threads can be set only before TensorFlow starts
        patch.setattr(
            recipe, "prepare", lambda config: keras.utils.set_random_seed(config.seed)
        )
    mnist.main(
        [
            *common,
            "--epochs",
            "4",
            "--units",
            "24",
            "--batch",
            "32",
            "--distortion",
            "0",
        ]
    )
    imdb.main(
        [*common, "--steps", "4", "--units", "8", "--words", "50", "--embedding", "8"]
    )
    patch.undo()
    return folder


@pytest.mark.parametrize("recipe", EXPECTED)
def test_a_run_leaves_its_pictures(recipe, runs):
    folder = runs / recipe / "run"
    for name in EXPECTED[recipe]:
        if name.endswith(".png"):
            image = Image.open(folder / name)
            assert 600 <= image.width <= 950
            assert 300 <= image.height <= 1000
            assert len(image.convert("L").getcolors()) > 20
        else:
            assert (folder / name).stat().st_size > 500
    assert not list(folder.glob("unfinished-*"))


def test_words_are_the_tokenizer_s():
    """One piece for each of its words, whatever stands between them."""
    tokenizer = imdb.make_tokenizer([b"a b"], 20, 50)
    for text in [
        "Good - very, good!",
        "... yes <br /><br />No",
        "a\x85b \xa0 c",
        '"x" \t y\n z',
        " - ",
    ]:
        count = np.sum(np.asarray(tokenizer(tf.constant([text]))) != 0)
        assert max(1, len(pictures.split_words(text))) == count, text
    assert pictures.split_words("( Good ) - very, good!") == [
        "( Good ) -",
        "very,",
        "good!",
    ]


def test_page_escapes_and_needs_nothing_else(tmp_path):
    words = ["<script>alert(1)</script>", "a&b", "$x$", 'quote"']
    review = {
        "index": 1,
        "label": "good",
        "words": words,
        "probabilities": np.linspace(0.1, 0.9, 5),
    }
    pictures.write_page(tmp_path / "page.html", review)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script" not in page and "&lt;script&gt;" in page
    assert not re.search(r"https?:|src=|href=|url\(", page)
    assert "<title>" in page and page.count("<span style") == 4
    html.parser.HTMLParser().feed(page)


DRAWING = {
    "mnist": ["draw_curves", "draw_confusion", "draw_mistakes", "draw_digit_gates"],
    "imdb": ["draw_curves", "draw_calibration", "write_mistakes", "read_word_by_word", "write_page",
             "word_traces", "draw_words"],
}  # fmt: skip


def draw_with_a_failure(recipe, failing, error, monkeypatch):
    """Draw with functions that do nothing but for one; return the names of those that were called."""
    functions = {name: mock.MagicMock() for name in DRAWING[recipe]}
    functions[failing].side_effect = error
    for name, function in functions.items():
        monkeypatch.setattr(pictures, name, function)
    arguments = [mock.MagicMock()] * (1 if recipe == "mnist" else 2)
    draw = getattr(pictures, f"draw_{recipe}")
    draw(pathlib.Path("run"), *arguments, (None, None), np.zeros((3, 2)))
    return [name for name, function in functions.items() if function.called]


@pytest.mark.parametrize(
    ("recipe", "failing", "missing"),
    [
        ("mnist", "draw_curves", "curves.png"),
        ("mnist", "draw_confusion", "confusion.png"),
        ("mnist", "draw_mistakes", "mistakes.png"),
        ("mnist", "draw_digit_gates", "gates.png"),
        ("imdb", "draw_curves", "curves.png"),
        ("imdb", "draw_calibration", "calibration.png"),
        ("imdb", "write_mistakes", "mistakes.txt"),
        ("imdb", "read_word_by_word", "gates.html and gates.png"),
        ("imdb", "write_page", "gates.html"),
        ("imdb", "word_traces", "gates.png"),
        ("imdb", "draw_words", "gates.png"),
    ],
)
def test_a_failing_picture_costs_no_other(
    recipe, failing, missing, monkeypatch, capsys
):
    called = draw_with_a_failure(recipe, failing, ValueError("no\nfont"), monkeypatch)
    needed = {
        "read_word_by_word": DRAWING["imdb"][4:],
        "word_traces": ["draw_words"],
    }.get(failing, [])
    assert called == [name for name in DRAWING[recipe] if name not in needed]
    assert capsys.readouterr().err == f"WARNING: no {missing}: ValueError: no font\n"


@pytest.mark.parametrize("recipe", DRAWING)
def test_a_full_disk_stops_the_drawing(recipe, monkeypatch):
    for failing in DRAWING[recipe]:
        with pytest.raises(OSError, match="no room"):
            draw_with_a_failure(recipe, failing, OSError("no room"), monkeypatch)


def test_a_picture_that_cannot_be_saved_leaves_nothing(tmp_path):
    with (
        pytest.raises(ValueError, match="no font"),
        pictures.figure(tmp_path / "a.png", 1, 1) as drawn,
    ):
        drawn.draw = mock.Mock(side_effect=ValueError("no font"))
        (tmp_path / "unfinished-a.png").touch()
    assert not list(tmp_path.iterdir())


def test_vocabulary_with_line_breaks_can_be_saved(tmp_path):
    tokenizer = imdb.make_tokenizer(["good \x85 film \x85 \x85".encode()], 20, 4)
    tokenizer.save(tmp_path / "t.keras")
    keras.saving.load_model(tmp_path / "t.keras")


def digits():
    """Large pictures of sample digits that tested, and their labels."""
    sample = sklearn.datasets.load_digits()
    for index in range(1500, 1530):
        yield np.uint8(sample.images[index] * 255 / 16), sample.target[index]


def draw(path, grey, size, kind):
    """Save a digit as a file: dark on light or light on dark, off centre, or transparent."""
    image = np.pad(
        np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC)),
        ((9, 40), (31, 5)),
    )
    if kind == "dark":
        image = 255 - image
    elif kind == "transparent":
        image = np.stack([0 * image] * 3 + [image], axis=-1)
    elif kind == "light-transparent":
        image = np.stack([0 * image + 255] * 3 + [image], axis=-1)
    elif kind == "faint":
        image = 180 - image // 3
    elif kind == "deep":
        image = image.astype("uint16") * 257
    Image.fromarray(image).save(path)


KINDS = ["dark", "light", "transparent", "light-transparent", "faint", "deep"]


def test_digits_are_recognised(runs, tmp_path, capsys):
    images, labels = [], []
    for number, (grey, label) in enumerate(digits()):
        draw(
            tmp_path / "digit.png",
            grey,
            (20 + 9 * number, 25 + 8 * number),
            KINDS[number % 6],
        )
        images.append(read_digit(tmp_path / "digit.png"))
        labels.append(label)
    model = predict.load_model("mnist", predict.find_model("mnist", runs, ""))
    probabilities = model.predict(np.array(images), verbose=0)
    assert np.mean(probabilities.argmax(axis=1) == labels) > 0.6
    arguments = ["mnist", "--image", str(tmp_path / "digit.png"), "--runs", str(runs)]
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


def test_reviews_are_read_line_by_line(runs, tmp_path, capsys, monkeypatch):
    text = "good film .\n\nit was \xff dull\n"
    (tmp_path / "reviews.txt").write_bytes(text.encode("latin-1"))
    for arguments in (["--file", str(tmp_path / "reviews.txt")], []):
        monkeypatch.setattr("sys.stdin", Standard(io.BytesIO(text.encode("latin-1"))))
        assert predict.main(["imdb", "--json", "--runs", str(runs), *arguments]) == 2
        out, err = capsys.readouterr()
        results = [json.loads(line) for line in out.splitlines()]
        assert [result["line"] for result in results] == [1, 3]
        assert {result["label"] for result in results} <= {"good", "bad"}
        assert err == "error: line 2 is empty\n"
    assert predict.main(["imdb", "--runs", str(runs), "--text", "-5 $tars"]) == 0
    assert re.fullmatch(r"(good|bad) [01]\.\d{4}  -5 \$tars\n", capsys.readouterr().out)


def test_the_newest_finished_run_is_the_default(tmp_path):
    for age, name in enumerate(["newest", "older", "unfinished"]):
        folder = tmp_path / "imdb" / name
        folder.mkdir(parents=True)
        (folder / "model.keras").touch()
        if name != "unfinished":
            (folder / "metrics.json").touch()
            os.utime(folder / "metrics.json", (1e9 - age, 1e9 - age))
    os.utime(folder / "model.keras", (2e9, 2e9))
    assert predict.find_model("imdb", tmp_path, "").parent.name == "newest"
    assert predict.find_model("imdb", tmp_path, "older").parent.name == "older"
    assert predict.find_model("imdb", tmp_path, str(folder)).parent.name == "unfinished"


def test_what_goes_wrong_is_one_line(runs, tmp_path):
    (tmp_path / "damaged.keras").write_bytes(
        (runs / "imdb/run/model.keras").read_bytes()[:5000]
    )
    (tmp_path / "text.png").write_text("no image")
    Image.new("L", (30, 40), 255).save(tmp_path / "blank.png")
    Image.new("RGBA", (30, 40), 0).save(tmp_path / "clear.png")
    good = str(tmp_path / "good.png")
    draw(good, next(digits())[0], (40, 40), "dark")
    (tmp_path / "cut.png").write_bytes(pathlib.Path(good).read_bytes()[:300])
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    other.save(tmp_path / "other.keras")
    text = ["imdb", "--text", "good"]
    for arguments, message in [
        ([*text, "--run", "nope"], "no run 'nope' with a model in .*; there are run"),
        (
            [*text, "--runs", str(tmp_path)],
            "no finished run in .*train one with `make train-imdb`",
        ),
        (
            [*text, "--run", str(runs / "mnist/run")],
            "not a model of the imdb recipe: .* mnist recipe",
        ),
        ([*text, "--run", str(tmp_path / "damaged.keras")], "cannot load .*damaged"),
        ([*text, "--run", str(tmp_path / "other.keras")], "made by neither recipe"),
        (["imdb", "--text", " \n"], "the text is empty"),
        (
            ["imdb", "--file", str(tmp_path / "no.txt")],
            "cannot read .*no.txt: No such file",
        ),
        (["imdb", "--file", os.devnull], "there is no review to read"),
        (["mnist", "--image", str(tmp_path / "no.png")], "no such image"),
        (["mnist", "--image", str(tmp_path)], "cannot read the image"),
        (["mnist", "--image", str(tmp_path / "text.png")], "cannot read the image"),
        (["mnist", "--image", str(tmp_path / "cut.png")], "cannot read the image"),
        (["mnist", "--image", str(tmp_path / "blank.png")], "is blank"),
        (["mnist", "--image", str(tmp_path / "clear.png")], "is blank"),
        (["mnist", "--image", good, "--run", str(runs / "imdb/run")], "imdb recipe"),
    ]:
        defaults = [] if "--runs" in arguments else ["--runs", str(runs)]
        with pytest.raises(UserError, match=message) as raised:
            predict.main([*arguments, *defaults])
        assert "\n" not in str(raised.value)


def test_make_passes_texts_unchanged(tmp_path):
    """Through make, a shell and the environment; nothing in a text is run. Status 2 after an error."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(
        f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n"
    )
    python.chmod(0o755)
    (tmp_path / "requirements.txt").touch()
    (tmp_path / ".venv/ready").touch()
    text = """it's a "5 $ film" $(shell touch ran) `touch ran` $HOME; \\ (é"""
    for variables, expected in (
        ([f"TEXT={text}", "RUN=a b"], [f"--text={text}", "--run=a b"]),
        (["TEXT="], ["--text="]),
        ([], []),
    ):
        result = subprocess.run(
            ["make", "-s", "predict-imdb", *variables],
            cwd=tmp_path,
            env=os.environ | {"RUN": "ignored", "MAKEFLAGS": ""},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert json.loads(result.stdout) == ["-m", "recipes.predict", "imdb", *expected]
    assert not (tmp_path / "ran").exists()
