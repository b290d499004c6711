"""Batches of the training data, and how many there are."""

import numpy as np
import tensorflow as tf

from recipes.run.command_line import UserError


def split_validation(data, size):
    """Cut the last ``size`` examples off: return the rest and these."""
    inputs, labels = data
    return (inputs[:-size], labels[:-size]), (inputs[-size:], labels[-size:])


def count_steps(config, examples):
    """Return the steps of an epoch, and of the training: the smaller of both limits.

    Raises:
        UserError: The examples do not fill one batch.
    """
    if config.batch > examples:
        raise UserError(
            f"--batch must be at most the {examples} training examples, "
            f"got {config.batch}"
        )
    steps_per_epoch = -(-examples // config.batch)
    limits = [config.epochs * steps_per_epoch, config.steps]
    return steps_per_epoch, min(limit for limit in limits if limit)


def make_batches(data, config, augment=None, start_step=0):
    """Return an endless stream of full batches: one shuffled epoch after another.

    The stream is a function of the seed and the position alone.

    Args:
        data: Inputs, an array or a dict of arrays, and labels, an array.
        config: Gives ``batch`` and ``seed``.
        augment: Called with a batch of inputs and a seed of two integers; returns the
            inputs to use.
        start_step: The step whose batch comes first.
    """
    inputs, labels = tf.nest.map_structure(tf.constant, data)

    # Converting would write files, also on a full disk.
    @tf.autograph.experimental.do_not_convert
    def shuffled(epoch):
        order = tf.range(tf.shape(labels)[0])
        order = tf.random.experimental.stateless_shuffle(
            order, seed=[config.seed, epoch]
        )
        return tf.data.Dataset.from_tensor_slices(order)

    @tf.autograph.experimental.do_not_convert
    def take(step, indices):
        batch = tf.nest.map_structure(lambda each: tf.gather(each, indices), inputs)
        if augment is not None:
            batch = augment(batch, [config.seed, step])
        return batch, tf.gather(labels, indices)

    epoch, used = divmod(start_step * config.batch, len(data[1]))
    order = (
        tf.data.Dataset.range(epoch, np.iinfo("int64").max)
        .flat_map(shuffled)
        .skip(used)
    )
    batches = order.batch(config.batch, drop_remainder=True).enumerate(start_step)
    return without_autotuning(batches.map(take).prefetch(2))


def make_validation_batches(data, devices):
    """Return the validation data in batches.

    Keras takes a first batch that devices share evenly alone; others may be uneven.

    Args:
        data: Inputs, an array or a dict of arrays, and labels, an array.
        devices: How many devices share each batch.
    """
    size = min(500, len(data[1])) // devices * devices
    return without_autotuning(tf.data.Dataset.from_tensor_slices(data).batch(size))


def without_autotuning(batches):
    """Turn off tf.data's autotuning: there is nothing to tune.

    Its thread, which sleeps longer and longer, delays the end of ``fit`` by up to half
    (measured).
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.with_options(options)
