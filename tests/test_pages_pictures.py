"""The pictures of runs in the pages: small copies of those of finished runs."""

import importlib
import pathlib
import subprocess
import types

import numpy as np
import pytest
from PIL import Image

from recipes import imdb, mnist
from recipes.run.command_line import parse

ROOT = pathlib.Path(__file__).parent.parent
SHOWN = {"mnist": ["gates", "curves", "confusion"], "imdb": ["gates", "curves"]}
RNG = np.random.default_rng(1)


@pytest.fixture
def pictures(monkeypatch):
    """The program that makes them, as a module."""
    monkeypatch.syspath_prepend(ROOT / "docs")
    return importlib.import_module("pictures")


def finish(folder, recipe):
    """Leave what a finished run does: pictures, each of eight random colours."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in SHOWN[recipe]:
        colours = RNG.integers(0, 256, (8, 3), dtype="uint8")
        pixels = colours[RNG.integers(0, 8, (60, 80))]
        Image.fromarray(pixels).save(folder / f"{name}.png")
    (folder / "metrics.json").touch()


@pytest.fixture
def commands(pictures, monkeypatch):
    """What was run, as lists of arguments; nothing is trained."""
    called = []

    def run(command, cwd):
        assert cwd == ROOT and command[1:3] == ["-m", "recipes"]
        called.append(command[3:])
        return types.SimpleNamespace(returncode=3)

    monkeypatch.setattr(subprocess, "run", run)
    return called


def test_finished_runs_are_copied_and_not_trained_again(pictures, commands, tmp_path):
    runs, images = tmp_path / "runs", tmp_path / "images"
    images.mkdir()
    for recipe in SHOWN:
        finish(runs / recipe / "pictures", recipe)
    pictures.make(runs, images)
    assert not commands
    names = {f"{name}-{recipe}.png" for recipe in SHOWN for name in SHOWN[recipe]}
    assert {path.name for path in images.iterdir()} == names
    for name in names:
        picture, recipe = pathlib.Path(name).stem.split("-")
        with (
            Image.open(runs / recipe / "pictures" / f"{picture}.png") as drawn,
            Image.open(images / name) as copied,
        ):
            np.testing.assert_array_equal(copied.convert("RGB"), drawn)


@pytest.mark.parametrize("program", [mnist.PROGRAM, imdb.PROGRAM])
def test_a_run_that_is_missing_is_trained(program, pictures, commands, tmp_path):
    """With the default choices, on the real data; a failure's status is handed on."""
    with pytest.raises(SystemExit, match="3"):
        pictures.train(program.recipe, tmp_path)
    ((recipe, *flags),) = commands
    assert recipe == program.recipe
    default = vars(program.presets["modern"])
    chosen = {"runs": str(tmp_path), "name": "pictures", "data": "full"}
    assert vars(parse("", program.presets, "", flags)) == default | chosen


def test_an_interrupted_run_is_resumed(pictures, commands, tmp_path):
    folder = tmp_path / "mnist" / "pictures"
    folder.mkdir(parents=True)
    with pytest.raises(SystemExit, match="3"):
        pictures.train("mnist", tmp_path)
    assert commands == [["resume", f"--run={folder}"]]


def test_a_picture_that_stays_large_is_refused(pictures, tmp_path):
    noise = RNG.integers(0, 256, (500, 500, 3), dtype="uint8")
    Image.fromarray(noise).save(tmp_path / "noise.png")
    with pytest.raises(SystemExit, match=r"large\.png would have \d+,\d+ bytes"):
        pictures.copy(tmp_path / "noise.png", tmp_path / "large.png")
    assert not (tmp_path / "large.png").exists()


def test_a_run_without_a_picture_is_one_line(pictures, tmp_path):
    with pytest.raises(SystemExit, match=r"^error: cannot copy .*gates\.png: No such"):
        pictures.copy(tmp_path / "gates.png", tmp_path / "copy.png")


@pytest.mark.parametrize("recipe", SHOWN)
def test_pictures_of_the_pages_are_small_and_wide(recipe, pictures):
    for name in SHOWN[recipe]:
        path = pictures.IMAGES / f"{name}-{recipe}.png"
        assert path.stat().st_size <= 150_000
        with Image.open(path) as image:
            assert 700 <= image.width <= 1000
