"""A run's folder: it appears whole, one process writes there, and a stopped run is opened again."""

import contextlib
import dataclasses
import errno
import fcntl
import json
import os
import pathlib
import secrets
import shlex
import shutil
import time

import tensorflow as tf

from recipes import report
from recipes.command_line import UserError

CONFIG = (
    "config.json"  # what a run was asked to do; locked while a process works on the run
)
CHECKPOINT = (
    "checkpoint.npz"  # everything needed to go on; gone when the run is finished
)
METRICS = "metrics.json"  # the figures; there when the run is finished
INTERRUPTED = 130  # the exit status after Ctrl-C
AN_HOUR = 3600  # seconds: a folder that waits longer for its name was left by a killed process


class AtWork(UserError):
    """Another process works on the run."""


class Run:
    """One run of a program, new or going on.

    Attributes:
        recipe: ``"mnist"`` or ``"imdb"``.
        config: The choices; ``logdir`` is absolute, so that a run goes on logging there from anywhere.
        source: Which data to load: ``config.data``, or, of a stopped run, what it used so far.
        folder: The run's folder, None before it exists.
    """

    def __init__(self, recipe, config, source=None, folder=None, lock=None):
        if config.logdir:
            config = dataclasses.replace(config, logdir=os.path.abspath(config.logdir))
        self.recipe, self.config, self.source = recipe, config, source or config.data
        self.folder, self.lock = folder, lock

    def make_folder(self, source):
        """Create the run's folder, never an existing one, unless it goes on; return its path.

        The folder takes its name when it holds the configuration and this process holds its lock. The
        name is one under which ``logdir`` has no events yet, of a run elsewhere or of one that is gone.

        Args:
            source: Which data the run uses: ``"full"`` or ``"sample"``.
        """
        if self.folder is not None:
            return self.folder
        config = self.config
        parent = pathlib.Path(config.runs) / self.recipe
        wanted = config.name or f"{config.cell}-{config.preset}-{config.seed}"
        names = (
            [wanted]
            if config.name
            else [wanted, *(f"{wanted}-{n}" for n in range(2, 1000))]
        )
        new = parent / f".new-{secrets.token_hex(8)}"
        try:
            new.mkdir(parents=True)
            choices = {
                "recipe": self.recipe,
                "data": source,
                "config": dataclasses.asdict(config),
            }
            report.write_json(new / CONFIG, choices)
            self.lock = lock(new / CONFIG)
            self.folder = next(
                (
                    parent / name
                    for name in names
                    if self._take_name(new, parent / name)
                ),
                None,
            )
        except OSError as error:
            raise UserError(
                f"cannot create {parent / wanted}: {error.strerror}"
            ) from error
        finally:
            shutil.rmtree(new, ignore_errors=True)
        remove_abandoned(parent)
        if self.folder is None:
            taken = parent / names[-1]
            if config.logdir and not taken.exists():
                taken = events_folder(config, taken)
            raise UserError(f"{taken} exists: choose another --name")
        return self.folder

    def _take_name(self, new, folder):
        """Rename the folder ``new`` and reserve that of its events; return whether both were free."""
        events = events_folder(self.config, folder)
        if not self.config.logdir or os.path.realpath(events) == os.path.realpath(
            folder
        ):
            return rename(new, folder)
        try:
            events.mkdir(parents=True)
        except FileExistsError:
            return False
        except OSError as error:
            raise UserError(f"cannot create {events}: {error.strerror}") from error
        renamed = False
        try:
            renamed = rename(new, folder)
        finally:
            if not renamed:
                events.rmdir()
        return renamed

    def carry_out(self, program):
        """Call ``program`` with this run and return its exit status, or `INTERRUPTED` after Ctrl-C.

        Raises:
            UserError: The disk is full, the folder cannot be written for another reason, or there is too
                little memory.
        """
        try:
            return program(self)
        except KeyboardInterrupt:
            if self.folder is None:
                print("\nInterrupted before training began.")
                return INTERRUPTED
            if (self.folder / "model.keras").exists():
                print(
                    f"\nInterrupted. The best model so far: {self.folder / 'model.keras'}"
                )
            else:
                print("\nInterrupted before the first validation.")
            print(f"To go on: {self.how_to_go_on()}")
            return INTERRUPTED
        except (MemoryError, tf.errors.ResourceExhaustedError) as error:
            raise UserError(
                "too little memory for these sizes: choose smaller ones"
            ) from error
        except OSError as error:
            if self.folder is None or isinstance(error, BrokenPipeError):
                raise
            reason = error.strerror or error
            raise UserError(
                f"cannot write in {self.folder}: {reason}; mend that, then: {self.how_to_go_on()}"
            ) from error
        finally:
            if self.lock is not None:
                self.lock.close()

    def how_to_go_on(self):
        """Return the command that goes on with this run."""
        return f"make resume RUN={shlex.quote(str(self.folder))}"


