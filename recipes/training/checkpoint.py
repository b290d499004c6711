"""Keeps the best model of a run, and all that is needed to resume it."""

import io
import json
import sys
import time

import keras
import numpy as np

from recipes.run.command_line import UserError
from recipes.run.files import Damaged, atomic_write, read, save_model, write_csv
from recipes.run.values import Allowed, check_entries

SHARE = Allowed(float, least=0, most=1)
AMOUNT = Allowed(float, least=0, most=sys.float_info.max)
COUNT = Allowed(int, least=1, most=10**12)
#: What a checkpoint's progress holds.
PROGRESS = {
    "rows": Allowed(list),
    "step": COUNT,
    "seconds": AMOUNT,
    "best": SHARE,
}
#: What a row of the history holds.
ROW = {
    "validation": COUNT,
    "step": COUNT,
    "accuracy": SHARE,
    "loss": AMOUNT,
    "val_accuracy": SHARE,
    "val_loss": AMOUNT,
    "seconds": AMOUNT,
}
#: Choices that do not change the result: they may be others when a run is resumed.
WITHOUT_EFFECT = ("name", "runs", "logdir", "target")

BOUND = float(np.finfo("float32").max) ** 0.5  # 1.8e19


def get_state(model):
    """Return copies of all that training changes: weights, seeds, optimiser."""
    return [
        np.array(variable.numpy())
        for variable in (*model.variables, *model.optimizer.variables)
    ]


def set_state(model, state):
    """Set all that training changes to what `get_state` returned."""
    variables = (*model.variables, *model.optimizer.variables)
    for variable, value in zip(variables, state, strict=True):
        variable.assign(value)


def check_bounded(figures, weights, step):
    """Raise FloatingPointError if training has diverged.

    It has if a figure or a weight is NaN or at least `BOUND`: products of two such
    numbers are infinite, and learning has ended long before.

    Args:
        figures: Dict from names to numbers.
        weights: List of arrays.
        step: How many steps are done.
    """
    for name, value in figures.items():
        if not abs(value) < BOUND:
            raise FloatingPointError(f"{name} is {value:.4g} after step {step:,}")
    for weight in weights:
        if not np.all(np.abs(weight) < BOUND):
            largest = np.max(np.abs(weight))
            raise FloatingPointError(f"a weight is {largest:.4g} after step {step:,}")


def write_checkpoint(path, progress, state, best_state):
    """Save what is needed to resume a run.

    Args:
        path: The file.
        progress: Anything that JSON can hold.
        state: List of arrays.
        best_state: List of arrays.
    """
    arrays = {"progress": np.array(json.dumps(progress, allow_nan=False))}
    arrays |= {f"state_{number}": value for number, value in enumerate(state)}
    arrays |= {f"best_{number}": value for number, value in enumerate(best_state)}
    with atomic_write(path) as unfinished:
        np.savez(unfinished, **arrays)


def parse_checkpoint(content, like, check_begun):
    """Return progress, state and best state, as given to `write_checkpoint`.

    Args:
        content: The bytes of the file.
        like: A state, whose shapes and types the states must have.
        check_begun: Called with the progress's ``begun``, None without one, before the
            rest is looked at.

    Raises:
        ValueError: They differ; other errors, too, if the file is damaged.
    """
    names = [
        f"{name}_{number}" for name in ("state", "best") for number in range(len(like))
    ]
    with np.load(io.BytesIO(content)) as arrays:
        progress = json.loads(str(arrays["progress"]))
        check_entries("progress", progress, PROGRESS)
        check_begun(progress.get("begun"))
        check_rows(progress)
        if sorted(arrays.files) != sorted(["progress", *names]):
            raise ValueError("it is of another model")
        values = [arrays[name] for name in names]
    for name, value, expected in zip(names, values, [*like, *like], strict=True):
        if (value.shape, value.dtype) != (expected.shape, expected.dtype):
            raise ValueError(
                f"{name} must be {expected.dtype} {expected.shape}, "
                f"got {value.dtype} {value.shape}"
            )
    return progress, values[: len(like)], values[len(like) :]


def check_rows(progress):
    """Raise ValueError unless the rows are those that a run can have written."""
    rows = progress["rows"]
    for number, row in enumerate(rows, 1):
        check_entries(f"row {number}", row, ROW)
        if row["validation"] != number or row.keys() != rows[0].keys():
            raise ValueError(f"row {number} does not follow the one before it")
    steps = [row["step"] for row in rows]
    if steps != sorted(set(steps)) or steps[-1:] != [progress["step"]]:
        raise ValueError(f"the rows do not lead to step {progress['step']}")
    if progress["best"] != max(row["val_accuracy"] for row in rows):
        raise ValueError(f"best is {progress['best']}, and that of no row")


def decisive(manifest):
    """Return the entries of a manifest that decide the result of its run."""
    entries = {**manifest["config"], "recipe": manifest["recipe"]}
    entries["data"] = manifest["data"]  # which the choice "auto" has become
    return {key: entries[key] for key in entries if key not in WITHOUT_EFFECT}


