"""What a run leaves in its folder. Every file appears under its name only when it is complete."""

import contextlib
import csv
import importlib.metadata
import json
import os
import platform

import keras
import tensorflow as tf


@contextlib.contextmanager
def complete_file(path):
    """Give the path of a file to write, which takes the name ``path`` when all went well."""
    unfinished = path.with_name(f"unfinished-{path.name}")
    yield unfinished
    with open(unfinished, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(unfinished, path)


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


def device_name():
    """Return the device that Keras computes on, with the processor's name where it is known."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = tf.config.experimental.get_device_details(gpus[0])
        return f"GPU: {details.get('device_name', gpus[0].name)}"
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
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
