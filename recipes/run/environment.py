"""What a run computes on: backend, device, threads and versions."""

import contextlib
import importlib.metadata
import os
import platform

import keras
import tensorflow as tf

import custom_layers
from recipes.run.keras_settings import check_backend


def set_up(seed):
    """Seed everything, and let TensorFlow run small operations side by side.

    Raises:
        UserError: Keras uses another backend.
    """
    check_backend(keras.backend.backend())
    keras.utils.set_random_seed(seed)
    if not tf.config.list_physical_devices("GPU"):
        # TensorFlow keeps its threads once it has started.
        with contextlib.suppress(RuntimeError):
            tf.config.threading.set_intra_op_parallelism_threads(1)
            tf.config.threading.set_inter_op_parallelism_threads(os.cpu_count())


def device_name():
    """Return the device that Keras computes on, with its name where it is known."""
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
        "custom_layers": custom_layers.__version__,
    }