def check_begun(folder, begun):
    """Raise UserError unless a run is to do what it did when it began.

    Args:
        folder: Its `RunFolder`.
        begun: What `decisive` returned then.
    """
    Allowed(dict).check("begun", begun)
    changed = [
        f"{key} is {value!r} and was {begun.get(key)!r}"
        for key, value in decisive(folder.read_manifest()).items()
        if begun.get(key) != value
    ]
    if changed:
        raise UserError(
            f"{folder.manifest} was changed after the run began: "
            f"{', '.join(changed)}; change it back, then {folder.resume_command}"
        )


def write_phase(folder, path, arrays):
    """Keep what a phase before the training has computed: a dict of arrays."""
    begun = json.dumps(decisive(folder.read_manifest()))
    with atomic_write(path) as unfinished:
        np.savez(unfinished, begun=begun, **arrays)


def read_phase(folder, path, parse):
    """Return what ``parse`` makes of the arrays of `write_phase`.

    Where there is no such file, or it is damaged, it returns None: the phase can be
    repeated. Of a damaged one it prints a line.

    Raises:
        UserError: It cannot be read now, or ``config.json`` was changed since.
    """

    def parse_all(content):
        if not content.startswith(b"PK"):
            raise ValueError("it holds no arrays")
        with np.load(io.BytesIO(content)) as file:
            arrays = {name: file[name] for name in file.files}
        check_begun(folder, json.loads(str(arrays.pop("begun"))))
        return parse(arrays)

    try:
        return read(path, parse_all)
    except FileNotFoundError:
        return None
    except Damaged as error:
        print(f"WARNING: {error}: computing it again.", flush=True)
        return None


class BestAndCheckpoint(keras.callbacks.Callback):
    """Keeps the best model and all that is needed to resume; ends after ``steps``.

    Keras calls the interval between two validations an epoch. After each it writes
    ``history.csv``, saves the model if it is the best so far, and then writes the
    checkpoint, one file, from which `restore` sets all of this again.

    Training that diverges (`check_bounded`) ends with FloatingPointError, and nothing
    of that interval is written. The loss is checked after each step, the validation's
    figures and the weights after each validation.

    Attributes:
        rows: The history.
        step: How many steps are done.
        seconds: How long training took before this process.
        best: The best validation accuracy.
        best_state: The model's state then.
        begun: The choices that decide the result.
        interrupted: Set to True, it ends training after the current step, with
            KeyboardInterrupt.
    """

    def __init__(self, folder, steps, saved):
        super().__init__()
        self.folder, self.steps, self.saved = folder, steps, saved
        self.rows, self.step, self.seconds = [], 0, 0.0
        self.best, self.best_state = -1.0, None
        self.interrupted = False

    def on_train_begin(self, logs=None):
        """Start the clock of the run."""
        self.began = time.perf_counter()

    def on_epoch_begin(self, epoch, logs=None):
        """Start the clock of the interval."""
        self.started = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        """Count the step; stop after the last, or if the loss is out of bounds.

        Keras has fetched the figures already, for its progress bar.
        """
        self.step += 1
        check_bounded(logs, [], self.step)
        if self.step >= self.steps:
            self.model.stop_training = True
        elif self.interrupted:
            raise KeyboardInterrupt

    def on_epoch_end(self, epoch, logs=None):
        """Add a row to the history; keep the weights if they are the best so far."""
        state = get_state(self.model)
        check_bounded(logs, state[: len(self.model.variables)], self.step)
        row = {"validation": epoch + 1, "step": self.step, **logs}
        seconds = round(time.perf_counter() - self.started, 3)
        self.rows.append({**row, "seconds": seconds})
        write_csv(self.folder.history, self.rows)
        if logs["val_accuracy"] > self.best:
            self.best, self.best_state = logs["val_accuracy"], state
            save_model(self.folder.model, self.saved)
        progress = {
            "rows": self.rows,
            "step": self.step,
            "seconds": self.seconds + time.perf_counter() - self.began,
            "best": self.best,
            "begun": self.begun,
        }
        write_checkpoint(self.folder.checkpoint, progress, state, self.best_state)
        if self.interrupted:
            raise KeyboardInterrupt

    def on_train_end(self, logs=None):
        """Stop the clock of the run."""
        self.seconds += time.perf_counter() - self.began

    def restore(self, model):
        """Set model and callback as they were at the checkpoint, if there is one.

        ``history.csv`` and the saved model may be of a later validation: write them
        again.

        Raises:
            UserError: The checkpoint cannot be read, is damaged, or is of an earlier
                release, or ``config.json`` was changed since.
        """
        self.begun = decisive(self.folder.read_manifest())
        like = get_state(model)
        try:
            progress, state, self.best_state = self.folder.read(
                self.folder.checkpoint,
                lambda content: parse_checkpoint(content, like, self.check_begun),
            )
        except FileNotFoundError:
            return
        self.rows, self.step = progress["rows"], progress["step"]
        self.seconds, self.best = progress["seconds"], progress["best"]
        set_state(model, self.best_state)
        save_model(self.folder.model, self.saved)
        set_state(model, state)
        write_csv(self.folder.history, self.rows)
        print(f"Resuming after step {self.step:,} of {self.steps:,}.", flush=True)

    def check_begun(self, begun):
        """Raise UserError unless the run is to do what it did when it began.

        Args:
            begun: What the checkpoint says of that; None in an earlier release.
        """
        if begun is None:
            raise UserError(
                self.folder.lost("the checkpoint was written by an earlier release")
            )
        check_begun(self.folder, begun)
