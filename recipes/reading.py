"""Reads a digit row by row, or a review word by word: answers, and gates."""

import dataclasses
import re

import keras
import numpy as np
import tensorflow as tf

from custom_layers import trace_gates
from custom_layers.text import fold
from recipes.run.texts import decode

LONGEST = 90  # words of the review that is read
CANDIDATES = 6  # reviews among which it is chosen


@dataclasses.dataclass(frozen=True)
class Reading:
    """A review, read word by word.

    Attributes:
        index: Its number among the test reviews.
        label: ``"good"`` or ``"bad"``.
        words: Its n words.
        probabilities: Those of a good review, ``(n + 1,)``: after no word, one, two, …
        evidence: The log-count ratios of the word, the pair and the triple that end at
            each word, ``(n, 3)``; None if the network is not given them.
    """

    index: int
    label: str
    words: list
    probabilities: np.ndarray
    evidence: np.ndarray | None = None


def read_rows(model, images):
    """Read digits row by row.

    Args:
        model: An MNIST model.
        images: From 0 to 1, ``(n, 28, 28)``.

    Returns:
        The recurrent layer, the class probabilities after each row ``(n, 28, 10)``, and
        the layer's gates and states ``(n, 28, units)``, by name. Of a network that
        reads in several directions, the layer is the one that reads downwards, and the
        probabilities are those of the image whose further rows are black. Where it
        reads several rows in a step, each new one has the gates of that step.
    """
    layer, wrapper = first_recurrent(model)
    inputs = keras.Model(model.input, wrapper.input)(images)
    traces = trace_gates(layer, inputs)
    rows = 28 // inputs.shape[1]
    traces = {name: np.repeat(it, rows, axis=1) for name, it in traces.items()}
    if layer in model.layers:
        # The last layer, applied to h after each row.
        return layer, keras.ops.convert_to_numpy(model.layers[-1](traces["h"])), traces
    is_read = np.tri(28, dtype="float32")[:, :, None]  # after each row, which rows
    begun = np.reshape(images[:, None] * is_read, (-1, 28, 28))
    by_row = keras.ops.convert_to_numpy(model(begun, training=False))
    return layer, by_row.reshape(-1, 28, 10), traces


def first_recurrent(model):
    """Return the first recurrent layer of a model, and what wraps it, or itself.

    Of a bidirectional layer it is the one that reads forwards.
    """
    kinds = (keras.layers.RNN, keras.layers.Bidirectional)
    wrapper = next(layer for layer in model.layers if isinstance(layer, kinds))
    return getattr(wrapper, "forward_layer", wrapper), wrapper


def split_words(text):
    """Cut a text at the tokenizer's words; other marks stay with a word."""
    pieces, before = [], ""
    for piece in re.findall(r"[^\s\u200b]+", text):  # what `fold` makes a space
        if any(map(fold, piece)):
            pieces.append(before + piece)
            before = ""
        elif pieces:
            pieces[-1] += " " + piece
        else:
            before += piece + " "
    return pieces


def word_numbers(tokenized):
    """Return the word numbers in what a tokenizer returns: an array, or a dict."""
    return tokenized["words"] if isinstance(tokenized, dict) else tokenized


def read_words(read, tokenizer, words):
    """Return what a network says after each of a review's words, and their evidence.

    Args:
        read: Called with a tensor of texts; returns the probabilities ``(n, 1)``.
        tokenizer: The model from texts to what the network reads.
        words: The n words.

    Returns:
        The last two attributes of a `Reading`.
    """
    begun = [" ".join(words[:count]) for count in range(len(words) + 1)]
    said = np.asarray(read(tf.constant(begun)))[:, 0]
    tokenized = tokenizer(tf.constant(begun[-1:]))
    if not isinstance(tokenized, dict):
        return said, None
    return said, np.asarray(tokenized["evidence"])[0, : len(words), :, 0]


def read_word_by_word(model, tokenizer, texts, labels, probabilities):
    """Choose a review and predict after each of its words: return the `Reading`.

    Chosen among the first `CANDIDATES` test reviews of 20 to `LONGEST` words that the
    model gets right: the one on which the probability moved most. If there is none, the
    last words of the first review that has any.

    Raises:
        ValueError: No review holds a word.
    """
    most = min(LONGEST, word_numbers(tokenizer.output).shape[1])

    def read(begun):
        return model(tokenizer(begun), training=False)

    found = []
    for index in np.flatnonzero((probabilities > 0.5) == labels):
        words = split_words(decode(texts[index]))
        if 20 <= len(words) <= most:
            found.append((index, words))
        if len(found) == CANDIDATES:
            break
    if not found:
        split = ((index, split_words(decode(text))) for index, text in enumerate(texts))
        found = [(index, words[-most:]) for index, words in split if words][:1]
    if not found:
        raise ValueError("no test review holds a word")
    readings = []
    for index, words in found:
        label = "good" if labels[index] else "bad"
        said = read_words(read, tokenizer, words)
        readings.append(Reading(int(index), label, words, *said))
    return max(readings, key=lambda reading: np.ptp(reading.probabilities))


def trace_words(model, tokenizer, words):
    """Return the recurrent layer, and its traces on a review, ``(words, units)`` each.

    See `first_recurrent`.
    """
    tokenized = tokenizer(tf.constant([" ".join(words)]))
    layer, wrapper = first_recurrent(model)
    inputs, *_ = keras.tree.flatten(wrapper.input)  # the second, if any, is the mask
    sequences = keras.Model(model.input, inputs)(tokenized)
    traces = trace_gates(layer, sequences)
    numbers = np.asarray(word_numbers(tokenized))
    count = int(np.sum(numbers != 0))  # the words come first, the padding after them
    return layer, {
        name: values.reshape(-1, values.shape[-1])[:count]
        for name, values in traces.items()
    }
