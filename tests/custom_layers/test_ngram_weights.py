"""N-grams and their weights, against a loop over tuples of words."""

import keras
import numpy as np
import pytest

from custom_layers import NgramWeights

VOCABULARY = 6


@pytest.fixture
def words():
    """Word numbers of 60 texts of 1 to 12 words, padded, in which words repeat."""
    rng = np.random.default_rng(6)
    words = rng.integers(1, VOCABULARY, (60, 12))
    words[np.arange(12) >= rng.integers(1, 13, (60, 1))] = 0
    return words


def loop(words, length):
    """Yield text, place and n-gram, as a tuple, where each stands last."""
    for text, row in enumerate(words.tolist()):
        found = {}
        for end in range(length, len(row) + 1):
            ngram = tuple(row[end - length : end])
            if 0 not in ngram:
                found[ngram] = end - 1
        for ngram, place in found.items():
            yield text, place, ngram


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


def test_each_ngram_of_a_text_has_its_number_where_it_stands_last(words):
    numbers = array(NgramWeights(VOCABULARY, longest=3).numbers(words))
    ngram_of, expected = {}, np.full((60, 12, 3), -1)
    for length in (1, 2, 3):
        for text, place, ngram in loop(words, length):
            number = numbers[text, place, length - 1]
            assert ngram_of.setdefault(number, ngram) == ngram
            expected[text, place, length - 1] = number
    assert len(set(ngram_of.values())) == len(ngram_of)  # each has one number
    np.testing.assert_array_equal(numbers, expected)
    assert min(ngram_of) > 0


def test_weights_are_those_of_the_table(words):
    rng = np.random.default_rng(7)
    layer = NgramWeights(VOCABULARY, longest=2, kinds=2)
    ngrams = {ngram for length in (1, 2) for *_, ngram in loop(words, length)}
    known = {it: rng.normal(size=2) for it in sorted(ngrams) if rng.random() < 0.6}
    digits = [VOCABULARY ** np.arange(len(it))[::-1] @ np.array(it) for it in known]
    order = rng.permutation(len(known))
    layer.set_table(np.array(digits)[order], np.array([*known.values()])[order])
    expected = np.zeros((60, 12, 2, 2))
    for length in (1, 2):
        for text, place, ngram in loop(words, length):
            expected[text, place, length - 1] = known.get(ngram, 0)
    assert 0.1 < np.mean(expected != 0) < 0.8
    np.testing.assert_allclose(array(layer(words)), expected, atol=2e-3)


def test_a_saved_layer_gives_the_same(words, tmp_path):
    layer = NgramWeights(VOCABULARY, longest=2, kinds=4)
    layer.set_table([1], np.full((1, 4), 5))
    layer.set_table([2, 3, 14], np.ones((3, 4)) * [[1], [2], [3]])  # in its place
    numbers = keras.Input((12,), dtype="int32")
    # What uses the weights must find their shape before the table is loaded.
    model = keras.Model(numbers, layer(numbers)[..., 1:])
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    weights = array(model(words))
    assert weights.shape == (60, 12, 2, 3) and set(np.unique(weights)) == {0, 1, 2, 3}
    np.testing.assert_array_equal(array(again(words)), weights)
    assert not again.trainable_variables


def test_the_largest_numbers_do_not_meet():
    vocabulary = 2**21 - 1
    layer = NgramWeights(vocabulary)
    texts = [[vocabulary - 1] * 3, [vocabulary - 1, vocabulary - 1, vocabulary - 2]]
    numbers = array(layer.numbers(np.array(texts)))[:, 2, 2]
    assert 0 < numbers[1] < numbers[0] < 2**63
    layer.set_table(numbers, [[1.0], [2.0]])
    assert array(layer(np.array(texts)))[:, 2, 2, 0].tolist() == [1, 2]


def test_a_table_without_ngrams_weighs_nothing(words):
    layer = NgramWeights(VOCABULARY, kinds=2)
    layer.set_table([], np.zeros((0, 2)))
    weights = array(layer(words))
    assert weights.shape == (60, 12, 3, 2) and not weights.any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vocabulary": 0}, "vocabulary must be at least 1, got 0"),
        ({"longest": 0}, "longest must be at least 1, got 0"),
        ({"kinds": 0}, "kinds must be at least 1, got 0"),
        ({"vocabulary": 2**21}, r"below 2\^63, got 2097152 \*\* 3"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        NgramWeights(**{"vocabulary": 5, **arguments})


def test_a_table_of_wrong_shapes():
    with pytest.raises(ValueError, match=r"got \(2,\) and \(3, 1\)"):
        NgramWeights(5).set_table([1, 2], [[1.0], [2.0], [3.0]])
