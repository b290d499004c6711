"""MNIST as sequences: by rows, by pixels, and by pixels in a fixed random order."""

import dataclasses
import functools
import typing

import numpy as np

from recipes.comparison.tasks.task import (
    Chance,
    Head,
    Published,
    Task,
    cross_entropy,
    passes,
)
from recipes.data.datasets import load_mnist

#: Ours; the permutations of published figures are others.
PERMUTATION_SEED = 784
COOIJMANS = "Cooijmans et al. 2016 (arXiv 1603.09025), table 1"


@functools.cache
def load(source):
    """Return MNIST, or the built-in sample: see `recipes.data.datasets.load_mnist`."""
    return load_mnist(source)


@dataclasses.dataclass(frozen=True)
class MnistPixels(Task):
    """Digits, read bit by bit.

    After Le et al. 2015 (arXiv 1504.00941), section 4.2, who read pixels. An image of
    28×28 grey values from 0 to 1 is read in one of three orders: ``"rows"``, 28 steps
    of 28 pixels, as the MNIST program does; ``"pixels"``, 784 steps of one pixel, row
    by row; ``"permuted"``, 784 steps of one pixel in an order that was drawn once and
    is the same for all images.

    The images are MNIST's, or those of the built-in sample where there is neither a
    prepared copy nor a network: `data_warning` says so. Each pass is in a new order.
    The test set is the first 10,000 test images by rows, and the first 2,000 by pixels,
    which take 28 times as long. A guess is right one time in ten. "Solved" is ours: an
    accuracy of 98 %.

    Attributes:
        order: ``"rows"``, ``"pixels"`` or ``"permuted"``.
        data: ``"auto"``, ``"full"`` or ``"sample"``, for `load_mnist`.
    """

    order: str = "rows"
    data: str = "auto"
    permutation: typing.ClassVar[np.ndarray] = np.random.default_rng(
        PERMUTATION_SEED
    ).permutation(784)

    def encode(self, images):
        """Return images ``(count, 28, 28)`` of uint8 as sequences of float32."""
        x = images.astype("float32") / 255
        if self.order == "rows":
            return x
        x = x.reshape(-1, 784, 1)
        return x[:, self.permutation] if self.order == "permuted" else x

    def batches(self, seed, batch_size=None):
        """Yield images and labels ``(count,)`` for ever; no image twice in a pass."""
        images, labels = load(self.data).train
        count = batch_size or self.defaults.batch_size
        for chosen in passes(seed, len(labels), count):
            yield self.encode(images[chosen]), labels[chosen]

    def test(self, seed=0):
        """Return the test images and labels, whatever the seed."""
        images, labels = load(self.data).test
        most = 10_000 if self.order == "rows" else 2000
        return self.encode(images[:most]), labels[:most]

    def measure(self, outputs, targets):
        """Return accuracy and cross-entropy."""
        return {
            "accuracy": float(np.mean(outputs.argmax(axis=-1) == targets)),
            "cross_entropy": cross_entropy(outputs, targets),
        }

    def solved(self, figures):
        """Return whether 98 % of the images are right."""
        return figures["accuracy"] >= 0.98

    def data_warning(self):
        """Return what to say about the sample, or None."""
        return load(self.data).sample_warning


def make_mnist(order, defaults, published):
    """Return the task of one order."""
    return MnistPixels(
        name=f"mnist-{order}",
        goal=f"digits, {order}, a small network",
        source="Le et al. 2015, section 4.2, who read pixels",
        inputs=(28, 28) if order == "rows" else (784, 1),
        head=Head(
            10, "softmax", "sparse_categorical_crossentropy", return_sequences=False
        ),
        metric="accuracy",
        better="higher",
        chance=Chance(1 / 10, "ten classes; the most frequent one has 0.1135 in MNIST"),
        defaults=defaults,
        published=tuple(
            Published("lstm", value, COOIJMANS, "100 units; their own permutation")
            for value in published
        ),
        order=order,
    )
