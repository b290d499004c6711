"""Runs that are killed, interrupted, or short of disk end as if nothing had happened."""

import concurrent.futures
import csv
import dataclasses
import json
import os
import pathlib
import random
import shutil
import signal
import threading
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from killable import Trainer, start_fork_server

from recipes import datasets, mnist, resume, runs, training
from recipes.command_line import UserError
from recipes.run_folder import Run, events_folder, find_runs, lock, reopen

# In one process: one fork server, and one run of each scenario that was never stopped.
pytestmark = pytest.mark.xdist_group("resume")

TINY = [
    "--data",
    "sample",
    "--name",
    "run",
    "--units",
    "4",
    "--steps",
    "48",
    "--save-every",
    "3",
]
IMDB = ["--words", "25", "--vocabulary", "200", "--embedding", "4", "--batch", "30"]
SCENARIOS = {
    "mnist-classic": ["mnist", "--preset", "classic", "--batch", "100", *TINY],
    "mnist-weight-drop": ["mnist", "--cell", "weight-drop", *TINY],
    "imdb-classic": [
        "imdb",
        "--preset",
        "classic",
        "--cell",
        "simple-rnn",
        *IMDB,
        *TINY,
    ],
    "imdb-modern": ["imdb", "--cell", "simple-rnn", *IMDB, *TINY],
}
KILLS = {
    "mnist-classic": 10,
    "mnist-weight-drop": 5,
    "imdb-classic": 4,
    "imdb-modern": 3,
}


def read(folder):
    """Return all that must be equal: the model's weights and optimiser, figures, and history."""
    assert not list(folder.glob("unfinished-*"))
    assert not (folder / "checkpoint.npz").exists()
    model = keras.saving.load_model(folder / "model.keras")
    optimizer = getattr(model, "optimizer", None)  # IMDB's model is saved without
    optimizer = optimizer.variables if optimizer else []
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["config"].pop("runs")
    assert metrics.pop("fit_seconds") > 0
    with open(folder / "history.csv") as file:
        history = [
            {k: v for k, v in row.items() if k != "seconds"}
            for row in csv.DictReader(file)
        ]
    return {
        "weights": [
            *model.get_weights(),
            *(variable.numpy() for variable in optimizer),
        ],
        "metrics": metrics,
        "history": history,
    }


def assert_equal(one, other):
    """Compare two results of `read`, exactly."""
    assert one["metrics"] == other["metrics"]
    assert one["history"] == other["history"]
    assert len(one["weights"]) == len(other["weights"]) > 3
    for a, b in zip(one["weights"], other["weights"]):
        np.testing.assert_array_equal(a, b)


def start(scenario, folder, trap=None):
    """Start a scenario anew, with its runs in ``folder``."""
    program, *arguments = SCENARIOS[scenario]
    return Trainer(program, [*arguments, "--runs", folder], folder / "log", trap)


def go_on(scenario, folder, trap=None):
    """Resume a scenario."""
    return Trainer(
        "resume", ["--run", run_folder(scenario, folder)], folder / "log", trap
    )


def run_folder(scenario, folder):
    return folder / SCENARIOS[scenario][0] / "run"


def make_run(**choices):
    """Create the folder of an MNIST run; return the run, which no process works on."""
    run = Run("mnist", dataclasses.replace(mnist.PRESETS["modern"], **choices))
    try:
        run.make_folder("sample")
    finally:
        run.lock.close()
    return run


def minibatch_lines(folder):
    """Return what the article's program reports, by step."""
    lines = [
        line
        for line in (folder / "log").read_text().splitlines()
        if line.startswith("Iter ")
    ]
    return {tuple(line.split(": ", 1)) for line in lines}


class NeverStopped(dict):
    """The folder of each scenario's run, begun and ended in one process; made when first asked for."""

    def __init__(self, folder):
        self.folder = folder

    def __missing__(self, scenario):
        folder = self.folder / scenario
        folder.mkdir()
        trainer = start(scenario, folder)
        assert trainer.wait() == 0, trainer.errors()
        self[scenario] = run_folder(scenario, folder)
        return self[scenario]


@pytest.fixture(scope="module")
def never_stopped(tmp_path_factory):
    return NeverStopped(tmp_path_factory.mktemp("never-stopped"))


@pytest.fixture(scope="module", autouse=True)
def fork_server():
    start_fork_server()


