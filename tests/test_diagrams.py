"""The diagrams of the cells are those of their description, and of the cells."""

import importlib.util
import itertools
import pathlib
import re

import pytest

from custom_layers import LAYERS

ROOT = pathlib.Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location("diagrams", ROOT / "docs/diagrams.py")
diagrams = importlib.util.module_from_spec(spec)
spec.loader.exec_module(diagrams)

#: What Keras's cells have no attributes for.
STOCK = {"lstm": ({"i", "f", "g", "o"}, 0), "gru": ({"r", "z", "g"}, 0)}


def expected(name):
    """Return the gates of a cell, and the number of its dashed lines."""
    if name in STOCK:
        return STOCK[name]
    cell = LAYERS[name](4).cell
    gates = {*cell.gates, *cell.input_gates}
    return gates, len(cell.peepholes) + len(cell.vectors)


@pytest.mark.parametrize("name", diagrams.DIAGRAMS)
def test_the_committed_file_is_what_the_script_draws(name):
    assert (diagrams.IMAGES / f"{name}.svg").read_text("utf-8") == diagrams.draw(name)


@pytest.mark.parametrize("name", [n for n in diagrams.DIAGRAMS if n != "clockwork"])
def test_a_diagram_has_the_gates_and_peepholes_of_its_cell(name):
    gates, dashed = expected(name)
    svg = diagrams.draw(name)
    assert set(re.findall(r'class="gate"[^>]*>(\w)<', svg)) == gates
    assert svg.count('<path class="peephole" ') == dashed


@pytest.mark.parametrize("name", diagrams.DIAGRAMS)
def test_no_line_runs_through_the_letter_of_a_gate(name):
    svg = diagrams.draw(name)
    letters = re.findall(r'class="gate" x="(\d+)" y="(\d+)">(\w)<', svg)
    assert bool(letters) == (name != "clockwork")
    for x, y, letter in letters:
        for path in re.findall(r'<path class="(?:\w*)" d="M([\d L]+)"', svg):
            points = [tuple(map(int, point.split())) for point in path.split("L")]
            for (x1, y1), (x2, y2) in itertools.pairwise(points):
                beside = max(x1, x2) < int(x) - 7 or min(x1, x2) > int(x) + 7
                apart = max(y1, y2) < int(y) - 13 or min(y1, y2) > int(y) + 4
                assert beside or apart, f"{letter}: ({x1}, {y1}) to ({x2}, {y2})"


def test_the_clockwork_ticks_as_its_layer():
    periods = LAYERS["clockwork"](8).periods
    ticks = sum(t % T == 0 for T in periods for t in range(9))
    blocks = len(periods) * (len(periods) + 1) // 2
    assert diagrams.draw("clockwork").count('class="on"') == ticks + blocks
