"""The playground: what is behind its page, and the page in a browser."""

import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import types

import numpy as np
import pytest
from PIL import Image, ImageDraw

from recipes import demo
from recipes.run.command_line import UserError
from recipes.run.folder import RunFolder

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def seven():
    """A drawing of a 7, dark on white."""
    image = Image.new("L", (280, 280), 255)
    line = [(80, 60), (200, 60), (130, 230)]
    ImageDraw.Draw(image).line(line, fill=0, width=20, joint="curve")
    return np.asarray(image)


def load(runs, recipe):
    (name,) = demo.finished_runs(runs, recipe)
    return demo.Models(recipe, runs).load(name)


def test_the_last_row_gives_what_the_model_answers(finished_runs, seven):
    path, model = load(finished_runs, "mnist")
    image = demo.digit_of(seven)
    reading = demo.read_drawing(model, path, image)
    assert reading.probabilities.shape == (28, 10)
    (expected,) = model.predict_on_batch(image[None])
    np.testing.assert_allclose(reading.probabilities[-1], expected, atol=1e-5)


def test_a_row_says_what_the_rows_before_it_say(finished_runs, seven):
    """What comes after it does not count."""
    path, model = load(finished_runs, "mnist")
    image = demo.digit_of(seven)
    cut = np.where(np.arange(28)[:, None] < 12, image, 1.0).astype("float32")
    whole, other = (
        demo.read_drawing(model, path, it).probabilities for it in (image, cut)
    )
    np.testing.assert_allclose(whole[:12], other[:12], atol=1e-6)
    assert not np.allclose(whole[12:], other[12:])


def test_the_picture_changes_with_the_row(finished_runs, seven):
    path, model = load(finished_runs, "mnist")
    reading = demo.read_drawing(model, path, demo.digit_of(seven))
    first, last = (demo.drawn(demo.draw_rows, reading, row) for row in (1, 28))
    assert first.shape == last.shape
    assert (first != last).any()


@pytest.mark.parametrize("drawing", [None, np.full((280, 280), 255, "uint8")])
def test_an_empty_drawing_is_a_sentence(drawing):
    with pytest.raises(UserError, match="Nothing is drawn yet"):
        demo.digit_of(drawing)


def test_the_last_word_gives_what_the_model_answers(finished_runs):
    path, model = load(finished_runs, "imdb")
    reading, _, traces = demo.read_review(model, path, demo.EXAMPLE)
    assert len(reading.probabilities) == len(reading.words) + 1
    assert {len(values) for values in traces.values()} == {len(reading.words)}
    page = demo.words_as_html(reading)
    assert all(f">{word}</span>" in page for word in reading.words)


def test_a_review_is_text_and_never_html(finished_runs):
    path, model = load(finished_runs, "imdb")
    reading, *_ = demo.read_review(model, path, "<script>alert(1)</script> good")
    assert "<script>" not in demo.words_as_html(reading)


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("", "no word to read"),
        (" \n ", "no word to read"),
        (None, "no word to read"),
        ("é" * 2**19 + "x", "at most 1,048,576 bytes are read, it has 1,048,577"),
    ],
)
def test_a_text_that_cannot_be_read_is_a_sentence(text, sentence, finished_runs):
    path, model = load(finished_runs, "imdb")
    with pytest.raises(UserError, match=sentence):
        demo.read_review(model, path, text)


def test_a_damaged_run_is_a_sentence(finished_runs, tmp_path):
    runs = shutil.copytree(finished_runs, tmp_path / "runs")
    (name,) = demo.finished_runs(runs, "mnist")
    RunFolder(name).model.write_bytes(b"no model")
    with pytest.raises(UserError, match="it is damaged or no model"):
        demo.Models("mnist", runs).load(name)


def test_a_path_outside_the_runs_is_not_loaded(finished_runs, tmp_path):
    (name,) = demo.finished_runs(finished_runs, "mnist")
    with pytest.raises(UserError, match="no finished run"):
        demo.Models("mnist", tmp_path).load(name)


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_out_of_bounds_is_an_error(port):
    with pytest.raises(UserError, match="--port must be an integer from 0 to 65,535"):
        demo.check_port(port)


def test_a_port_that_is_taken_is_an_error():
    with socket.socket() as taken:
        taken.bind((demo.HOST, 0))
        taken.listen()
        with pytest.raises(UserError, match="Address already in use; choose another"):
            demo.check_port(taken.getsockname()[1])


def pretend_to_train(monkeypatch, tmp_path, script):
    """Let a shell script take the place of Python where the page starts a training."""
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    monkeypatch.setattr(demo, "sys", types.SimpleNamespace(executable=str(python)))


