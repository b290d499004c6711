"""MNIST and IMDB from TensorFlow Datasets, or samples that need no network.

``python -m recipes.datasets mnist`` downloads and prepares one data set.
"""

import dataclasses
import http.client
import os
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from recipes.command_line import UserError
from recipes.review_grammar import make_reviews

SOURCES = ("auto", "full", "sample")
ANSWER_SECONDS = 5  # how long a host may take to answer before we call it unreachable
DOWNLOAD_SECONDS = 1800  # how long TensorFlow Datasets may take to download and prepare
FULL_SIZES = {
    "mnist": {"train": 60_000, "test": 10_000},
    "imdb_reviews": {"train": 25_000, "test": 25_000},
}
INPUTS = {"mnist": "image", "imdb_reviews": "text"}


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
        return f"WARNING: this is {self.description}; its figures do not compare with the real data's."


def load_mnist(source):
    """Return MNIST: images ``(n, 28, 28)`` of uint8, labels ``(n,)`` from 0 to 9.

    Args:
        source: ``"auto"``, ``"full"`` or ``"sample"``: see `load`.
    """
    return load("mnist", source, sample_digits)


def load_imdb(source):
    """Return the IMDB reviews: texts ``(n,)`` of bytes, labels ``(n,)``, 1 for a good review.

    Args:
        source: ``"auto"``, ``"full"`` or ``"sample"``: see `load`.
    """
    return load("imdb_reviews", source, sample_reviews)


def load(name, source, sample):
    """Return a data set.

    Args:
        name: Name in TensorFlow Datasets.
        source: ``"auto"``: a prepared copy, else a download, else the sample, if no host answers.
            ``"full"``: the same, but fail instead of using the sample. ``"sample"``: the sample.
        sample: Function that returns the sample.

    Raises:
        UserError: The prepared copy is damaged, the download fails, or, with ``"full"``, there is
            no network.
    """
    if source == "sample":
        return sample()
    builder = make_builder(name)
    if not os.path.isdir(builder.data_path):
        unreachable = find_unreachable(builder)
        if unreachable is None:
            download(name, builder)
            builder = make_builder(name)  # which now finds the copy
        elif source == "full":
            raise UserError(
                f"no prepared {name} in {builder.data_path}, and {unreachable}: set TFDS_DATA_DIR to "
                "a folder that holds a prepared copy, or connect to the network, or use the sample "
                "with --data sample"
            )
        else:
            print(f"No prepared {name} in {builder.data_path}, and {unreachable}.")
            return sample()
    return read(name, builder)


def make_builder(name):
    """Return the TFDS builder for the folder in ``TFDS_DATA_DIR``, or for TFDS's own default."""
    try:
        return tfds.builder(
            name,
            data_dir=os.path.expanduser(os.environ.get("TFDS_DATA_DIR", "")) or None,
        )
    except (
        Exception
    ) as error:  # TFDS parses the prepared copy's files here; anything can be raised
        folder = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
        raise UserError(damaged(name, os.path.join(folder, name), error)) from error


def read(name, builder):
    """Read both splits of a prepared data set into memory."""
    splits = {}
    for split, size in FULL_SIZES[name].items():
        try:
            examples = tfds.as_numpy(builder.as_dataset(split=split, batch_size=-1))
            inputs, labels = examples[INPUTS[name]], examples["label"].astype("int32")
        except (
            Exception
        ) as error:  # a damaged file can raise almost anything in TFDS and TensorFlow
            raise UserError(damaged(name, builder.data_path, error)) from error
        if len(labels) != size:
            error = f"{split} has {len(labels)} examples instead of {size}"
            raise UserError(damaged(name, builder.data_path, error))
        splits[split] = (inputs[..., 0] if name == "mnist" else inputs, labels)
    description = (
        f"{name} of TensorFlow Datasets, {builder.info.version}, in {builder.data_path}"
    )
    return Dataset("full", description, splits["train"], splits["test"])


def damaged(name, folder, error):
    """Describe a damaged prepared copy in one line."""
    message = re.sub(
        r"\{\{.*?\}\}|\[Op:.*", "", str(error)
    ).strip()  # TensorFlow's names of operations
    reason = message.splitlines()[0] if message else type(error).__name__
    return (
        f"the prepared {name} in {folder} is damaged ({reason[:200].strip()}): "
        "delete that folder and run again, or use --data sample"
    )


def find_unreachable(builder):
    """Return None if every host that TFDS would download from answers, else which one does not."""
    urls = {url.split("/")[2]: url for url in builder.url_infos}
    for host, url in urls.items():
        if not answers(url):
            return f"{host} does not answer within {ANSWER_SECONDS} seconds"
    return None


def answers(url):
    """Return whether a host answers at all, within `ANSWER_SECONDS`, name look-up included."""
    answered = []

    def ask():
        request = urllib.request.Request(url, method="HEAD")
        try:
            urllib.request.urlopen(request, timeout=ANSWER_SECONDS).close()
        except urllib.error.HTTPError:
            answered.append(True)  # if only with a refusal
        except (
            OSError,
            http.client.HTTPException,
        ):  # the latter: what answers speaks no HTTP
            return
        else:
            answered.append(True)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(ANSWER_SECONDS)
    return bool(answered)


def download(name, builder):
    """Download and prepare a data set, in a process of its own, which can be stopped."""
    print(
        f"Downloading {name} to {builder.data_path} (at most {DOWNLOAD_SECONDS // 60} minutes) …"
    )
    command = [sys.executable, "-m", "recipes.datasets", name]
    try:
        finished = subprocess.run(
            command, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"downloading {name} took more than {DOWNLOAD_SECONDS // 60} minutes: try again, "
            "or use --data sample"
        ) from error
    if finished.returncode:
        reason = (finished.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(
            f"downloading {name} failed ({reason[:300]}): try again, or --data sample"
        )


def sample_digits():
    """Return scikit-learn's 1,797 handwritten digits, laid out like MNIST's.

    MNIST's digits fill 20×20 pixels in the middle of 28×28; these, of 8×8 pixels in 17 grey levels,
    are scaled to that. The last fifth tests: it was written by other hands.
    """
    import sklearn.datasets  # slow, and needed for the sample alone

    digits = sklearn.datasets.load_digits()
    grey = digits.images[..., None] * (255 / 16)
    large = tf.image.resize(grey, (20, 20), method="bicubic").numpy()[..., 0]
    images = (
        np.pad(large, ((0, 0), (4, 4), (4, 4))).clip(0, 255).round().astype("uint8")
    )
    labels = digits.target.astype("int32")
    size = len(labels) * 4 // 5
    return Dataset(
        "sample",
        "scikit-learn's sample of 1,797 digits, not MNIST",
        (images[:size], labels[:size]),
        (images[size:], labels[size:]),
    )


def sample_reviews():
    """Return reviews from `recipes.review_grammar`, in which the order of the words decides."""
    train, test = make_reviews(4000, seed=1), make_reviews(1000, seed=2)
    return Dataset("sample", "a sample of 5,000 made-up reviews, not IMDB", train, test)


if __name__ == "__main__":
    make_builder(sys.argv[1]).download_and_prepare()
