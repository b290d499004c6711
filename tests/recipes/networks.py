"""Small networks with large random weights, and their answers to parts of inputs."""

import numpy as np
import tensorflow as tf

from custom_layers import NgramWeights
from recipes import imdb, mnist
from recipes.reading import word_numbers


def make_mnist(cell, rng):
    """Return a network of the classic preset."""
    model = mnist.make_classic(mnist.MnistConfig("classic", cell=cell, units=8))
    recurrent = model.layers[-2]
    recurrent.set_weights(
        [rng.uniform(-1, 1, weight.shape) for weight in recurrent.get_weights()]
    )
    return model


def answers_by_row(model, image):
    """Return what the model says of the image's first row, its first two, …"""
    recurrent, classify = model.layers[-2:]
    h = recurrent(np.repeat(image[None], 28, axis=0), mask=np.tri(28, dtype=bool))
    return np.asarray(classify(h))


def make_imdb(preset, cell, rng, words=50):
    """Return a network, and a tokenizer of the words ``w0`` to ``w39``."""
    config = imdb.ImdbConfig(
        preset, cell=cell, units=8, vocabulary=45, words=words, embedding=4
    )
    if preset == "classic":
        model = imdb.make_classic(config)
    else:
        model = imdb.make_modern(config, 9, with_regions=preset == "best")
    model.set_weights(
        [
            weight if weight.dtype == "int64" else rng.uniform(-1, 1, weight.shape)
            for weight in model.get_weights()
        ]
    )
    known = " ".join(f"w{number}" for number in range(40)).encode()
    tokenizer = imdb.make_tokenizer([known], config.vocabulary, words)
    if preset != "classic":
        weights, known = NgramWeights(config.vocabulary, kinds=2), np.arange(45)
        weights.set_table(known, rng.normal(size=(45, 2)))  # of words alone
        tokenizer = imdb.add_evidence(tokenizer, weights)
    return model, tokenizer


def answers_by_word(model, tokenizer, text):
    """Return what the network says of no word, the first, the first two, …"""
    tokenized = tokenizer(tf.constant([text]))
    (numbers,) = np.asarray(word_numbers(tokenized))
    begun = numbers * np.tri(np.sum(numbers != 0) + 1, len(numbers), -1, dtype="int32")
    begun[0, 0] = 1  # no word is an unknown one
    if isinstance(tokenized, dict):
        (weigh,) = [it for it in tokenizer.layers if isinstance(it, NgramWeights)]
        begun = {"words": begun, "evidence": np.asarray(weigh(begun))}
    return np.asarray(model(begun, training=False))[:, 0]
