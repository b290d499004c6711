"""How training images are distorted."""

import numpy as np
import scipy.ndimage
import tensorflow as tf

from recipes import mnist


def test_interpolation_is_scipy_s(rng):
    images = rng.random((3, 28, 28), "float32")
    x, y = rng.uniform(-4, 31, (2, 3, 28, 28)).astype("float32")
    values = np.asarray(mnist.interpolate(images, x, y))
    for number, image in enumerate(images):
        expected = scipy.ndimage.map_coordinates(
            image, [y[number], x[number]], order=1, mode="grid-constant"
        )
        np.testing.assert_allclose(values[number], expected, atol=1e-5)


def test_nothing_changes_without_distortion(rng):
    images = rng.random((3, 28, 28), "float32")
    same = mnist.distort(tf.constant(images), [1, 2], 0.0)
    np.testing.assert_allclose(same, images, atol=1e-5)


def test_each_image_is_distorted_in_its_own_way():
    """And the same seed distorts in the same way again."""
    images = tf.constant(np.repeat(np.tri(28, dtype="float32")[None], 4, axis=0))
    first, again, other = (
        np.asarray(mnist.distort(images, seed, 1.0))
        for seed in ([1, 2], [1, 2], [1, 3])
    )
    np.testing.assert_array_equal(first, again)
    different = [*first, *other, np.tri(28)]
    for number, image in enumerate(different):
        for before in different[:number]:
            assert np.abs(image - before).max() > 0.3


def test_distortion_stays_within_its_limits():
    """A point moves by the 2 pixels, 10 % and 10 degrees of its distance, and bends."""
    images = np.zeros((500, 28, 28), "float32")
    images[:, 8:11, 18:21] = 1  # a spot, 6 pixels from the middle in both directions
    y, x = np.mgrid[:28, :28]
    distorted = np.asarray(mnist.distort(tf.constant(images), [4, 2], 1.0))
    weight = distorted.sum(axis=(1, 2))
    moved_x = (distorted * x).sum(axis=(1, 2)) / weight - 19
    moved_y = (distorted * y).sum(axis=(1, 2)) / weight - 9
    for moved in (moved_x, moved_y):
        assert 2 < np.abs(moved).max() < 5.5
        assert abs(moved.mean()) < 0.3
        assert 0.8 < moved.std() < 2
