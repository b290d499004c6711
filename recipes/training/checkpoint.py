"""Keeps the best model of a run, and all that is needed to resume it."""

import json
import time

import keras
import numpy as np

from recipes.run.command_line import UserError
from recipes.run.files import atomic_write, save_model, write_csv

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


def read_checkpoint(path, shapes):
    """Return progress, state and best state, as given to `write_checkpoint`.

    Args:
        path: The file.
        shapes: The shapes that the arrays of a state must have.

    Raises:
        UserError: The file is damaged, or of another model.
    """
    try:
        with open(path, "rb") as file, np.load(file) as arrays:
            progress = json.loads(str(arrays["progress"]))
            numbers = range(len(shapes))
            states = [
                [arrays[f"{name}_{number}"] for number in numbers]
                for name in ("state", "best")
            ]
    except Exception as error:  # a damaged file can raise almost anything
        raise UserError(
            f"the checkpoint {path} is damaged: this run cannot be resumed"
        ) from error
    if any([value.shape for value in state] != shapes for state in states):
        raise UserError(
            f"the checkpoint {path} is of another model: this run cannot be resumed"
        )
    return progress, *states


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
            UserError: The checkpoint is damaged, of another model, or of an earlier
                release.
        """
        path = self.folder.checkpoint
        if not path.exists():
            return
        shapes = [value.shape for value in get_state(model)]
        progress, state, self.best_state = read_checkpoint(path, shapes)
        self.rows, self.step = progress["rows"], progress["step"]
        self.seconds, self.best = progress["seconds"], progress["best"]
        if "validation" not in self.rows[0]:
            raise UserError(
                f"the checkpoint {path} was written by an earlier release: this run "
                f"cannot be resumed; its best model so far is {self.folder.model}"
            )
        set_state(model, self.best_state)
        save_model(self.folder.model, self.saved)
        set_state(model, state)
        write_csv(self.folder.history, self.rows)
        print(f"Resuming after step {self.step:,} of {self.steps:,}.", flush=True)
