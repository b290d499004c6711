"""Vectors of words that tell, by regions of a text, which words stand around them.

After Johnson & Zhang 2015, "Semi-supervised Convolutional Neural Networks for Text
Categorization via Region Embedding" (arXiv 1504.01255), section 3: a region is a few
words in a row, a bag of them, and from its vector the words of the neighbouring regions
are predicted. That needs no labels. What differs: a logistic loss with shared negative
words in place of squared errors over all words.
"""

import keras
import numpy as np
import tensorflow as tf
from keras import ops

REGION = 5  # words
UNITS = 256  # of a region's vector
PASSES = 5
CHUNK = 100  # words that are cut out of the texts in a row
BATCH = 64  # chunks
NEGATIVES = 1000  # words that all regions of a batch are to tell from their neighbours
LEARNING_RATE = 0.1  # of AdaGrad, at its start
COMMON = 1e-4  # neighbours of a larger share f of all words count √(COMMON / f)
POSITIVES_WEIGH = 1 / 5  # all neighbours together, against all negatives
PRIOR = 3.0  # subtracted from each score: the log-odds that a word is no neighbour


def region_vectors(vectors):
    """Return the vectors of the regions around each word, of length √units.

    Args:
        vectors: Of the words, ``(batch, words, units)``; zeros where there is none.
    """
    sums = keras.layers.AveragePooling1D(REGION, strides=1, padding="same")(vectors)
    return unit_mean_square(ops.relu(sums))


def unit_mean_square(vectors):
    """Return vectors scaled to a mean square of 1; zeros stay zeros."""
    square = ops.mean(ops.square(vectors), axis=-1, keepdims=True)
    return vectors * ops.rsqrt(square + 1e-12)


