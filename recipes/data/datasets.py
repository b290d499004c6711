"""The data sets of both programs: the real ones, or built-in samples."""

import dataclasses

from recipes.data import tfds
from recipes.data.samples import (
    sample_digits,
    sample_reviews,
    sample_unlabelled_reviews,
)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """One data set in memory.

    Attributes:
        source: ``"full"`` or ``"sample"``.
        description: What it is, in words.
        train: Inputs and labels of the training split, two arrays.
        test: Inputs and labels of the test split, two arrays.
    """

    source: str
    description: str
    train: tuple
    test: tuple

    @property
    def sample_warning(self):
        """What to tell the user about a sample, or None."""
        if self.source == "full":
            return None
        return (
            f"WARNING: this is {self.description}; its figures do not compare "
            "with the real data's."
        )


def load_mnist(source):
    """Return MNIST: images ``(n, 28, 28)`` of uint8, labels ``(n,)`` from 0 to 9.

    Args:
        source: ``"auto"``, ``"full"`` or ``"sample"``: see `load`.
    """
    return load("mnist", source, sample_digits)


def load_imdb(source):
    """Return the IMDB reviews: texts ``(n,)`` of bytes, labels ``(n,)``, 1 for good.

    Args:
        source: ``"auto"``, ``"full"`` or ``"sample"``: see `load`.
    """
    return load("imdb_reviews", source, sample_reviews)


def load_unlabelled_reviews(source):
    """Return IMDB's 50,000 texts without labels, ``(n,)`` of bytes.

    Args:
        source: ``"full"`` or ``"sample"``: that of the labelled ones.
    """
    if source == "sample":
        return sample_unlabelled_reviews()
    return tfds.load_unlabelled("imdb_reviews")


def load(name, source, sample):
    """Return a `Dataset`.

    Args:
        name: Name in TensorFlow Datasets.
        source: ``"auto"``: a prepared copy, else a download, else the sample, if no
            host answers. ``"full"``: the same, but fail instead of using the sample.
            ``"sample"``: the sample.
        sample: Function that returns the sample's description, training and test split.

    Raises:
        UserError: The prepared copy is damaged, the download fails, or, with
            ``"full"``, there is no network.
    """
    if source != "sample":
        loaded = tfds.load(name, needed=source == "full")
        if loaded is not None:
            return Dataset("full", *loaded)
    return Dataset("sample", *sample())
