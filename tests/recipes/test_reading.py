"""Reading a review word by word."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import answers_by_word, make_imdb

from custom_layers import LAYERS
from recipes import imdb, mnist, reading
from recipes.run.texts import decode, visible

WORDS = [f"w{number}" for number in range(40)]


@pytest.mark.parametrize(
    "text",
    [
        "Good - very, good!",
        "... yes <br /><br />No",
        "a\x85b \xa0 c",
        '"x" \t y\n z',
        " - ",
        "“x” — y… z",
        "\ufeff\u200ba\xadb c\u200bd \u200d e\x1b\x1cf",
        "´ ¨a¨ ﷺ ½",
    ],
)
def test_words_are_the_tokenizer_s(text):
    """One piece for each of its words, whatever stands between them."""
    tokenizer = imdb.make_tokenizer([b"a b"], 20, 50)
    count = np.sum(np.asarray(tokenizer(tf.constant([text]))) != 0)
    assert max(1, len(reading.split_words(text))) == count


def test_marks_stay_with_their_word():
    words = ["( Good ) -", "very,", "good!"]
    assert reading.split_words("( Good ) - very, good!") == words


@pytest.mark.parametrize("preset", ["classic", "modern"])
def test_the_review_that_moved_most_is_read(preset, monkeypatch, rng):
    """Among the first that are right and neither short nor long."""
    monkeypatch.setattr(reading, "LONGEST", 23)
    monkeypatch.setattr(reading, "CANDIDATES", 3)
    model, tokenizer = make_imdb(preset, "lstm", rng)
    lengths = [22, 19, 24, 20, 21, 23, 22]
    texts = [" ".join(rng.choice(WORDS, length)) for length in lengths]
    answers = [answers_by_word(model, tokenizer, text) for text in texts]
    probabilities = np.array([said[-1] for said in answers])
    labels = (probabilities > 0.5).astype(int)
    labels[4] = 1 - labels[4]
    chosen = max((0, 3, 5), key=lambda index: np.ptp(answers[index]))
    read = reading.read_word_by_word(
        model, tokenizer, [text.encode() for text in texts], labels, probabilities
    )
    assert read.index == chosen
    assert read.label == ("good" if labels[chosen] else "bad")
    assert read.words == texts[chosen].split()
    np.testing.assert_allclose(read.probabilities, answers[chosen], atol=1e-5)


def test_without_a_right_review_the_first_one_s_last_words_are_read(rng):
    model, tokenizer = make_imdb("classic", "simple-rnn", rng)
    words = rng.choice(WORDS, 120)
    text = " ".join(words)
    wrong = 1 - (answers_by_word(model, tokenizer, text)[-1:] > 0.5)
    read = reading.read_word_by_word(
        model, tokenizer, [text.encode()], wrong, np.array([1.0 - wrong[0]])
    )
    assert (read.index, read.words) == (0, list(words[-50:]))


def test_a_review_without_words_is_not_read(rng):
    model, tokenizer = make_imdb("classic", "simple-rnn", rng)
    texts, wrong = [b"", b" -", b"w1", b"w2 w3"], np.array([0, 0, 0, 0])
    probabilities = np.full(4, 0.9)
    read = reading.read_word_by_word(model, tokenizer, texts, wrong, probabilities)
    assert (read.index, read.words) == (2, ["w1"])
    with pytest.raises(ValueError, match="no test review holds a word"):
        reading.read_word_by_word(
            model, tokenizer, texts[:2], wrong[:2], probabilities[:2]
        )


@pytest.mark.parametrize("review", [b"caf\xe9", "caf\udce9", "caf\ud83d"])
def test_what_is_decoded_can_be_written(review):
    assert decode(review) == "caf\ufffd"


def test_text_is_made_visible():
    """All that is printed is printable, and what was printable stays."""
    everything = "".join(map(chr, range(0x110000)))
    shown = visible(everything)
    assert shown.isprintable()
    kept = "".join(letter for letter in everything if letter.isprintable())
    assert visible(kept) == kept
    assert visible("a\x1b[2J\n\u202e\ud800") == r"a\x1b[2J \u202e\ud800"


@pytest.mark.parametrize(
    ("preset", "cell"),
    [*itertools.product(["classic", "modern"], LAYERS), ("best", "coupled")],
)
def test_the_trace_is_what_the_network_s_own_layer_computes(preset, cell, rng):
    model, tokenizer = make_imdb(preset, cell, rng)
    words = list(rng.choice(WORDS, 30))
    _, traces = reading.trace_words(model, tokenizer, words)
    kinds = (keras.layers.RNN, keras.layers.Bidirectional)
    outer = next(layer for layer in model.layers if isinstance(layer, kinds))
    numbers = tokenizer(tf.constant([" ".join(words)]))
    outputs = np.asarray(keras.Model(model.input, outer.output)(numbers))
    assert {values.shape for values in traces.values()} == {(30, 8)}
    if preset == "classic":  # the last state
        np.testing.assert_allclose(traces["h"][-1], outputs[0], atol=1e-5)
    else:  # all states, and beside them those of the layer that reads backwards
        forward = outputs.reshape(-1, 16)[:30, :8]
        np.testing.assert_allclose(traces["h"], forward, atol=1e-5)


def test_a_network_of_four_directions_is_read_downwards(rng):
    """After r rows it says what it says of the image whose other rows are black."""
    model = mnist.make_best(mnist.MnistConfig("best", cell="gru", units=5), 9)
    model.set_weights([rng.uniform(-1, 1, w.shape) for w in model.get_weights()])
    images = rng.random((3, 28, 28)).astype("float32")
    layer, by_row, traces = reading.read_rows(model, images)
    wrapper = next(each for each in model.layers if "bidirectional" in each.name)
    assert layer is wrapper.forward_layer
    # It reads two new rows in a step, between the one before and the one after them:
    # both have the gates of that step.
    framed = np.pad(images, ((0, 0), (1, 1), (0, 0)))
    fours = [framed[:, row : row + 4].reshape(3, 112) for row in range(0, 28, 2)]
    expected = np.asarray(wrapper(np.stack(fours, axis=1)))[..., :5]
    np.testing.assert_allclose(traces["h"][:, ::2], expected, atol=1e-5)
    np.testing.assert_array_equal(traces["h"][:, 1::2], traces["h"][:, ::2])
    answers = np.asarray(model(images))
    np.testing.assert_allclose(by_row[:, -1], answers, atol=1e-5)
    images[:, 11:] = 0
    np.testing.assert_allclose(by_row[:, 10], np.asarray(model(images)), atol=1e-5)
    assert np.max(np.abs(by_row[:, 10] - answers)) > 0.01
