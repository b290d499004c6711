"""The diagrams of the cells are those of their description, and of the cells."""

import importlib.util
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


def test_the_clockwork_ticks_as_its_layer():
    periods = LAYERS["clockwork"](8).periods
    ticks = sum(t % T == 0 for T in periods for t in range(9))
    blocks = len(periods) * (len(periods) + 1) // 2
    assert diagrams.draw("clockwork").count('class="on"') == ticks + blocks
