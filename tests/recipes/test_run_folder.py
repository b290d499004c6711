"""A run's folder: its name, its lock, its events, and what killed processes left."""

import concurrent.futures
import csv
import dataclasses
import os
import pathlib
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from recipes import mnist, resume
from recipes.run.command_line import UserError
from recipes.run.folder import Run, RunFolder, find_runs, lock, reopen


def new_run(**choices):
    """Return an MNIST run without a folder."""
    return Run("mnist", dataclasses.replace(mnist.PRESETS["modern"], **choices))


def make_run(**choices):
    """Create the folder of an MNIST run, on which no process works; return its path."""
    run = new_run(**choices)
    try:
        run.make_folder("sample", "a kernel")
    finally:
        run.lock.close()
    return run.folder.path


@pytest.mark.usefixtures("quick")
def test_a_run_never_uses_an_existing_folder(tmp_path):
    arguments = "--data sample --cell simple-rnn --units 4 --steps 1".split()
    arguments += ["--runs", str(tmp_path)]
    existing = tmp_path / "mnist" / "simple-rnn-modern-1"
    existing.mkdir(parents=True)
    mnist.main(arguments)
    assert not list(existing.iterdir())
    assert RunFolder(tmp_path / "mnist" / "simple-rnn-modern-1-2").model.exists()
    with pytest.raises(UserError, match="simple-rnn-modern-1 exists"):
        mnist.main([*arguments, "--name", "simple-rnn-modern-1"])


def test_runs_started_at_the_same_moment(tmp_path):
    """Sixteen threads, each with a file of its own to lock, race for the same name."""
    barrier = threading.Barrier(16)
    runs = [new_run(runs=str(tmp_path)) for _ in range(16)]

    def make(run):
        barrier.wait()
        run.make_folder("sample", "a kernel")

    with concurrent.futures.ThreadPoolExecutor(16) as threads:
        list(threads.map(make, runs))
    paths = {run.folder.path for run in runs}
    assert len(paths) == 16
    assert paths == set((tmp_path / "mnist").iterdir())
    for run in runs:
        assert run.folder.manifest.exists()
        run.lock.close()


def test_folders_that_killed_runs_left_are_removed(tmp_path):
    """Those that are old and unlocked; the others may take their names yet."""
    parent = tmp_path / "mnist"
    hours = {"old": 2, "empty": 2, "locked": 2, "young": 0.9, "future": -2}
    for name, age in hours.items():
        folder = RunFolder(parent / f".new-{name}")
        folder.path.mkdir(parents=True)
        if name != "empty":
            folder.manifest.write_text("{}")
        os.utime(folder.path, (time.time() - 3600 * age,) * 2)
    assert find_runs(tmp_path) == []
    with lock(RunFolder(parent / ".new-locked").manifest):
        make_run(runs=str(tmp_path))
    left = {".new-locked", ".new-young", ".new-future", "lstm-modern-1"}
    assert {path.name for path in parent.iterdir()} == left


@pytest.mark.usefixtures("quick")
def test_events_are_the_figures_of_the_history(tmp_path):
    arguments = "--data sample --units 4 --steps 4 --save-every 2".split()
    arguments += ["--runs", str(tmp_path / "runs"), "--logdir", str(tmp_path / "logs")]
    mnist.main(arguments)
    (path,) = (tmp_path / "logs" / "mnist" / "lstm-modern-1").iterdir()
    assert ".tfevents." in path.name
    events = [
        tf.compat.v1.Event.FromString(record.numpy())
        for record in tf.data.TFRecordDataset(str(path))
    ]
    found = {
        (event.step, value.tag): value
        for event in events
        for value in event.summary.value
    }
    names = ["accuracy", "loss", "val_accuracy", "val_loss"]
    assert sorted(found) == [(step, name) for step in (2, 4) for name in names]
    with open(RunFolder(tmp_path / "runs/mnist/lstm-modern-1").history) as file:
        for row in csv.DictReader(file):
            for name in names:
                logged = tf.make_ndarray(found[int(row["step"]), name].tensor)
                np.testing.assert_allclose(logged, float(row[name]), rtol=1e-6)


