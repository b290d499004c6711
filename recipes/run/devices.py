"""Devices that share each batch of the training."""

import contextlib
import functools

import tensorflow as tf

from recipes.run.command_line import UserError


def prepare(count):
    """Make virtual devices of the CPU where there is no GPU and one is not enough.

    TensorFlow must not have started.

    Raises:
        UserError: There are fewer GPUs, or TensorFlow has started with fewer devices.
    """
    if count == 1:
        return
    if not tf.config.list_physical_devices("GPU"):
        (cpu,) = tf.config.list_physical_devices("CPU")
        virtual = [tf.config.LogicalDeviceConfiguration()] * count
        with contextlib.suppress(RuntimeError):  # it has started
            tf.config.set_logical_device_configuration(cpu, virtual)
    kind = _kind()
    if count > (existing := len(tf.config.list_logical_devices(kind))):
        raise UserError(
            f"--devices must be at most {existing}, the number of {kind}s that "
            f"TensorFlow has here, got {count}"
        )


def shared_by(count):
    """Return the context in which to create a model that ``count`` devices train.

    Each device trains with its part of every batch, and the gradients are added up.
    """
    return contextlib.nullcontext() if count == 1 else _mirrored(count).scope()


def of(model):
    """Return the context in which to create what belongs to a model."""
    return model.distribute_strategy.scope()


@functools.cache  # a second strategy of one process would mix up its sums with these
def _mirrored(count):
    devices = tf.config.list_logical_devices(_kind())[:count]
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def _kind():
    return "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
