"""Output that is closed, on a full disk, or read by nobody."""

import errno
import io
import json
import os
import pathlib
import subprocess
import sys

import keras
import pytest
from digit_files import digits, draw
from killable import assert_equal, folder_of, read, stop_after_two_validations

from recipes.run import output
from recipes.run.folder import RunFolder

ROOT = pathlib.Path(__file__).parents[2]
CLOSED, FULL, UNREAD = ">&-", ">/dev/full", "| true"
WAYS = [CLOSED, FULL, UNREAD]
REASONS = {CLOSED: "it is closed", FULL: os.strerror(errno.ENOSPC)}


def shell(arguments, redirected, unbuffered=False):
    """Run ``python -m …`` in bash; return its status and standard error."""
    status = "${PIPESTATUS[0]}" if "|" in redirected else "$?"
    result = subprocess.run(
        ["bash", "-c", f'"$@" {redirected}; exit {status}', "bash"]
        + [sys.executable, "-m", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | ({"PYTHONUNBUFFERED": "1"} if unbuffered else {}),
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
    )
    return result.returncode, result.stderr


def assert_refused(arguments, way, unbuffered=False):
    """Assert that a program says in one line that its output is lost."""
    line = f"error: cannot write to standard output: {REASONS.get(way)}\n"
    expected = (141, "") if way == UNREAD else (2, line)
    assert shell(arguments, way, unbuffered) == expected
    # Where nothing can be said, the status alone says it.
    for silent in ("2>&-", "2>/dev/full"):
        result = shell(arguments, f"{silent} {way}", unbuffered)
        assert result == (expected[0], "")


@pytest.mark.parametrize("unbuffered", [False, True])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("arguments", [["runs", "--runs", "nowhere"], ["--help"]])
def test_a_table_and_help_are_to_be_read(arguments, way, unbuffered):
    """Argparse ignores errors of ``print``; the program does not."""
    assert_refused(["recipes", *arguments], way, unbuffered)


@pytest.mark.parametrize("module", ["recipes", "recipes.runs"])
@pytest.mark.parametrize("errors", ["2>&-", "2>/dev/full", "2>&- <&-"])
def test_standard_error_is_not_needed(errors, module):
    arguments = [module, *(["runs"] if module == "recipes" else []), "--runs"]
    assert shell([*arguments, "nowhere"], f"{errors} >/dev/null") == (0, "")
    assert shell([*arguments], f"{errors} >/dev/null") == (2, "")


@pytest.mark.parametrize("way", [FULL, UNREAD])
def test_an_answer_is_to_be_read(way, finished_runs, tmp_path):
    draw(tmp_path / "digit.png", next(digits())[0], (40, 40), "dark")
    arguments = ["recipes", "predict", "mnist", "--image", tmp_path / "digit.png"]
    arguments += ["--runs", finished_runs, "--run", "run"]
    status, line = shell(arguments, way)
    assert status == (141 if way == UNREAD else 2)
    assert line.count("\n") == (way != UNREAD)
    assert REASONS.get(way, "") in line


TRAIN = "recipes mnist --data sample --cell simple-rnn --units 4 --steps 4 --save-every"
TRAIN = [*TRAIN.split(), "2", "--name", "run", "--runs"]


@pytest.fixture(scope="module")
def read_by_all(tmp_path_factory):
    """What a run leaves whose output is read."""
    parent = tmp_path_factory.mktemp("read")
    assert shell([*TRAIN, parent], ">/dev/null") == (0, "")
    return read(RunFolder(parent / "mnist/run"))


@pytest.mark.parametrize(
    ("redirected", "target"),
    [(f"{FULL} 2>/dev/full", 0), ("| head -1 >/dev/null", 0), (">&- 2>&- <&-", 1)],
)
def test_training_needs_no_reader(redirected, target, read_by_all, tmp_path):
    """Nor does a file take the place of what is closed, and what is written to it.

    A target that is missed is the status all the same.
    """
    arguments = [*TRAIN, tmp_path, "--target", target]
    assert shell(arguments, redirected, unbuffered=True) == (target, "")
    folder = RunFolder(tmp_path / "mnist/run")
    found = read(folder)
    found["metrics"]["config"] = read_by_all["metrics"]["config"]
    assert_equal(found, read_by_all)
    json.loads(folder.manifest.read_text())
    keras.saving.load_model(folder.model)


@pytest.mark.xdist_group("killable")
@pytest.mark.usefixtures("fork_server")
def test_a_resumed_run_needs_no_reader(never_stopped, tmp_path):
    scenario = "mnist-weight-drop"
    run = stop_after_two_validations(tmp_path)
    assert run.path == folder_of(scenario, tmp_path).path
    found = shell(["recipes", "resume", "--run", run], f"{FULL} 2>&-")
    assert found == (0, "")
    assert_equal(read(run), read(never_stopped[scenario]))


class Failing(io.StringIO):
    """A stream that takes nothing while it is full."""

    full = True

    def write(self, text):
        if self.full:
            raise OSError(errno.ENOSPC, "full")
        return super().write(text)


def test_what_a_full_disk_drops_is_all_that_is_lost(monkeypatch):
    stream = Failing()
    monkeypatch.setattr(sys, "stdout", stream)
    with output.guarded("stdout", needed=False):
        print("lost")
        stream.full = False
        print("kept")
    assert sys.stdout is stream
    assert "kept" in stream.getvalue()
    assert "lost" not in stream.getvalue()


def test_an_error_counts_more_than_lost_output(tmp_path):
    with open("/dev/full", "w") as full, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", full)
        with pytest.raises(ZeroDivisionError), output.guarded("stdout", needed=True):
            print("lost")
            raise ZeroDivisionError
        print("nor is it an error later", flush=True)


def test_a_letter_that_the_terminal_does_not_have(monkeypatch):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    with output.guarded("stdout", needed=True):
        print("naïve")
    assert terminal.buffer.getvalue() == b"na\\xefve\n"