def test_training_tells_each_pass_once(monkeypatch, tmp_path):
    lines = r"Epoch 1/4\n 1/9 [=\r 9/9 [==\n\nEpoch 2/4\n 9/9 [==\n"
    pretend_to_train(monkeypatch, tmp_path, f'printf "{lines}"; echo "$@" >&2')
    assert list(demo.train_on_sample("mnist", str(tmp_path))) == [
        (0.0, "pass 1 of 4 over the sample"),
        (0.25, "pass 2 of 4 over the sample"),
    ]


def test_training_that_fails_is_a_sentence(monkeypatch, tmp_path):
    pretend_to_train(monkeypatch, tmp_path, 'echo "error: no space left"; exit 2')
    with pytest.raises(UserError, match="Training failed: error: no space left"):
        list(demo.train_on_sample("mnist", str(tmp_path)))


def test_training_that_nobody_waits_for_ends(monkeypatch, tmp_path):
    ended = tmp_path / "ended"
    script = f"trap 'touch {ended}; exit' TERM; echo Epoch 1/2; while :; do :; done"
    pretend_to_train(monkeypatch, tmp_path, script)
    training = demo.train_on_sample("mnist", str(tmp_path))
    next(training)
    training.close()
    assert ended.exists()


@contextlib.contextmanager
def serve(runs):
    """Serve the page in another process; give its address."""
    pytest.importorskip("gradio", reason="`make demo` installs gradio")
    command = [sys.executable, "-m", "recipes", "demo", "--port", "0"]
    with subprocess.Popen(
        [*command, "--runs", str(runs)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONWARNINGS": "default"},
    ) as process:
        try:
            yield process.stdout.readline().split()[1]
        finally:
            process.terminate()


@contextlib.contextmanager
def browse(address):
    """Open the page in Chromium; no other host may be asked for anything."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is missing")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("there is no Chromium")
    requested = []
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox"]
        )
        page = browser.new_page()
        page.set_default_timeout(60_000)
        page.on("request", lambda request: requested.append(request.url))
        page.goto(address)
        yield page
        assert "Traceback" not in page.content()
        browser.close()
    local = (address, "data:", "blob:")
    assert requested
    assert [url for url in requested if not url.startswith(local)] == []


def draw_a_seven(page):
    page.get_by_label("Brush", exact=True).wait_for()
    page.wait_for_timeout(1000)
    box = page.locator("canvas").last.bounding_box()
    points = [
        (box["x"] + x * box["width"], box["y"] + y * box["height"])
        for x, y in [(0.4, 0.25), (0.6, 0.25), (0.5, 0.8)]
    ]
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point, steps=10)
    page.mouse.up()


def test_the_page_in_a_browser(finished_runs):
    """It draws, moves the slider, types."""
    with serve(finished_runs) as address, browse(address) as page:
        page.get_by_text("Nothing is drawn yet").wait_for()
        draw_a_seven(page)
        answers = page.get_by_test_id("label-output-value")
        answers.first.wait_for()
        assert answers.first.inner_text().strip() in set("0123456789")
        gates = page.locator("img").first
        before = gates.get_attribute("src")
        page.get_by_role("slider").first.fill("3")
        page.wait_for_function(
            "before => document.querySelector('img').src !== before", arg=before
        )
        assert answers.locator("visible=true").count() == 1
        page.get_by_role("tab", name="Review").click()
        text = page.get_by_label("A review", exact=True)
        text.fill("A superb film")
        page.get_by_role("button", name="Read it").click()
        page.get_by_text("probability of good").wait_for()
        words = page.locator("span[style*=rgba][title]")
        words.nth(3).wait_for(state="detached")  # those of the page's first review
        assert words.all_inner_texts() == ["A", "superb", "film"]
        text.fill("")
        page.get_by_role("button", name="Read it").click()
        page.get_by_text("There is no word to read yet").wait_for()


def test_the_button_trains_and_two_runs_stand_side_by_side(tmp_path):
    with serve(tmp_path) as address, browse(address) as page:
        page.set_default_timeout(180_000)
        button = page.get_by_role("button", name="Train one on the sample").first
        button.click()
        page.get_by_text("over the sample").first.wait_for()
        button.wait_for(state="hidden")
        (trained,) = demo.finished_runs(tmp_path, "mnist")
        shutil.copytree(trained, f"{trained}-again")
        page.reload()
        page.get_by_label("A second run beside it").first.click()
        page.get_by_role("option").last.click()
        draw_a_seven(page)
        answers = page.get_by_test_id("label-output-value")
        answers.nth(1).wait_for()
        first, second = (answers.nth(number) for number in range(2))
        assert first.inner_text() == second.inner_text()
        assert first.bounding_box()["y"] == second.bounding_box()["y"]
