"""What a run computes on: backend, device, threads and versions."""

import contextlib
import importlib.metadata
import os
import platform

import keras
import tensorflow as tf

import custom_layers
from recipes.run import devices
from recipes.run.keras_settings import check_backend


def set_up(config):
    """Seed everything, let TensorFlow run small operations side by side, make devices.

    Args:
        config: Gives ``seed`` and ``devices``.

    Raises:
        UserError: Keras uses another backend, or there are too few devices.
    """
    check_backend(keras.backend.backend())
    keras.utils.set_random_seed(config.seed)
    if not tf.config.list_physical_devices("GPU"):
        # TensorFlow keeps its threads once it has started.
        with contextlib.suppress(RuntimeError):
            tf.config.threading.set_intra_op_parallelism_threads(1)
            tf.config.threading.set_inter_op_parallelism_threads(os.cpu_count())
    devices.prepare(config.devices)


def device_name(count=1):
    """Return the device that Keras computes on, with its name where it is known.

    Args:
        count: How many devices share each batch.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = tf.config.experimental.get_device_details(gpus[0])
        shared = f"{count} of " if count > 1 else ""
        return f"GPU: {shared}{details.get('device_name', gpus[0].name)}"
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        names = [
            line.split(":", 1)[1].strip()
            for line in file
            if line.startswith("model name")
        ]
        name = names[0] if names else name
    shared = f" as {count} virtual devices" if count > 1 else ""
    return f"CPU: {name}, {os.cpu_count()} cores{shared}"


def versions():
    """Return the versions that a result depends on."""
    packages = ("tensorflow", "keras", "numpy", "tensorflow-datasets")
    return {
        "python": platform.python_version(),
        "backend": keras.backend.backend(),
        **{package: importlib.metadata.version(package) for package in packages},
        "custom_layers": custom_layers.__version__,
    }
