"""Batches of the training data."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from recipes import mnist
from recipes.training.batches import count_steps, make_batches


def test_steps_of_an_epoch_and_of_the_training():
    assert count_steps(mnist.PRESETS["classic"], 55_000) == (430, 10_000)
    assert count_steps(mnist.PRESETS["modern"], 55_000) == (430, 11_180)


@pytest.mark.parametrize("start_step", [0, 1, 7, 25])
def test_batches_begin_anywhere(start_step):
    config = dataclasses.replace(mnist.PRESETS["modern"], batch=3)
    data = np.arange(10.0), np.arange(10)

    def augment(inputs, seed):
        return inputs + tf.cast(seed[1], "float64") / 100

    whole = make_batches(data, config, augment).take(30)
    part = make_batches(data, config, augment, start_step).take(30 - start_step)
    wanted = list(whole.as_numpy_iterator())[start_step:]
    for expected, got in zip(wanted, part.as_numpy_iterator(), strict=True):
        np.testing.assert_array_equal(expected, got)


def test_an_epoch_holds_every_example_once():
    config = dataclasses.replace(mnist.PRESETS["modern"], batch=5)
    batches = make_batches((np.arange(10.0), np.arange(10)), config).take(6)
    labels = np.reshape([labels for _, labels in batches.as_numpy_iterator()], (3, 10))
    for epoch in labels:
        assert sorted(epoch) == list(range(10))
    assert len({tuple(epoch) for epoch in labels}) == 3