def kill_again_and_again(scenario, folder, kills, expected):
    """Start a run, kill it at random moments, and let it end; begin another if it ends too soon."""
    rng, run = random.Random(scenario), run_folder(scenario, folder)
    while kills:
        begun = (run / "config.json").exists()
        how = rng.choice(["time", "saving", "file"])
        trap = None
        if how == "file":  # exactly between two operations on files
            trap = ("kill", None, rng.randint(1, 9), rng.choice(["before", "after"]))
        trainer = (go_on if begun else start)(scenario, folder, trap)
        if how == "time":  # anywhere, starting up included
            time.sleep(rng.uniform(0, 2))
        if how == "saving":  # anywhere in the first interval after one that was saved
            before = modified(run / "checkpoint.npz")
            trainer.wait_for(
                lambda before=before: modified(run / "checkpoint.npz") != before
            )
            time.sleep(rng.uniform(0, 0.2))
        status = trainer.wait() if trap else trainer.kill()
        if status == 0:
            assert_equal(read(run), expected)
            shutil.rmtree(run)
        else:
            assert status == -signal.SIGKILL, trainer.errors()
            kills -= 1
    if not (run / "config.json").exists():
        start(scenario, folder, ("kill", "checkpoint.npz", 3, "before")).wait()
    assert go_on(scenario, folder).wait() == 0
    assert_equal(read(run), expected)


def modified(path):
    return path.stat().st_mtime_ns if path.exists() else None


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_killed_at_random_moments(scenario, never_stopped, tmp_path):
    """22 kills over four programs."""
    assert sum(KILLS.values()) >= 20
    kill_again_and_again(
        scenario, tmp_path, KILLS[scenario], read(never_stopped[scenario])
    )
    if scenario == "mnist-classic":
        lines = minibatch_lines(never_stopped.folder / scenario)
        assert len(lines) == 16
        assert minibatch_lines(tmp_path) == lines


def stop_after_two_intervals(folder, scenario="mnist-weight-drop"):
    """Start a run that is killed then; return its folder."""
    trainer = start(scenario, folder, ("kill", "checkpoint.npz", 2, "after"))
    assert trainer.wait() == -signal.SIGKILL, trainer.errors()
    return run_folder(scenario, folder)


def test_ctrl_c(never_stopped, tmp_path):
    scenario = "mnist-weight-drop"
    run = run_folder(scenario, tmp_path)
    trainer = start(
        scenario, tmp_path, ("interrupt soon", "checkpoint.npz", 2, "after")
    )
    assert trainer.wait() == 130
    printed = (tmp_path / "log").read_text().splitlines()
    assert printed[-2:] == [
        f"Interrupted. The best model so far: {run / 'model.keras'}",
        f"To go on: make resume RUN={run}",
    ]
    assert "Traceback" not in trainer.errors()
    keras.saving.load_model(run / "model.keras")
    assert go_on(scenario, tmp_path).wait() == 0
    assert_equal(read(run), read(never_stopped[scenario]))


def test_a_full_disk(never_stopped, tmp_path):
    """A limit on the size of files stands for the full disk; a history of 3,000 bytes still fits."""
    scenario = "mnist-weight-drop"
    run = stop_after_two_intervals(tmp_path)
    for count in (1, 5):  # while going on; in the fourth interval after that
        kept = (run / "checkpoint.npz").read_bytes()
        trainer = go_on(
            scenario, tmp_path, ("fill the disk", "history.csv", count, "after")
        )
        assert trainer.wait() == 2
        line = trainer.errors().splitlines()[-1]
        assert line == (
            f"error: cannot write in {run}: File too large; mend that, then: make resume RUN={run}"
        )
        assert not list(run.glob("unfinished-*"))
        assert (count == 1) == ((run / "checkpoint.npz").read_bytes() == kept)
    assert len(trainer.errors().splitlines()) == 2
    assert go_on(scenario, tmp_path).wait() == 0
    assert_equal(read(run), read(never_stopped[scenario]))


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_while_the_report_is_written(when, never_stopped, tmp_path):
    scenario = "mnist-weight-drop"
    run = run_folder(scenario, tmp_path)
    trainer = start(scenario, tmp_path, ("kill", "metrics.json", 1, when))
    assert trainer.wait() == -signal.SIGKILL, trainer.errors()
    assert (run / "checkpoint.npz").exists()
    assert go_on(scenario, tmp_path).wait() == 0
    last = (tmp_path / "log").read_text().splitlines()[-1]
    assert (last == f"The run {run} is finished: there is nothing to do.") == (
        when == "after"
    )
    assert_equal(read(run), read(never_stopped[scenario]))