class RegionLearner:
    """Learns the vectors; `save` and `load` keep all that goes on from pass to pass.

    The texts are read as one, each after the one before, so that a few neighbours are
    of another text.

    Args:
        words: Word numbers of all texts, ``(texts, words)``, 0 where there is none and
            1 where it is unknown.
        vocabulary: Words from this number on are unknown.
        seed: Of the first vectors and of the order.
    """

    def __init__(self, words, vocabulary, seed):
        self.words = np.where(words < vocabulary, words, 1)[words > 0]
        self.seed, self.done = seed, 0
        count = np.bincount(self.words, minlength=vocabulary).astype("float64")
        frequency = count / count.sum()
        count[:2] = 0  # what is unknown is no neighbour
        self.up_to = np.cumsum(count**0.75) / np.sum(count**0.75)
        weights = np.minimum(1, np.sqrt(COMMON / np.maximum(frequency, 1e-12)))
        self.weights = tf.constant(np.where(count > 0, weights, 0), "float32")
        rng = np.random.default_rng([seed, 0])
        first = rng.normal(0, 0.1, (vocabulary, UNITS)).astype("float32")
        # Of the words in a region, and of those around it. And AdaGrad's sums, one for
        # each word: of its gradient's mean square.
        self.inside, self.around = tf.Variable(first), tf.Variable(0 * first)
        small = np.full(vocabulary, 1e-8, "float32")
        self.sums = [tf.Variable(small), tf.Variable(small)]

    def learn_pass(self):
        """Go through all texts once; return the mean loss of a region."""
        rng = np.random.default_rng([self.seed, 1 + self.done])
        start = rng.integers(CHUNK)
        count = (len(self.words) - start) // CHUNK
        chunks = self.words[start : start + count * CHUNK].reshape(count, CHUNK)
        losses, order = [], rng.permutation(count)
        batches = np.split(order, range(BATCH, count, BATCH))
        for number, chosen in enumerate(batches):
            negatives = np.searchsorted(self.up_to, rng.random(NEGATIVES))
            rate = 1 - (self.done + number / len(batches)) / PASSES
            losses.append(
                self._step(
                    tf.constant(chunks[chosen], "int32"),
                    tf.constant(np.minimum(negatives, len(self.up_to) - 1), "int32"),
                    tf.constant(LEARNING_RATE * rate, "float32"),
                )
            )
        self.done += 1
        return float(np.mean(losses))

    @tf.function(
        input_signature=[
            tf.TensorSpec((None, CHUNK), "int32"),
            tf.TensorSpec((NEGATIVES,), "int32"),
            tf.TensorSpec((), "float32"),
        ]
    )
    def _step(self, chunks, negatives, rate):
        """Learn from chunks; return the mean loss of a region."""
        # Vectors of the words that are here, each once.
        words = tf.reshape(chunks, [-1])
        read, read_place = tf.unique(words)
        told, told_place = tf.unique(tf.concat([words, negatives], axis=0))
        inside, around = tf.gather(self.inside, read), tf.gather(self.around, told)
        with tf.GradientTape() as tape:
            tape.watch([inside, around])
            vectors = tf.reshape(tf.gather(inside, read_place), (-1, CHUNK, UNITS))
            sums = tf.nn.avg_pool1d(vectors, REGION, 1, "VALID")
            regions = unit_mean_square(tf.nn.relu(sums))
            targets = tf.gather(around, told_place)
            words = tf.reshape(targets[:-NEGATIVES], (-1, CHUNK, UNITS))
            scale = 2 / UNITS**0.5
            here = scale * tf.matmul(regions, words, transpose_b=True) - PRIOR
            weight = tf.gather(self.weights, chunks)[:, None] * neighbours()
            there = tf.reshape(regions, (-1, UNITS))
            there = tf.matmul(there, targets[-NEGATIVES:], transpose_b=True)
            there = tf.reduce_mean(tf.nn.softplus(scale * there - PRIOR))
            loss = tf.reduce_sum(weight * tf.nn.softplus(-here))
            loss += tf.reduce_sum(weight) / POSITIVES_WEIGH * there
            loss /= tf.cast(tf.size(regions) // UNITS, "float32")
        gradients = tape.gradient(loss, [inside, around])
        for table, sums, rows, gradient in zip(
            (self.inside, self.around), self.sums, (read, told), gradients, strict=True
        ):
            gradient = tf.convert_to_tensor(gradient)
            square = tf.gather(sums, rows) + tf.reduce_mean(gradient**2, axis=-1)
            sums.scatter_nd_update(rows[:, None], square)
            change = rate * gradient * tf.math.rsqrt(square)[:, None]
            table.scatter_nd_sub(rows[:, None], change)
        return loss

    def state(self):
        """Return everything that goes on from pass to pass, a dict of arrays."""
        return {"done": np.array(self.done), **self._tables()}

    def restore(self, state):
        """Take what `state` returned; raise ValueError if it does not fit."""
        tables = self._tables()
        found = {name: state[name] for name in tables}
        done = state["done"]
        for name, value in found.items():
            if value.shape != tables[name].shape or not np.all(np.isfinite(value)):
                raise ValueError(f"it holds no {name} of shape {tables[name].shape}")
        if done.shape != () or done not in range(PASSES + 1):
            raise ValueError(f"done must be from 0 to {PASSES}, got {done}")
        self.done = int(done)
        for variable, value in zip(self._variables(), found.values(), strict=True):
            variable.assign(value)

    def _variables(self):
        return self.inside, self.around, *self.sums

    def _tables(self):
        names = ("inside", "around", "sums_inside", "sums_around")
        return {
            name: variable.numpy()
            for name, variable in zip(names, self._variables(), strict=True)
        }


def neighbours():
    """Return which words of a chunk are neighbours of which region, of float32.

    They are the ``REGION`` words before it and those after it: ``(regions, CHUNK)``.
    """
    first = np.arange(CHUNK - REGION + 1)[:, None]
    place = np.arange(CHUNK) - first
    is_near = (place >= -REGION) & (place < 2 * REGION)
    return (is_near & ~((place >= 0) & (place < REGION))).astype("float32")