def events_folder(config, folder):
    """Return where a run with this configuration and folder writes its events for TensorBoard."""
    *_, recipe, name = os.path.abspath(folder).split(os.sep)
    return pathlib.Path(config.logdir) / recipe / name


def lock(path):
    """Lock a file for as long as it stays open, at most while this process lives.

    Returns:
        The open file, or None if another process holds the lock.
    """
    file = open(path, "rb+")
    with contextlib.suppress(OSError):  # a file system without locks
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
    return file


def remove_abandoned(parent):
    """Remove the folders that killed processes left in ``parent`` before they took their names.

    They are more than an hour old, and no process holds their lock.
    """
    for folder in parent.glob(".new-*"):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > AN_HOUR:
                config = folder / CONFIG
                held = lock(config) if config.exists() else contextlib.nullcontext()
                if held is not None:
                    with held:
                        shutil.rmtree(folder)


def rename(folder, name):
    """Rename a folder and return True, or return False if the name is taken."""
    if name.exists():
        return False
    try:
        folder.rename(name)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            return False
        raise
    return True


def read_choices(folder):
    """Return what ``config.json`` of a run's folder holds: ``recipe``, ``data`` and ``config``.

    Raises:
        UserError: It cannot be read.
    """
    try:
        choices = json.loads((folder / CONFIG).read_text())
        return {
            "recipe": choices["recipe"],
            "data": choices["data"],
            "config": {**choices["config"]},
        }
    except OSError as error:
        raise UserError(f"cannot read {folder / CONFIG}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder / CONFIG} is damaged: this run cannot go on"
        ) from error


def reopen(folder, configs):
    """Lock a run's folder and return the run, ready to go on; None if it is finished.

    Args:
        folder: Path of the folder.
        configs: Dict from the recipes to the classes of their configurations.

    Raises:
        AtWork: Another process works on it.
        UserError: It is no run, or it is damaged.
    """
    if not os.path.isdir(folder):
        raise UserError(f"there is no run {folder}")
    if not os.path.isfile(folder / CONFIG):
        raise UserError(f"{folder} is not a run that can go on: it has no {CONFIG}")
    choices = read_choices(folder)
    try:
        config = configs[choices["recipe"]](**choices["config"])
        config.check()
    except (KeyError, TypeError, UserError) as error:
        raise UserError(
            f"{folder / CONFIG} is damaged: this run cannot go on"
        ) from error
    try:
        held = lock(folder / CONFIG)
    except OSError as error:
        raise UserError(f"cannot write in {folder}: {error.strerror}") from error
    if held is None:
        raise AtWork(f"another process is working on {folder}")
    with contextlib.suppress(OSError):
        for leftover in folder.glob("unfinished-*"):
            leftover.unlink()
    if (folder / METRICS).exists():
        with held, contextlib.suppress(OSError):
            (folder / CHECKPOINT).unlink()
        return None
    return Run(choices["recipe"], config, choices["data"], folder, held)


def find_runs(runs):
    """Return the folders of all runs below ``runs``, finished or not, the one begun last first."""
    paths = [*runs.glob(f"*/*/{CONFIG}"), *runs.glob(f"*/*/{METRICS}")]
    begun = {}
    for path in paths:
        if not path.parent.name.startswith("."):
            begun.setdefault(path.parent, path.stat().st_mtime_ns)
    return sorted(begun, key=begun.get, reverse=True)