def test_a_finished_run_stays_as_it_is(never_stopped, capsys):
    run = never_stopped["mnist-weight-drop"]
    before = {
        path: (path.read_bytes(), path.stat().st_mtime_ns) for path in run.iterdir()
    }
    assert resume.main(["--run", str(run)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"The run {run} is finished: there is nothing to do."
    ]
    assert {
        path: (path.read_bytes(), path.stat().st_mtime_ns) for path in run.iterdir()
    } == before


def test_only_one_process_works_on_a_run(tmp_path, capsys):
    run = stop_after_two_intervals(tmp_path)
    before = modified(run / "checkpoint.npz")
    trainer = go_on(
        "mnist-weight-drop", tmp_path, ("stop", "checkpoint.npz", 1, "after")
    )
    trainer.wait_for(lambda: modified(run / "checkpoint.npz") != before)
    with pytest.raises(UserError, match="another process is working on"):
        resume.main(["--run", str(run)])
    with pytest.raises(UserError, match="there is no run in .* to go on with"):
        resume.main(["--runs", str(tmp_path)])
    assert trainer.kill() == -signal.SIGKILL
    stopped = reopen(run, resume.CONFIGS)  # the lock died with the process
    assert (stopped.recipe, stopped.source, stopped.folder) == ("mnist", "sample", run)
    stopped.lock.close()


def test_runs_started_at_the_same_moment(tmp_path):
    """Sixteen threads, each with a file of its own to lock, race for the same name."""
    barrier, count = threading.Barrier(16), 16
    made = [
        Run("mnist", dataclasses.replace(mnist.PRESETS["modern"], runs=str(tmp_path)))
        for _ in range(count)
    ]

    def make(run):
        barrier.wait()
        return run.make_folder("sample")

    with concurrent.futures.ThreadPoolExecutor(count) as threads:
        folders = list(threads.map(make, made))
    assert len(set(folders)) == count
    assert set(folders) == set((tmp_path / "mnist").iterdir())
    assert all((folder / "config.json").exists() for folder in folders)
    for run in made:
        run.lock.close()


def test_folders_that_killed_runs_left_are_removed(tmp_path):
    """Those that are old and that nobody has locked; the others may take their names yet."""
    parent = tmp_path / "mnist"
    for name, age in (
        ("old", 2),
        ("empty", 2),
        ("locked", 2),
        ("young", 0.9),
        ("future", -2),
    ):
        folder = parent / f".new-{name}"
        folder.mkdir(parents=True)
        if name != "empty":
            (folder / "config.json").write_text("{}")
        os.utime(folder, (time.time() - 3600 * age,) * 2)
    with lock(parent / ".new-locked" / "config.json"):
        make_run(runs=str(tmp_path))
    left = {".new-locked", ".new-young", ".new-future", "lstm-modern-1"}
    assert {path.name for path in parent.iterdir()} == left


def test_killed_before_the_folder_has_its_name(tmp_path):
    """The folder that is left is no run, and goes when a later run finds it old."""
    trainer = start("mnist-classic", tmp_path, ("kill", "config.json", 1, "after"))
    assert trainer.wait() == -signal.SIGKILL, trainer.errors()
    (left,) = (tmp_path / "mnist").iterdir()
    assert left.name.startswith(".new-")
    assert find_runs(tmp_path) == []
    os.utime(left, (0, 0))
    assert [make_run(runs=str(tmp_path)).folder] == list((tmp_path / "mnist").iterdir())


def test_resume_takes_the_last_unfinished_run(tmp_path, capsys):
    begun = []
    for number in range(4):
        config = dataclasses.replace(
            mnist.PRESETS["modern"], data="sample", units=4, steps=1, runs=str(tmp_path)
        )
        run = Run("mnist", config)
        begun.append(run.make_folder("sample"))
        os.utime(begun[-1] / "config.json", (number, number))
        if number < 3:
            run.lock.close()
    (begun[2] / "metrics.json").write_text("{}")
    assert resume.main(["--runs", str(tmp_path)]) == 0
    assert f"Going on with {begun[1]}." in capsys.readouterr().out
    assert json.loads((begun[1] / "metrics.json").read_text())["steps"] == 1
    run.lock.close()


def damage(path, text=None):
    """Overwrite the middle of a file, or all of it."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 64] = bytes(64)
    path.write_bytes(data if text is None else text.encode())


def test_runs_that_cannot_go_on(tmp_path, monkeypatch):
    run = stop_after_two_intervals(tmp_path)

    def refused(message, folder=run):
        with pytest.raises(UserError) as raised:
            resume.main(["--run", str(folder)])
        assert message in str(raised.value)
        assert "\n" not in str(raised.value)

    refused(f"there is no run {tmp_path / 'nothing'}", tmp_path / "nothing")
    refused("there is no run nothing", "nothing")
    refused("is not a run that can go on: it has no config.json", tmp_path)

    checkpoint = (run / "checkpoint.npz").read_bytes()
    for damaged in (
        bytes(100),
        b"",
        checkpoint[:-100],
        checkpoint[: len(checkpoint) // 2],
    ):
        (run / "checkpoint.npz").write_bytes(damaged)
        refused("checkpoint.npz is damaged: this run cannot go on")
    damage(run / "checkpoint.npz", "no checkpoint")
    refused("checkpoint.npz is damaged: this run cannot go on")
    (run / "checkpoint.npz").write_bytes(checkpoint)

    config = (run / "config.json").read_text()
    damage(run / "config.json", config.replace('"units": 4', '"units": 5'))
    refused("is of another model: this run cannot go on")
    for text in (
        config[:50],
        "[]",
        "{}",
        config.replace("mnist", "mnits"),
        config.replace("units", "unit"),
    ):
        damage(run / "config.json", text)
        refused("config.json is damaged: this run cannot go on")
    damage(run / "config.json", config.replace('"units": 4', '"units": 0'))
    refused("config.json is damaged: this run cannot go on")

    damage(run / "config.json", config.replace('"data": "sample"', '"data": "full"', 1))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(datasets, "answers", lambda url: False)
    refused("no prepared mnist in")


@pytest.mark.parametrize("cell", ["depth-gated", "weight-drop", "lstm"])
def test_dropout_goes_on_with_the_same_seeds(cell, tmp_path):
    """Also those of a cell's levels and of dropped weights, which a saved model does not hold."""
    rates = {"weight-drop": {"dropout": 0.3}}.get(
        cell, {"dropout": 0.3, "recurrent_dropout": 0.3}
    )

    def make():
        inputs = keras.Input((3, 2))
        outputs = training.LAYERS[cell](3, **rates)(inputs)
        model = keras.Model(inputs, keras.layers.Dense(1)(outputs))
        model.compile("adam", "mse", run_eagerly=True)
        return model

    def train(model):
        model.reset_metrics()
        return [
            float(model.train_on_batch(np.ones((4, 3, 2)), np.ones((4, 1))))
            for _ in range(3)
        ]

    first, second = make(), make()
    train(first)
    second.optimizer.build(second.trainable_variables)
    training.set_state(second, training.get_state(first))
    assert train(first) == train(second)


@pytest.mark.parametrize("first", [0, 1, 7, 25])
def test_batches_begin_anywhere(first):
    config = dataclasses.replace(mnist.PRESETS["modern"], batch=3)
    data = np.arange(10.0), np.arange(10)

    def change(inputs, seed):
        return inputs + tf.cast(seed[1], "float64") / 100

    whole = list(
        training.make_batches(data, config, change).take(30).as_numpy_iterator()
    )
    part = (
        training.make_batches(data, config, change, first)
        .take(30 - first)
        .as_numpy_iterator()
    )
    for expected, got in zip(whole[first:], part, strict=True):
        np.testing.assert_array_equal(expected, got)


def test_logdir(tmp_path):
    arguments = [
        "--data",
        "sample",
        "--units",
        "4",
        "--steps",
        "4",
        "--save-every",
        "2",
    ]
    mnist.main(
        [
            *arguments,
            "--runs",
            str(tmp_path / "runs"),
            "--logdir",
            str(tmp_path / "logs"),
        ]
    )
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
    with open(tmp_path / "runs" / "mnist" / "lstm-modern-1" / "history.csv") as file:
        for row in csv.DictReader(file):
            for name in names:
                logged = tf.make_ndarray(found[int(row["step"]), name].tensor)
                np.testing.assert_allclose(logged, float(row[name]), rtol=1e-6)


def test_runs_elsewhere_with_the_same_logdir(tmp_path):
    """Each has events of its own: the name must be free in both folders."""
    (one, two, three), logs = (
        [str(tmp_path / name) for name in "abc"],
        str(tmp_path / "logs"),
    )
    names = [
        make_run(runs=runs, logdir=logs).folder.name for runs in (one, one, two, two)
    ]
    assert names == ["lstm-modern-1"] + [
        f"lstm-modern-1-{number}" for number in (2, 3, 4)
    ]
    make_run(runs=one, logdir=logs, name="mine")
    with pytest.raises(
        UserError, match=r"logs/mnist/mine exists: choose another --name"
    ):
        make_run(runs=two, logdir=logs, name="mine")
    assert "mine" not in {path.name for path in (tmp_path / "b" / "mnist").iterdir()}
    make_run(runs=two, name="other")
    with pytest.raises(UserError, match=r"b/mnist/other exists: choose another --name"):
        make_run(runs=two, logdir=logs, name="other")
    make_run(
        runs=one, logdir=logs, name="other"
    )  # the refused run has reserved nothing
    (tmp_path / "file").touch()
    with pytest.raises(
        UserError, match="cannot create .*file/mnist/.*: Not a directory"
    ):
        make_run(runs=three, logdir=str(tmp_path / "file"))
    assert not list((tmp_path / "c" / "mnist").iterdir())


def test_events_in_the_run_s_own_folder(tmp_path):
    for name in ("lstm-modern-1", "lstm-modern-1-2"):
        assert (
            make_run(runs=str(tmp_path), logdir=str(tmp_path)).folder
            == tmp_path / "mnist" / name
        )


def test_logdir_stays_where_it_was(tmp_path, monkeypatch):
    """A run that goes on from another working directory finds its events."""
    monkeypatch.chdir(tmp_path)
    folder = make_run(runs="runs", logdir="logs").folder.absolute()
    monkeypatch.chdir(folder)
    for name in (folder, pathlib.Path(".")):
        stopped = reopen(name, resume.CONFIGS)
        stopped.lock.close()
        assert (
            events_folder(stopped.config, stopped.folder)
            == tmp_path / "logs" / "mnist" / folder.name
        )


def test_table_of_runs(tmp_path, capsys):
    assert runs.main(["--runs", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"There is no run in {tmp_path}.\n"

    def add(recipe, name, accuracy, seconds=90, **changes):
        folder = tmp_path / recipe / name
        folder.mkdir(parents=True)
        metrics = {
            "data": "full",
            "cell": "lstm",
            "preset": "modern",
            "test_accuracy": accuracy,
        }
        (folder / "metrics.json").write_text(
            json.dumps({**metrics, "fit_seconds": seconds, **changes})
        )
        return folder

    add("mnist", "good", 0.99, 754)
    add("mnist", "better", 0.9912, cell="depth-gated")
    add("imdb", "only", 0.9, data="sample", preset="classic")
    (add("imdb", "torn", 0.5) / "metrics.json").write_text('{"test_acc')
    (add("imdb", "odd", 0.5) / "metrics.json").write_text("[]")
    make_run(preset="classic", runs=str(tmp_path), name="half")
    (tmp_path / "mnist" / "empty").mkdir()
    assert runs.main(["--runs", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert (
        printed.replace(str(tmp_path), "runs")
        == """\
recipe  data    cell         preset     accuracy  minutes  run
imdb    sample  lstm         classic      0.9000      1.5  runs/imdb/only
imdb                                     damaged           runs/imdb/odd
imdb                                     damaged           runs/imdb/torn
mnist   full    depth-gated  modern       0.9912      1.5  runs/mnist/better
mnist   full    lstm         modern       0.9900     12.6  runs/mnist/good
mnist   sample  lstm         classic  unfinished           runs/mnist/half
"""
    )


def test_these_tests_share_one_process(request):
    """With pytest 9.2.0 and pytest-xdist 3.8.0 they would not, and each process would repeat much."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        pytest.skip("all tests share this process")
    assert request.node.nodeid.endswith("@resume")


def test_ctrl_c_twice(tmp_path):
    scenario = "mnist-classic"
    trainer = start(
        scenario, tmp_path, ("interrupt twice", "checkpoint.npz", 1, "after")
    )
    assert trainer.wait() == -signal.SIGINT
    assert "Traceback" not in trainer.errors()
    assert (run_folder(scenario, tmp_path) / "checkpoint.npz").exists()
