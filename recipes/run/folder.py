"""A run's folder: it appears whole, and one process at a time works on it."""

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

from recipes.run.command_line import UserError
from recipes.run.files import write_json

ABANDONED_AFTER = (
    3600  # seconds: older unnamed folders were left behind by killed processes
)


class RunIsLocked(UserError):
    """Another process works on the run."""


def _file(name):
    return property(lambda folder: folder.path / name)


class RunFolder:
    """The folder of a run. No other place names the files in it.

    Attributes:
        path: Its path, ``runs/<recipe>/<name>``.
    """

    manifest = _file("config.json")  # what the run does; locked by the process at it
    checkpoint = _file(
        "checkpoint.npz"
    )  # all that resuming needs; until it is finished
    model = _file("model.keras")  # the best model so far
    history = _file("history.csv")  # a row for each validation
    metrics = _file("metrics.json")  # the figures; once the run is finished
    diverged = _file("diverged.txt")  # how training diverged; there is no metrics.json
    curves = _file("curves.png")
    gates = _file("gates.png")
    confusion = _file("confusion.png")
    worst_digits = _file("mistakes.png")
    calibration = _file("calibration.png")
    worst_reviews = _file("mistakes.txt")
    page = _file("gates.html")

    def __init__(self, path):
        self.path = pathlib.Path(path)

    def __str__(self):
        return str(self.path)

    @property
    def recipe(self):
        """The recipe whose run it is."""
        return os.path.abspath(self.path).split(os.sep)[-2]

    @property
    def is_finished(self):
        """Whether the run is finished."""
        return self.metrics.exists()

    @property
    def has_diverged(self):
        """Whether the run's training diverged: it would do so again."""
        return self.diverged.exists()

    def events(self, logdir):
        """Return where the run writes its events for TensorBoard."""
        name = os.path.basename(os.path.abspath(self.path))
        return pathlib.Path(logdir) / self.recipe / name

    def read_manifest(self):
        """Return what ``config.json`` holds: ``recipe``, ``data`` and ``config``.

        Raises:
            UserError: It cannot be read.
        """
        try:
            manifest = json.loads(self.manifest.read_text())
            return {
                "recipe": manifest["recipe"],
                "data": manifest["data"],
                "config": {**manifest["config"]},
            }
        except OSError as error:
            raise UserError(f"cannot read {self.manifest}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise self.damaged_manifest() from error

    def damaged_manifest(self):
        """Return the error to raise where ``config.json`` is damaged."""
        return UserError(f"{self.manifest} is damaged: this run cannot be resumed")


class Run:
    """One run of a program, new or resumed.

    Attributes:
        recipe: ``"mnist"`` or ``"imdb"``.
        config: The choices; ``logdir`` is absolute, so that a resumed run logs to the
            same place.
        source: Which data to load: ``config.data``, or, of a resumed run, what it used
            so far.
        folder: The `RunFolder`, None before it exists.
    """

    def __init__(self, recipe, config, source=None, folder=None, lock=None):
        if config.logdir:
            config = dataclasses.replace(config, logdir=os.path.abspath(config.logdir))
        self.recipe, self.config, self.source = recipe, config, source or config.data
        self.folder, self.lock = folder, lock

    @property
    def events(self):
        """Where the run writes its events for TensorBoard, or None."""
        return self.folder.events(self.config.logdir) if self.config.logdir else None

    def make_folder(self, source):
        """Create the run's folder, never an existing one, unless the run is resumed.

        The folder takes its name when it holds the manifest and this process holds its
        lock. The name is one under which ``logdir`` has no events yet, of a run
        elsewhere or of one that is gone.

        Args:
            source: Which data the run uses: ``"full"`` or ``"sample"``.
        """
        if self.folder is not None:
            return
        config = self.config
        parent = pathlib.Path(config.runs) / self.recipe
        wanted = config.name or f"{config.cell}-{config.preset}-{config.seed}"
        names = [wanted]
        if not config.name:
            names += [f"{wanted}-{number}" for number in range(2, 1000)]
        new = RunFolder(parent / f".new-{secrets.token_hex(8)}")
        try:
            new.path.mkdir(parents=True)
            choices = dataclasses.asdict(config)
            manifest = {"recipe": self.recipe, "data": source, "config": choices}
            write_json(new.manifest, manifest)
            self.lock = lock(new.manifest)
            folders = (RunFolder(parent / name) for name in names)
            self.folder = next(
                (folder for folder in folders if self._take_name(new.path, folder)),
                None,
            )
        except OSError as error:
            raise UserError(
                f"cannot create {parent / wanted}: {error.strerror}"
            ) from error
        finally:
            shutil.rmtree(new.path, ignore_errors=True)
        remove_abandoned(parent)
        if self.folder is None:
            taken = RunFolder(parent / names[-1])
            if config.logdir and not taken.path.exists():
                taken = taken.events(config.logdir)
            raise UserError(f"{taken} exists: choose another --name")

    def _take_name(self, new, folder):
        """Rename ``new`` and reserve the folder of events; return if both were free."""
        if not self.config.logdir:
            return rename(new, folder.path)
        events = folder.events(self.config.logdir)
        if os.path.realpath(events) == os.path.realpath(folder.path):
            return rename(new, folder.path)
        try:
            events.mkdir(parents=True)
        except FileExistsError:
            return False
        except OSError as error:
            raise UserError(f"cannot create {events}: {error.strerror}") from error
        renamed = False
        try:
            renamed = rename(new, folder.path)
        finally:
            if not renamed:
                events.rmdir()
        return renamed

    def resume_command(self):
        """Return the command that resumes this run."""
        return f"make resume RUN={shlex.quote(str(self.folder))}"


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
    """Remove unnamed folders that killed processes left behind in ``parent``.

    They are older than `ABANDONED_AFTER`, and no process holds their lock.
    """
    for path in parent.glob(".new-*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > ABANDONED_AFTER:
                manifest = RunFolder(path).manifest
                held = lock(manifest) if manifest.exists() else contextlib.nullcontext()
                if held is not None:
                    with held:
                        shutil.rmtree(path)


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


def reopen(folder, configs):
    """Lock a folder and return its run, ready to be resumed; None if it is finished.

    Args:
        folder: The `RunFolder`.
        configs: Dict from the recipes to the classes of their configurations.

    Raises:
        RunIsLocked: Another process works on it.
        UserError: It is no run, it is damaged, or its training diverged.
    """
    if not os.path.isdir(folder.path):
        raise UserError(f"there is no run {folder}")
    if not os.path.isfile(folder.manifest):
        raise UserError(
            f"{folder} is not a run that can be resumed: "
            f"it has no {folder.manifest.name}"
        )
    manifest = folder.read_manifest()
    try:
        config = configs[manifest["recipe"]](**manifest["config"])
        config.check()
    except (KeyError, TypeError, UserError) as error:
        raise folder.damaged_manifest() from error
    try:
        held = lock(folder.manifest)
    except OSError as error:
        raise UserError(f"cannot write in {folder}: {error.strerror}") from error
    if held is None:
        raise RunIsLocked(f"another process is working on {folder}")
    with contextlib.suppress(OSError):
        for leftover in folder.path.glob("unfinished-*"):
            leftover.unlink()
    if folder.is_finished:
        with held, contextlib.suppress(OSError):
            folder.checkpoint.unlink()
        return None
    if folder.has_diverged:
        held.close()
        raise UserError(
            f"the training of {folder} diverged, and would again: "
            f"{folder.diverged} says how; begin a new run"
        )
    return Run(manifest["recipe"], config, manifest["data"], folder, held)


def find_runs(runs):
    """Return the folders of all runs below ``runs``, the one begun last first."""
    begun = {}
    for path in pathlib.Path(runs).glob("*/[!.]*"):
        folder = RunFolder(path)
        for file in (folder.manifest, folder.metrics):
            if os.path.exists(file):
                begun.setdefault(folder, file.stat().st_mtime_ns)
    return sorted(begun, key=begun.get, reverse=True)
