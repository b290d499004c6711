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

from recipes.run import files
from recipes.run.command_line import UserError
from recipes.run.values import Allowed, check_entries

ABANDONED_AFTER = (
    3600  # seconds: older unnamed folders were left behind by killed processes
)

#: The entries of ``config.json``, and those of its ``config`` that every run has.
MANIFEST = {
    "recipe": Allowed(str),
    "data": Allowed(str, choices=("full", "sample")),
    "config": Allowed(dict),
}
CONFIG = dict.fromkeys(
    ("cell", "preset"), Allowed(str, pattern=r"[\w-]{1,40}", words="a name")
)


class RunIsLocked(UserError):
    """Another process works on the run."""


class IsNoRun(UserError):
    """The folder cannot be resumed: it is not there, or has no ``config.json``."""


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
    guesses = _file("guesses.npz")  # IMDB, preset best: labels of unlabelled reviews
    regions = _file("regions.npz")  # the same: vectors of words, after each pass
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
        return os.path.isfile(self.metrics)

    @property
    def has_diverged(self):
        """Whether the run's training diverged: it would do so again."""
        return os.path.isfile(self.diverged)

    def events(self, logdir):
        """Return where the run writes its events for TensorBoard."""
        name = os.path.basename(os.path.abspath(self.path))
        return pathlib.Path(logdir) / self.recipe / name

    @property
    def resume_command(self):
        """The command that resumes the run."""
        return f"make resume RUN={shlex.quote(str(self))}"

    def read(self, path, parse):
        """Return what ``parse`` makes of a file that resuming needs.

        Raises:
            FileNotFoundError: There is no such file.
            UserError: It cannot be read now, or it is damaged: it says how to resume,
                or what is left.
        """
        try:
            return files.read(path, parse)
        except files.Unreadable as error:
            raise files.Unreadable(
                f"{error}; nothing is lost: when that is solved, {self.resume_command}"
            ) from error
        except files.Damaged as error:
            raise files.Damaged(self.lost(error)) from error

    def lost(self, reason):
        """Say that the run cannot be resumed, why, and what is left of it."""
        left = f"; its best model so far is still there: {self.model}"
        return (
            f"{reason}: this run cannot be resumed"
            f"{left if os.path.isfile(self.model) else ''}"
        )

    def read_manifest(self, parse=None):
        """Return what ``config.json`` holds: see `MANIFEST`.

        Args:
            parse: Called with it; returns what to return instead.

        Raises: See `read`.
        """

        def parse_all(content):
            manifest = json.loads(content)
            check_entries("it", manifest, MANIFEST)
            check_entries("config", manifest["config"], CONFIG)
            return parse(manifest) if parse else manifest

        return self.read(self.manifest, parse_all)


class Run:
    """One run of a program, new or resumed.

    Attributes:
        recipe: ``"mnist"`` or ``"imdb"``.
        config: The choices; ``logdir`` is absolute, so that a resumed run logs to the
            same place.
        source: Which data to load: ``config.data``, or, of a resumed run, what it used
            so far.
        folder: The `RunFolder`, None before it exists.
        versions: Of a resumed run, the versions that it began with, as far as known.
        kernel: Of a resumed run, its recurrent layers' kernels at first, or None.
    """

    def __init__(
        self,
        recipe,
        config,
        source=None,
        folder=None,
        lock=None,
        versions=None,
        kernel=None,
    ):
        if config.logdir:
            config = dataclasses.replace(config, logdir=os.path.abspath(config.logdir))
        self.recipe, self.config, self.source = recipe, config, source or config.data
        self.folder, self.lock = folder, lock
        self.versions, self.kernel = versions or {}, kernel

    @property
    def events(self):
        """Where the run writes its events for TensorBoard, or None."""
        return self.folder.events(self.config.logdir) if self.config.logdir else None

    def make_folder(self, source, kernel):
        """Create the run's folder, never an existing one, unless the run is resumed.

        The folder takes its name when it holds the manifest and this process holds its
        lock. The name is one under which ``logdir`` has no events yet, of a run
        elsewhere or of one that is gone.

        Args:
            source: Which data the run uses: ``"full"`` or ``"sample"``.
            kernel: The kernels of its recurrent layers, in one line.
        """
        if self.folder is not None:
            return
        # It imports TensorFlow, which the table of runs does without.
        from recipes.run.environment import versions

        config = self.config
        parent = pathlib.Path(config.runs) / self.recipe
        wanted = config.name or f"{config.cell}-{config.preset}-{config.seed}"
        names = [wanted]
        if not config.name:
            names += [f"{wanted}-{number}" for number in range(2, 1000)]
        new = RunFolder(parent / f".new-{secrets.token_hex(8)}")
        try:
            new.path.mkdir(parents=True)
            manifest = {
                "recipe": self.recipe,
                "data": source,
                "versions": versions(),
                "kernel": kernel,
                "config": dataclasses.asdict(config),
            }
            files.write_json(new.manifest, manifest)
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
        IsNoRun: It is no run.
        UserError: It cannot be read, it is damaged, or its training diverged.
    """

    def parse(manifest):
        Allowed(str, choices=tuple(configs)).check("recipe", manifest["recipe"])
        began = manifest.get("versions", {})
        check_entries("versions", began, dict.fromkeys(began, Allowed(str)))
        kernel = manifest.get("kernel")
        if kernel is not None:  # earlier releases did not note it
            Allowed(str).check("kernel", kernel)
        config = configs[manifest["recipe"]].restore(manifest["config"])
        return manifest["recipe"], config, manifest["data"], began, kernel

    try:
        recipe, config, data, began, kernel = folder.read_manifest(parse)
    except FileNotFoundError as error:
        if not os.path.isdir(folder.path):
            raise IsNoRun(f"there is no run {folder}") from error
        raise IsNoRun(
            f"{folder} is not a run that can be resumed: "
            f"it has no {folder.manifest.name}"
        ) from error
    try:
        held = lock(folder.manifest)
    except OSError as error:
        raise UserError(
            f"cannot write in {folder}: {error.strerror}; "
            f"when that is solved: {folder.resume_command}"
        ) from error
    if held is None:
        raise RunIsLocked(f"another process is working on {folder}")
    with contextlib.suppress(OSError):
        for leftover in folder.path.glob("unfinished-*"):
            shutil.rmtree(leftover)
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
    return Run(recipe, config, data, folder, held, began, kernel)


def find_runs(runs):
    """Return the folders of all runs below ``runs``, the one begun last first.

    Also those that may be runs, and cannot be looked into.

    Raises:
        UserError: ``runs`` cannot be looked into.
    """
    try:
        parents = list_folders(pathlib.Path(runs))
    except OSError as error:
        raise UserError(f"cannot read {runs}: {error.strerror}") from error
    begun = {}
    for parent in parents:
        try:
            paths = list_folders(parent)
        except OSError:
            paths = [parent]
        begun |= {RunFolder(path): when_begun(RunFolder(path)) for path in paths}
    found = [folder for folder, begun_at in begun.items() if begun_at is not None]
    return sorted(found, key=begun.get, reverse=True)


def list_folders(path):
    """Return the folders in a folder, without hidden ones; none if it is none."""
    try:
        return [entry for entry in path.iterdir() if not entry.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return []


def when_begun(folder):
    """Return when a run was begun, 0 if that cannot be seen, None if it is no run."""
    for file in (folder.manifest, folder.metrics):
        try:
            return file.stat().st_mtime_ns
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            return 0
    return None
