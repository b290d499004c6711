"""What a run leaves in its folder. Every file appears under its name only when it is complete."""

import contextlib
import csv
import importlib.metadata
import json
import os
import platform

import keras
import numpy as np
import tensorflow as tf

from recipes.command_line import UserError


@contextlib.contextmanager
def complete_file(path):
    """Give the path of a file to write, which takes the name ``path`` when all went well."""
    unfinished = path.with_name(f"unfinished-{path.name}")
    try:
        yield unfinished
        with open(unfinished, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except Exception:  # a full disk, often: give the room back
        unfinished.unlink(missing_ok=True)
        raise


def write_json(path, value):
    """Write a value as JSON."""
    with complete_file(path) as unfinished:
        unfinished.write_text(json.dumps(value, indent=2) + "\n")


def write_history(path, rows):
    """Write a list of dicts with equal keys as CSV."""
    with complete_file(path) as unfinished, open(unfinished, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def save_model(path, model):
    """Save a Keras model."""
    with complete_file(path) as unfinished:
        model.save(unfinished)


def write_checkpoint(path, progress, state, best_state):
    """Save what a run needs to go on.

    Args:
        path: The file.
        progress: Anything that JSON can hold.
        state: List of arrays.
        best_state: List of arrays.
    """
    arrays = {"progress": np.array(json.dumps(progress))}
    arrays |= {f"state_{number}": value for number, value in enumerate(state)}
    arrays |= {f"best_{number}": value for number, value in enumerate(best_state)}
    with complete_file(path) as unfinished:
        np.savez(unfinished, **arrays)


def read_checkpoint(path, shapes):
    """Return progress, state and best state, as given to `write_checkpoint`.

    Args:
        path: The file.
        shapes: The shapes that the arrays of a state must have.

    Raises:
        UserError: The file is damaged.
    """
    try:
        with open(path, "rb") as file, np.load(file) as arrays:
            progress = json.loads(str(arrays["progress"]))
            numbers = range(len(shapes))
            states = [
                [arrays[f"{name}_{number}"] for number in numbers]
                for name in ("state", "best")
            ]
    except (
        Exception
    ) as error:  # a damaged file can raise almost anything in NumPy and zipfile
        raise UserError(
            f"the checkpoint {path} is damaged: this run cannot go on"
        ) from error
    if any([value.shape for value in state] != shapes for state in states):
        raise UserError(
            f"the checkpoint {path} is of another model: this run cannot go on"
        )
    return progress, *states


class EventLog(keras.callbacks.Callback):
    """Writes the figures of every validation as events for TensorBoard, which need not be installed."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder
        self.scalars = tf.compat.v1.SummaryMetadata()
        self.scalars.plugin_data.plugin_name = "scalars"

    def on_train_begin(self, logs=None):
        """Open the file."""
        try:
            self.writer = tf.summary.create_file_writer(str(self.folder))
        except tf.errors.OpError as error:
            raise OSError(
                f"cannot write events to {self.folder}: {error.message}"
            ) from error

    def on_epoch_end(self, epoch, logs=None):
        """Write one event for each figure, at the number of steps taken."""
        step = int(self.model.optimizer.iterations.numpy())
        try:
            with self.writer.as_default():
                for name, value in logs.items():
                    tf.summary.write(
                        name, tf.constant(value, "float32"), step, self.scalars
                    )
            self.writer.flush()
        except tf.errors.OpError as error:
            raise OSError(
                f"writing events to {self.folder} failed: {error.message}"
            ) from error

    def on_train_end(self, logs=None):
        """Close the file."""
        self.writer.close()


def device_name():
    """Return the device that Keras computes on, with the processor's name where it is known."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = tf.config.experimental.get_device_details(gpus[0])
        return f"GPU: {details.get('device_name', gpus[0].name)}"
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        names = [
            line.split(":", 1)[1].strip()
            for line in file
            if line.startswith("model name")
        ]
        name = names[0] if names else name
    return f"CPU: {name}, {os.cpu_count()} cores"


def versions():
    """Return the versions that a result depends on."""
    packages = ("tensorflow", "keras", "numpy", "tensorflow-datasets")
    return {
        "python": platform.python_version(),
        "backend": keras.backend.backend(),
        **{package: importlib.metadata.version(package) for package in packages},
    }
