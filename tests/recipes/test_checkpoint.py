"""What is a checkpoint, and what is none."""

import copy
import io
import json

import numpy as np
import pytest

from recipes.training.checkpoint import parse_checkpoint, write_checkpoint

ROWS = [
    {
        "validation": number,
        "step": 3 * number,
        "accuracy": 0.5,
        "loss": 1.5,
        "val_accuracy": 0.25 * number,
        "val_loss": 2.5,
        "seconds": 0.125,
    }
    for number in (1, 2)
]
PROGRESS = {"rows": ROWS, "step": 6, "seconds": 0.5, "best": 0.5, "begun": {"units": 4}}
STATE = [np.ones((2, 3), "float32"), np.array(4, "int64")]


def content(progress=PROGRESS, change=None, **arrays):
    """Return the bytes of a checkpoint; ``change`` is called with the progress."""
    progress = copy.deepcopy(progress)
    if change:
        change(progress)
    arrays = {
        "progress": np.array(json.dumps(progress)),
        **{f"state_{number}": value for number, value in enumerate(STATE)},
        **{f"best_{number}": value for number, value in enumerate(STATE)},
        **arrays,
    }
    file = io.BytesIO()
    np.savez(
        file, **{name: value for name, value in arrays.items() if value is not None}
    )
    return file.getvalue()


def parse(content, check_begun=lambda begun: None):
    return parse_checkpoint(content, STATE, check_begun)


def test_what_was_written_is_read(tmp_path):
    path = tmp_path / "checkpoint.npz"
    best = [value + 1 for value in STATE]
    write_checkpoint(path, PROGRESS, STATE, best)
    progress, *states = parse(path.read_bytes())
    assert progress == PROGRESS
    for state, expected in zip(states, (STATE, best), strict=True):
        for value, array in zip(state, expected, strict=True):
            np.testing.assert_array_equal(value, array)
            assert value.dtype == array.dtype


@pytest.mark.parametrize("progress", [[], {}, None, 5, "text", [[]], {"rows": 5}])
def test_progress_that_is_none(progress):
    with pytest.raises(ValueError):
        parse(content(progress))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rows", []),
        ("rows", None),
        ("rows", [5]),
        ("rows", [[]]),
        ("rows", [{}]),
        ("rows", ROWS[:1]),
        ("rows", ROWS[1:]),
        ("rows", [ROWS[0], {**ROWS[1], "more": 1.0}]),
        ("rows", [ROWS[0], {**ROWS[1], "step": 3}]),
        ("rows", [{**ROWS[0], "step": 7}, ROWS[1]]),
        ("rows", [{**ROWS[0], "step": -3}, ROWS[1]]),
        ("rows", [{**ROWS[0], "loss": float("nan")}, ROWS[1]]),
        ("rows", [{**ROWS[0], "loss": float("inf")}, ROWS[1]]),
        ("rows", [{**ROWS[0], "accuracy": "0.5"}, ROWS[1]]),
        ("rows", [{**ROWS[0], "seconds": None}, ROWS[1]]),
        ("step", "6"),
        ("step", -1),
        ("step", 6.0),
        ("step", True),
        ("step", 5),
        ("step", 10**30),
        ("seconds", -1.0),
        ("seconds", float("nan")),
        ("seconds", "long"),
        ("best", None),
        ("best", float("nan")),
        ("best", -0.5),
        ("best", 0.25),
    ],
)
def test_progress_of_no_run(key, value):
    def change(progress):
        progress[key] = value

    with pytest.raises(ValueError):
        parse(content(change=change))


@pytest.mark.parametrize("name", ["state_0", "best_1"])
@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.astype("float64"),
        lambda value: value.astype("float16"),
        lambda value: value.astype("complex64"),
        lambda value: value.astype("S4"),
        lambda value: value.astype(object),
        lambda value: value[None],
        lambda value: None,
    ],
)
def test_a_state_of_another_model(name, change):
    number = int(name[-1])
    assert parse(content(**{name: STATE[number]}))
    with pytest.raises(ValueError):
        parse(content(**{name: change(STATE[number])}))


def test_a_larger_model():
    with pytest.raises(ValueError):
        parse(content(state_2=STATE[0], best_2=STATE[0]))


def test_what_the_run_began_with_is_looked_at_first():
    """It explains why the rest is of another model."""
    seen = []

    def check(begun):
        seen.append(begun)
        raise LookupError

    for progress, begun in (
        (PROGRESS, {"units": 4}),
        ({**PROGRESS, "begun": None, "rows": [{}]}, None),
    ):
        with pytest.raises(LookupError):
            parse(content(progress, state_0=None), check)
        assert seen.pop() == begun
