"""IMDB's film reviews: good or bad."""

import dataclasses
import functools

import keras
import numpy as np

from recipes.comparison.tasks.task import Chance, Defaults, Head, Task, passes
from recipes.data.datasets import load_imdb
from recipes.imdb import in_batches, make_tokenizer

VOCABULARY, VECTOR = 5000, 32


@functools.cache
def load(source, length):
    """Return word numbers and labels of the training and test reviews, and a warning.

    The numbers are ``(reviews, length)``: of a review's last words, 0 before them where
    it has fewer.
    """
    dataset = load_imdb(source)
    tokenizer = make_tokenizer(dataset.train[0], VOCABULARY, length)

    def encode(texts):
        numbers = in_batches(tokenizer, texts)
        order = np.argsort(numbers != 0, axis=1, kind="stable")
        return np.take_along_axis(numbers, order, axis=1)

    train, test = (
        (encode(texts), labels.astype("float32")[:, None])
        for texts, labels in (dataset.train, dataset.test)
    )
    return train, test, dataset.sample_warning


@dataclasses.dataclass(frozen=True)
class Reviews(Task):
    """Film reviews, good or bad.

    Maas et al. 2011, "Learning Word Vectors for Sentiment Analysis": 25,000 reviews to
    train, 25,000 to test. The network reads the last hundred words, of 5,000 that it
    knows, each as a vector of 32 numbers that it learns; the largest value of each
    output over all steps decides. The vectors are the same number of weights for every
    cell. What the IMDB program knows besides (how good and bad each word and pair is)
    is left out, since it would hide what the cells differ in.

    The test set is 5,000 reviews, drawn once. A guess is right one time in two.
    "Solved" is ours: 88 % right, what a linear model of single words reaches on whole
    reviews.

    Attributes:
        data: ``"auto"``, ``"full"`` or ``"sample"``, for `load_imdb`.
    """

    data: str = "auto"

    def batches(self, seed, batch_size=None):
        """Yield numbers ``(count, T)`` and labels ``(count, 1)``, in passes."""
        (numbers, labels), _, _ = load(self.data, self.inputs[0])
        count = batch_size or self.defaults.batch_size
        for chosen in passes(seed, len(labels), count):
            yield numbers[chosen], labels[chosen]

    def test(self, seed=0):
        """Return the test reviews and labels, whatever the seed."""
        _, (numbers, labels), _ = load(self.data, self.inputs[0])
        chosen = np.random.default_rng(0).permutation(len(labels))[:5000]
        return numbers[chosen], labels[chosen]

    def make_model(self, make_recurrent):
        """Return a network: words' vectors, a recurrent layer, maximum, output."""
        numbers = keras.Input((None,), dtype="int32")
        vectors = keras.layers.Embedding(VOCABULARY, VECTOR)(numbers)
        vectors = keras.layers.SpatialDropout1D(0.3)(vectors)
        h = make_recurrent(return_sequences=True)(vectors)
        pooled = keras.layers.Dropout(0.3)(keras.layers.GlobalMaxPooling1D()(h))
        outputs = keras.layers.Dense(1, "sigmoid")(pooled)
        return keras.Model(numbers, outputs, name=self.name)

    def measure(self, outputs, targets):
        """Return the accuracy."""
        return {"accuracy": float(np.mean((outputs > 0.5) == (targets > 0.5)))}

    def solved(self, figures):
        """Return whether 88 % of the reviews are right."""
        return figures["accuracy"] >= 0.88

    def data_warning(self):
        """Return what to say about the sample, or None."""
        return load(self.data, self.inputs[0])[2]


IMDB = Reviews(
    name="imdb",
    goal="film reviews, a small network",
    source="Maas et al. 2011",
    inputs=(100, VECTOR),
    head=Head(1, "sigmoid", "binary_crossentropy", return_sequences=True),
    metric="accuracy",
    better="higher",
    chance=Chance(1 / 2, "as many good reviews as bad ones"),
    defaults=Defaults(steps=400, batch_size=64, learning_rate=2e-3),
)
