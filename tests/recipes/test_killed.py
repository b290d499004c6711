"""Runs that are killed, interrupted or short of disk end as if undisturbed."""

import os
import random
import shutil
import signal
import time

import keras
import pytest
from killable import (
    assert_equal,
    folder_of,
    modified,
    read,
    resume_again,
    start,
    stop_after_two_validations,
)

# In one process: one fork server, and one run of each scenario that was never stopped.
pytestmark = [
    pytest.mark.xdist_group("killable"),
    pytest.mark.usefixtures("fork_server"),
]

KILLS = {
    "mnist-classic": 10,
    "mnist-weight-drop": 5,
    "imdb-classic": 4,
    "imdb-modern": 3,
}


def minibatch_lines(parent):
    """Return what the article's program reports, by step."""
    lines = (parent / "log").read_text().splitlines()
    return {tuple(line.split(": ", 1)) for line in lines if line.startswith("Iter ")}


def kill_again_and_again(scenario, parent, kills, expected):
    """Start a run, kill it at random moments, and let it end; again if it ends."""
    rng, run = random.Random(scenario), folder_of(scenario, parent)
    while kills:
        begun = run.manifest.exists()
        how = rng.choice(["time", "saving", "file"])
        trap = None
        if how == "file":  # exactly between two operations on files
            trap = ("kill", None, rng.randint(1, 9), rng.choice(["before", "after"]))
        trainer = (resume_again if begun else start)(scenario, parent, trap)
        if how == "time":  # anywhere, starting up included
            time.sleep(rng.uniform(0, 2))
        if how == "saving":  # anywhere in the first interval after one that was saved
            before = modified(run.checkpoint)
            trainer.wait_for(lambda before=before: modified(run.checkpoint) != before)
            time.sleep(rng.uniform(0, 0.2))
        status = trainer.wait() if trap else trainer.kill()
        if status == 0:
            assert_equal(read(run), expected)
            shutil.rmtree(run.path)
        else:
            assert status == -signal.SIGKILL, trainer.errors()
            kills -= 1
    if not run.manifest.exists():
        start(scenario, parent, ("kill", "checkpoint.npz", 3, "before")).wait()
    assert resume_again(scenario, parent).wait() == 0
    assert_equal(read(run), expected)


@pytest.mark.parametrize("scenario", KILLS)
def test_killed_at_random_moments(scenario, never_stopped, tmp_path):
    """22 kills over four programs."""
    assert sum(KILLS.values()) >= 20
    expected = read(never_stopped[scenario])
    kill_again_and_again(scenario, tmp_path, KILLS[scenario], expected)
    if scenario == "mnist-classic":
        lines = minibatch_lines(never_stopped.parent / scenario)
        assert len(lines) == 16
        assert minibatch_lines(tmp_path) == lines


def test_ctrl_c(never_stopped, tmp_path):
    scenario = "mnist-weight-drop"
    run = folder_of(scenario, tmp_path)
    trap = ("interrupt soon", "checkpoint.npz", 2, "after")
    trainer = start(scenario, tmp_path, trap)
    assert trainer.wait() == 130
    printed = (tmp_path / "log").read_text().splitlines()
    assert printed[-2:] == [
        f"Interrupted. The best model so far: {run.model}",
        f"To resume: make resume RUN={run}",
    ]
    assert "Traceback" not in trainer.errors()
    keras.saving.load_model(run.model)
    assert resume_again(scenario, tmp_path).wait() == 0
    assert_equal(read(run), read(never_stopped[scenario]))


def test_ctrl_c_twice(tmp_path):
    scenario = "mnist-classic"
    trap = ("interrupt twice", "checkpoint.npz", 1, "after")
    trainer = start(scenario, tmp_path, trap)
    assert trainer.wait() == -signal.SIGINT
    assert "Traceback" not in trainer.errors()
    assert folder_of(scenario, tmp_path).checkpoint.exists()


def test_a_full_disk(never_stopped, tmp_path):
    """A limit on the size of files stands for it; a history of 3,000 bytes fits."""
    scenario = "mnist-weight-drop"
    run = stop_after_two_validations(tmp_path)
    for count in (1, 5):  # while it is resumed; in the fourth interval after that
        kept = run.checkpoint.read_bytes()
        trap = ("fill the disk", "history.csv", count, "after")
        trainer = resume_again(scenario, tmp_path, trap)
        assert trainer.wait() == 2
        line = trainer.errors().splitlines()[-1]
        assert line.startswith(f"error: cannot write in {run}: File too large; ")
        assert line.endswith(f": make resume RUN={run}")
        assert not list(run.path.glob("unfinished-*"))
        assert (count == 1) == (run.checkpoint.read_bytes() == kept)
    assert len(trainer.errors().splitlines()) == 2
    assert resume_again(scenario, tmp_path).wait() == 0
    assert_equal(read(run), read(never_stopped[scenario]))


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_while_the_metrics_are_written(when, never_stopped, tmp_path):
    scenario = "mnist-weight-drop"
    run = folder_of(scenario, tmp_path)
    trainer = start(scenario, tmp_path, ("kill", "metrics.json", 1, when))
    assert trainer.wait() == -signal.SIGKILL, trainer.errors()
    assert run.checkpoint.exists()
    assert resume_again(scenario, tmp_path).wait() == 0
    last = (tmp_path / "log").read_text().splitlines()[-1]
    assert (last == f"The run {run} is finished: there is nothing to do.") == (
        when == "after"
    )
    assert_equal(read(run), read(never_stopped[scenario]))


def test_killed_before_the_folder_has_its_name(tmp_path):
    """The folder that is left has no name yet, and is no run."""
    trainer = start("mnist-classic", tmp_path, ("kill", "config.json", 1, "after"))
    assert trainer.wait() == -signal.SIGKILL, trainer.errors()
    (left,) = (tmp_path / "mnist").iterdir()
    assert left.name.startswith(".new-")


def test_these_tests_share_one_process(request):
    """With pytest 9.2.0 and pytest-xdist 3.8.0 they would not."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        pytest.skip("all tests share this process")
    assert request.node.nodeid.endswith("@killable")
