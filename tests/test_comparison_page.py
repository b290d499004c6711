"""The page of the comparison: its tables and pictures are those of its results."""

import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from recipes.comparison.cells import CELLS
from recipes.comparison.plots import draw_gradients, draw_results
from recipes.comparison.table import make_overview, make_page
from recipes.comparison.tasks.registry import DEFAULT_TASKS, TASKS

ROOT = pathlib.Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "comparison"
DRAWN = {"results.png": draw_results, "gradient.png": draw_gradients}


@pytest.fixture
def results():
    return json.loads((FOLDER / "results.json").read_text())


def test_results_are_those_of_the_command_without_flags(results):
    """Every cell on every task that it takes by default, with five seeds."""
    found = {(it["task"], it["cell"], it["seed"]) for it in results}
    assert len(found) == len(results)
    assert found == {
        (task, cell, seed)
        for task in DEFAULT_TASKS
        for cell in CELLS
        for seed in range(1, 6)
    }
    for it in results:
        assert it["effort"] == 1 and it["warning"] is None
        assert it["parameters"] == TASKS[it["task"]].defaults.parameters


def test_what_is_observed_changes_nothing(results):
    """The task `gradient` trains as the adding problem does, in other processes."""
    figures = {
        task: {
            (it["cell"], it["seed"]): it["figures"]
            for it in results
            if it["task"] == task
        }
        for task in ("gradient", "adding-50")
    }
    assert figures["gradient"] == figures["adding-50"]


def test_tables_are_made_from_the_results(results):
    assert (FOLDER / "results.md").read_text() == make_page(results)
    overview = make_overview(results)
    assert overview in (ROOT / "README.md").read_text()
    results[0]["figures"][TASKS[results[0]["task"]].metric] += 1  # a planted mistake
    assert make_overview(results) != overview


def changed(name, results, folder):
    """Return which part of the pixels of a committed picture is not drawn now."""
    DRAWN[name](folder / "now.png", results)
    with Image.open(folder / "now.png") as now, Image.open(FOLDER / name) as shown:
        assert now.size == shown.size
        now, shown = (np.asarray(it.convert("L"), "int16") for it in (now, shown))
    return np.mean(np.abs(now - shown) > 64)


@pytest.mark.parametrize("name", DRAWN)
def test_pictures_are_drawn_from_the_results(name, results, tmp_path):
    """Pixel by pixel, but for a few that another version of Matplotlib may change."""
    assert changed(name, results, tmp_path) < 2e-5


def test_a_single_figure_that_is_wrong_changes_the_picture(results, tmp_path):
    it = next(
        it for it in results if (it["task"], it["cell"]) == ("mnist-rows", "lstm")
    )
    it["figures"]["accuracy"] += 0.005
    assert changed("results.png", results, tmp_path) > 2e-5
