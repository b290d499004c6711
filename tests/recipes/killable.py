"""Programs in processes that start within a second and can be killed: forked after all imports.

Importing TensorFlow takes seconds; the fork server does it once. It computes nothing, so that it has no
threads when it forks.
"""

import contextlib
import multiprocessing
import multiprocessing.forkserver
import os
import pathlib
import resource
import signal
import sys
import threading
import time

import sklearn.datasets  # noqa: F401 - the sample needs it

from recipes import datasets, imdb, mnist, pictures, resume
from recipes.command_line import run
from recipes.review_grammar import make_reviews

PROGRAMS = {"mnist": mnist.main, "imdb": imdb.main, "resume": resume.main}
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["killable", "pytest"])


def start_fork_server():
    """Start the server, which finds this module by PYTHONPATH alone; call it before all else."""
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


class Trainer:
    """A program at work in a process of its own.

    Args:
        program: A key of `PROGRAMS`.
        arguments: Its command line.
        log: File for its standard output, appended to; its standard error goes to ``log``.err.
        trap: None, or what to do at a certain file operation: ``(action, name, count, when)``.
            At the ``count``-th time that a file takes the name ``name`` (None: any), ``"before"`` or
            ``"after"`` that, one of `ACTIONS` takes place.
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
    sys.stdout, sys.stderr = (
        open(1, "w", 1, closefd=False),
        open(2, "w", 1, closefd=False),
    )
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Pictures would take longer than the rest, and as many reviews as the sample has nearly as long.
    pictures.draw_mnist = pictures.draw_imdb = lambda *arguments: None
    datasets.make_reviews = lambda n, seed: make_reviews(n // 10, seed)
    if trap:
        _set_trap(*trap)
    sys.argv[1:] = arguments
    run(PROGRAMS[program])


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