FULL_DISK = """
import resource, sys
import keras
from recipes.training.events import EventLog
log = EventLog(sys.argv[1])
log.set_model(keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]))
log.model.compile("sgd")
size = int(sys.argv[2])
try:
    if not size:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    log.on_train_begin()
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    for epoch in range(99):
        log.on_epoch_end(epoch, {"loss": 1.0})
except OSError as error:
    print(error)
"""


@pytest.mark.parametrize("size", [0, 200])
def test_events_on_a_full_disk_are_one_line(size, tmp_path):
    """While the file is opened, or later. Nothing of TensorFlow's inside is shown."""
    result = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path), str(size)],
        cwd=pathlib.Path(__file__).parents[2],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    line = f"cannot write events to {tmp_path}: File too large\n"
    assert (result.returncode, result.stdout) == (0, line)
    assert str(tmp_path) not in result.stderr


def test_runs_elsewhere_with_the_same_logdir(tmp_path):
    """Each has events of its own: the name must be free in both folders."""
    one, two = str(tmp_path / "a"), str(tmp_path / "b")
    logs = str(tmp_path / "logs")
    names = [make_run(runs=runs, logdir=logs).name for runs in (one, one, two, two)]
    assert names == ["lstm-modern-1"] + [
        f"lstm-modern-1-{number}" for number in (2, 3, 4)
    ]
    make_run(runs=one, logdir=logs, name="mine")
    taken = "logs/mnist/mine exists: choose another --name"
    with pytest.raises(UserError, match=taken):
        make_run(runs=two, logdir=logs, name="mine")
    assert "mine" not in {path.name for path in (tmp_path / "b" / "mnist").iterdir()}


def test_a_name_that_is_too_long_for_the_disk(tmp_path):
    """A letter may take four bytes."""
    with pytest.raises(UserError, match="cannot create .*: File name too long"):
        make_run(runs=str(tmp_path), name="𝄞" * 100)
    assert not list((tmp_path / "mnist").iterdir())


def test_what_a_killed_write_left_is_removed(tmp_path):
    folder = make_run(runs=str(tmp_path))
    (folder / "unfinished-xyz").mkdir()
    (folder / "unfinished-xyz" / "model.keras").touch()
    reopen(RunFolder(folder), resume.CONFIGS).lock.close()
    assert [path.name for path in folder.iterdir()] == ["config.json"]


def test_a_refused_run_reserves_no_events(tmp_path):
    one, two = str(tmp_path / "a"), str(tmp_path / "b")
    logs = str(tmp_path / "logs")
    make_run(runs=two, name="other")
    with pytest.raises(UserError, match="b/mnist/other exists: choose another --name"):
        make_run(runs=two, logdir=logs, name="other")
    make_run(runs=one, logdir=logs, name="other")


def test_events_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    message = "cannot create .*file/mnist/.*: Not a directory"
    with pytest.raises(UserError, match=message):
        make_run(runs=str(tmp_path / "c"), logdir=str(tmp_path / "file"))
    assert not list((tmp_path / "c" / "mnist").iterdir())


def test_events_in_the_run_s_own_folder(tmp_path):
    for name in ("lstm-modern-1", "lstm-modern-1-2"):
        made = make_run(runs=str(tmp_path), logdir=str(tmp_path))
        assert made == tmp_path / "mnist" / name


def test_logdir_stays_where_it_was(tmp_path, monkeypatch):
    """A run that is resumed from another working directory finds its events."""
    monkeypatch.chdir(tmp_path)
    folder = make_run(runs="runs", logdir="logs").absolute()
    monkeypatch.chdir(folder)
    for path in (folder, pathlib.Path(".")):
        stopped = reopen(RunFolder(path), resume.CONFIGS)
        stopped.lock.close()
        assert stopped.events == tmp_path / "logs" / "mnist" / folder.name
