"""Programs in processes that start within a second and can be killed.

They are forked after all imports: the fork server imports TensorFlow once. It computes
nothing, so that it has no threads when it forks.
"""

import contextlib
import csv
import json
import multiprocessing
import multiprocessing.forkserver
import os
import pathlib
import resource
import signal
import sys
import threading
import time

import keras
import numpy as np
import sklearn.datasets  # noqa: F401 - the sample needs it

from recipes import imdb, mnist, resume
from recipes.data import samples
from recipes.data.review_grammar import make_reviews
from recipes.run.command_line import exit_with
from recipes.run.folder import RunFolder

PROGRAMS = {"mnist": mnist.main, "imdb": imdb.main, "resume": resume.main}
TINY = "--data sample --name run --units 4 --steps 48 --save-every 3"
IMDB = "--words 25 --vocabulary 200 --embedding 4 --batch 30"
SCENARIOS = {
    "mnist-classic": f"mnist --preset classic --batch 100 {TINY}",
    "mnist-weight-drop": f"mnist --cell weight-drop {TINY}",
    "imdb-classic": f"imdb --preset classic --cell simple-rnn {IMDB} {TINY}",
    "imdb-modern": f"imdb --cell simple-rnn {IMDB} {TINY}",
    "mnist-devices": f"mnist --cell simple-rnn --devices 2 {TINY}",
    "mnist-one-device": f"mnist --preset classic --cell simple-rnn {TINY}",
    "mnist-two-devices": f"mnist --preset classic --cell simple-rnn --devices 2 {TINY}",
}
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["killable", "pytest"])


def start_fork_server():
    """Start the server, which finds this module by PYTHONPATH; call it first."""
    before = os.environ.get("PYTHONPATH")
    here = pathlib.Path(__file__).parent
    root = here.parents[1]
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(here), str(root), *filter(None, [before])]
    )
    multiprocessing.forkserver.ensure_running()
    os.environ.pop("PYTHONPATH")
    if before is not None:
        os.environ["PYTHONPATH"] = before


class ProgramProcess:
    """A program in a process of its own.

    Args:
        program: A key of `PROGRAMS`.
        arguments: Its command line.
        log: File for its standard output, appended to; its standard error goes to
            ``log``.err.
        trap: None, or what to do at a certain file operation: ``(action, name, count,
            when)``. At the ``count``-th time that a file takes the name ``name`` (None:
            any), ``"before"`` or ``"after"`` that, one of `ACTIONS` takes place.
    """

    def __init__(self, program, arguments, log, trap=None):
        self.log = log
        arguments = [str(argument) for argument in arguments]
        self.process = FORKS.Process(
            target=_work, args=(program, arguments, str(log), trap)
        )
        self.process.start()

    def wait(self):
        """Return the exit status, negative after a signal."""
        self.process.join(120)
        assert self.process.exitcode is not None
        return self.process.exitcode

    def kill(self):
        """Kill the process, and return the exit status: 0 if it had ended before."""
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.kill(self.process.pid, signal.SIGKILL)
        return self.wait()

    def errors(self):
        """Return what all programs with this log wrote to their standard error."""
        return self.log.with_name(f"{self.log.name}.err").read_text()

    def wait_for(self, happened):
        """Wait until ``happened()`` is true, or the process has ended."""
        while not happened() and self.process.exitcode is None:
            time.sleep(0.003)


def _work(program, arguments, log, trap):
    for number, name in ((1, log), (2, f"{log}.err")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    # What the fork server made of them would be written at exit only.
    sys.stdout = open(1, "w", 1, closefd=False)
    sys.stderr = open(2, "w", 1, closefd=False)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Pictures would take longer than the rest, and all reviews of the sample nearly as
    # long.
    mnist.draw_mnist = imdb.draw_imdb = lambda *arguments: None
    samples.make_reviews = lambda count, seed: make_reviews(count // 10, seed)
    if trap:
        _set_trap(*trap)
    sys.argv[1:] = arguments
    exit_with(PROGRAMS[program])


def _fill_disk():
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the limit must not stop the log
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))


def _send(number):
    os.kill(os.getpid(), number)


ACTIONS = {
    "kill": lambda: _send(signal.SIGKILL),
    "stop": lambda: _send(signal.SIGSTOP),
    "interrupt soon": lambda: threading.Timer(0.03, _send, [signal.SIGINT]).start(),
    "interrupt twice": lambda: (_send(signal.SIGINT), _send(signal.SIGINT)),
    "fill the disk": _fill_disk,
}


def _set_trap(action, name, count, when):
    seen, replace = [], os.replace

    def trapped(source, target):
        matches = name in (None, os.path.basename(target))
        seen.extend([target] * matches)
        if when == "after":
            replace(source, target)
        if matches and len(seen) == count:
            ACTIONS[action]()
        if when == "before":
            replace(source, target)

    os.replace = trapped


def folder_of(scenario, parent):
    """Return the `RunFolder` of a scenario whose runs are in ``parent``."""
    return RunFolder(parent / SCENARIOS[scenario].split()[0] / "run")


def start(scenario, parent, trap=None):
    """Start a scenario anew, with its runs in ``parent``."""
    program, *arguments = SCENARIOS[scenario].split()
    arguments += ["--runs", parent]
    return ProgramProcess(program, arguments, parent / "log", trap)


def resume_again(scenario, parent, trap=None):
    """Resume a scenario."""
    arguments = ["--run", folder_of(scenario, parent)]
    return ProgramProcess("resume", arguments, parent / "log", trap)


def stop_after_two_validations(parent, scenario="mnist-weight-drop"):
    """Start a run that is killed then; return its folder."""
    trainer = start(scenario, parent, ("kill", "checkpoint.npz", 2, "after"))
    assert trainer.wait() == -signal.SIGKILL, trainer.errors()
    return folder_of(scenario, parent)


class NeverStopped(dict):
    """The folder of each scenario's undisturbed run, made when first asked for."""

    def __init__(self, parent):
        self.parent = parent

    def __missing__(self, scenario):
        parent = self.parent / scenario
        parent.mkdir()
        trainer = start(scenario, parent)
        assert trainer.wait() == 0, trainer.errors()
        self[scenario] = folder_of(scenario, parent)
        return self[scenario]


def read(folder):
    """Return all that must be equal: weights, optimiser, figures, history."""
    assert not list(folder.path.glob("unfinished-*"))
    assert not folder.checkpoint.exists()
    model = keras.saving.load_model(folder.model)
    optimizer = getattr(model, "optimizer", None)  # IMDB's model is saved without
    optimizer = optimizer.variables if optimizer else []
    metrics = json.loads(folder.metrics.read_text())
    metrics["config"].pop("runs")
    assert metrics.pop("fit_seconds") > 0
    with open(folder.history) as file:
        history = [
            {key: value for key, value in row.items() if key != "seconds"}
            for row in csv.DictReader(file)
        ]
    weights = [*model.get_weights(), *(variable.numpy() for variable in optimizer)]
    return {"weights": weights, "metrics": metrics, "history": history}


def assert_equal(one, other):
    """Compare two results of `read`, exactly."""
    assert one["metrics"] == other["metrics"]
    assert one["history"] == other["history"]
    assert len(one["weights"]) > 3
    for a, b in zip(one["weights"], other["weights"], strict=True):
        np.testing.assert_array_equal(a, b)


def modified(path):
    return path.stat().st_mtime_ns if path.exists() else None
