"""The weights of n-grams, against scikit-learn; and that none tells a label."""

import math

import numpy as np
import pytest
import scipy.sparse
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from custom_layers import NgramWeights
from recipes.training import evidence

VOCABULARY = 30


@pytest.fixture
def reviews(rng):
    """Word numbers of 300 reviews, labels that a word tells often, and groups."""
    words = rng.integers(1, VOCABULARY, (300, 15))
    words[np.arange(15) >= rng.integers(2, 16, (300, 1))] = 0
    labels = np.any(words == 7, axis=1) ^ (rng.random(300) < 0.2)
    return words, labels.astype("int32"), rng.integers(0, 40, 300)


def test_ratios_are_those_of_the_paper():
    holds = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [1, 1, 0, 1], [0, 1, 1, 0]])
    labels = np.array([1, 1, 1, 0])
    ratios = evidence.log_count_ratios(scipy.sparse.csr_array(holds), labels)
    p, q = [4, 3, 2], [1, 2, 2]  # the smoothed counts, without the rare last one
    expected = [math.log((p[k] / 9) / (q[k] / 5)) for k in range(3)] + [0]
    np.testing.assert_allclose(ratios, expected, rtol=1e-6)


def test_the_layer_gets_the_linear_model_of_all_reviews(reviews):
    """Its second weights, summed, are scikit-learn's own decision, but for a bias."""
    words, labels, groups = reviews
    layer = NgramWeights(VOCABULARY, kinds=2)
    evidence.fit_evidence(layer, words, labels, groups)
    weights = np.asarray(layer(words))
    counter = CountVectorizer(
        binary=True, ngram_range=(1, 3), min_df=2, token_pattern=r"\w+"
    )
    holds = counter.fit_transform(
        " ".join(f"w{it}" for it in row if it) for row in words
    )
    ratios = evidence.log_count_ratios(scipy.sparse.csr_array(holds), labels)
    np.testing.assert_allclose(
        weights[..., 0].sum(axis=(1, 2)), holds @ ratios, atol=2e-2
    )
    weighted = holds.multiply(ratios).tocsr()
    model = LogisticRegression(C=evidence.STRENGTH, max_iter=60, tol=1e-3)
    decision = model.fit(weighted, labels).decision_function(weighted)
    np.testing.assert_allclose(
        weights[..., 1].sum(axis=(1, 2)), decision - model.intercept_, atol=2e-2
    )


def test_a_review_s_evidence_is_that_of_the_other_folds(reviews):
    words, labels, groups = reviews
    own = evidence.fit_evidence(
        NgramWeights(VOCABULARY, kinds=2), words, labels, groups
    )
    for fold in (0, 7):
        inside = groups % evidence.FOLDS == fold
        layer = NgramWeights(VOCABULARY, kinds=2)
        # An n-gram that only this fold holds twice is rare outside: no weight.
        evidence.fit_evidence(layer, words[~inside], labels[~inside], groups[~inside])
        expected = np.asarray(layer(words[inside]))
        assert np.mean(expected[words[inside] > 0] != 0) > 0.1
        np.testing.assert_allclose(own[inside], expected, atol=2e-3)


def test_a_review_s_own_label_is_not_in_its_evidence(reviews):
    words, labels, groups = reviews
    before = evidence.fit_evidence(
        NgramWeights(VOCABULARY, kinds=2), words, labels, groups
    )
    inside = groups % evidence.FOLDS == 3
    labels = np.where(inside, 1 - labels, labels)
    after = evidence.fit_evidence(
        NgramWeights(VOCABULARY, kinds=2), words, labels, groups
    )
    np.testing.assert_array_equal(before[inside], after[inside])
    assert np.any(before[~inside] != after[~inside])


def test_more_reviews_count_by_their_probabilities(reviews):
    """Those of 0 and 1 as if they were labelled; those of a half as much as none."""
    words, labels, groups = reviews
    few = slice(200)

    def table(*arguments):
        layer = NgramWeights(VOCABULARY, kinds=2)
        evidence.fit_evidence(layer, *arguments)
        return layer(words)

    labelled = words[few], labels[few], groups[few]
    certain = words[200:], labels[200:].astype("float32")
    both = table(*labelled, certain)
    np.testing.assert_allclose(both, table(words, labels, groups), atol=2e-3)
    alone = table(*labelled)
    assert np.max(np.abs(np.asarray(both) - np.asarray(alone))) > 0.1
    undecided = words[few], np.full(200, 0.5)  # the n-grams of the same reviews
    doubled = table(*labelled, undecided, 4)  # each n-gram has twice as many holders
    np.testing.assert_allclose(doubled, alone, atol=2e-3)


def test_with_more_reviews_a_label_is_not_in_its_own_evidence(reviews):
    words, labels, groups = reviews
    few, more = slice(200), (words[200:], labels[200:] * 0.8 + 0.1)

    def own(labels):
        layer = NgramWeights(VOCABULARY, kinds=2)
        return evidence.fit_evidence(layer, words[few], labels, groups[few], more)

    inside = groups[few] % evidence.FOLDS == 3
    before = own(labels[few])
    after = own(np.where(inside, 1 - labels[few], labels[few]))
    assert before.shape == (200, 15, 3, 2)
    np.testing.assert_array_equal(before[inside], after[inside])
    assert np.any(before[~inside] != after[~inside])
    without = evidence.fit_evidence(
        NgramWeights(VOCABULARY, kinds=2), words[few], labels[few], groups[few]
    )
    assert np.any(before[inside] != without[inside])


def test_least_says_how_many_reviews_must_hold_an_n_gram():
    words = np.array([[1, 2], [1, 3], [1, 4], [2, 5]] * 3)
    labels, groups = np.arange(12) % 2, np.arange(12)
    layer = NgramWeights(VOCABULARY, longest=1, kinds=2)
    evidence.fit_evidence(layer, words, labels, groups, least=4)
    assert list(layer.table[0]) == [1, 2]  # of 9 and of 6 reviews, the others of 3
