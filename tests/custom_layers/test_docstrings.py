"""The equations of a docstring are those of the code, line by line."""

import inspect
import pathlib
import re

import pytest
from cells import OURS

CELLS = [layer.cell_class for layer in OURS.values()]
CELLS = [cell for cell in CELLS if "equations" in vars(cell)]

#: How the paper's notation stands in code.
NOTATION = {
    r"W_(\w) x( \+ U_\1 h⁻)? \+ b_\1": r"z.\1",
    r"\bp_(\w)": r"p.\1",
    r"\b([qr]) ⊙": r"p.\1 ⊙",
    r"\b(clip|norm)\(": r"p.\1(",
    r"⊙": "*",
    r"−": "-",
    r"⁻": "",
    r"t mod T = 0": "ops.repeat(p.clock.read(clock) == 0, p.module_units, axis=-1)",
    r"\bwhere": "ops.where",
}


PAGE = pathlib.Path(__file__).parents[2] / "docs" / "cells.md"


def lines(text):
    return [line.strip() for line in text.splitlines() if re.match(r"\s+\w+ = ", line)]


@pytest.mark.parametrize("cell", CELLS)
def test_docstring_and_code_have_the_same_equations(cell):
    documented = "\n".join(lines(cell.__doc__.split("Args:")[0]))
    for pattern, code in NOTATION.items():
        documented = re.sub(pattern, code, documented)
    assert documented.splitlines() == lines(inspect.getsource(cell.equations))


@pytest.mark.parametrize("cell", CELLS)
def test_docstring_and_page_have_the_same_equations(cell):
    documented = "\n".join(lines(cell.__doc__.split("Args:")[0]))
    assert f"```text\n{documented}\n```" in PAGE.read_text("utf-8")


def test_there_are_cells_to_compare():
    assert len(CELLS) == 4
