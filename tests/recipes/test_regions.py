"""Vectors of regions: what is a neighbour, and what is learnt from that."""

import numpy as np
import pytest

from recipes.training import regions
from recipes.training.regions import RegionLearner, neighbours, region_vectors

WORDS = 60  # in two topics, of which no text has both


def make_texts(rng):
    """Return texts of one topic each, ``(400, 110)``."""
    topic = rng.integers(0, 2, (400, 1))
    return rng.integers(2, 2 + WORDS // 2, (400, 110)) + WORDS // 2 * topic


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(regions, "UNITS", 8)
    monkeypatch.setattr(regions, "PASSES", 3)


def test_neighbours_are_the_five_words_before_and_after():
    near = neighbours()
    assert near.shape == (96, 100)
    for region in (0, 3, 50, 95):
        inside = range(region, region + 5)
        expected = [
            word not in inside and min(abs(word - it) for it in inside) <= 5
            for word in range(100)
        ]
        np.testing.assert_array_equal(near[region], expected)


def test_vector_of_a_region_by_hand(rng):
    """The positive part of the mean of five, scaled to a mean square of 1."""
    vectors = rng.normal(size=(2, 7, 4)).astype("float32")
    found = np.asarray(region_vectors(vectors))
    for middle in (2, 3, 4):
        mean = np.maximum(vectors[:, middle - 2 : middle + 3].mean(axis=1), 0)
        scale = np.sqrt(np.mean(mean**2, axis=-1, keepdims=True))
        np.testing.assert_allclose(found[:, middle], mean / scale, rtol=1e-4)
    assert not np.any(region_vectors(np.zeros((1, 5, 4), "float32")))


def test_words_of_a_topic_come_together(small, rng):
    learner = RegionLearner(make_texts(rng), 2 + WORDS, seed=1)
    losses = [learner.learn_pass() for _ in range(regions.PASSES)]
    assert losses[-1] < losses[0]
    vectors = learner.inside.numpy()[2:]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    alike = vectors @ vectors.T
    half = WORDS // 2
    same = np.mean([alike[:half, :half], alike[half:, half:]])
    assert same > 0.2 + alike[:half, half:].mean()


def test_a_pass_goes_on_from_the_state_of_another_learner(small, rng):
    texts = make_texts(rng)
    whole, first = (RegionLearner(texts, 2 + WORDS, seed=1) for _ in range(2))
    whole.learn_pass()
    whole.learn_pass()
    first.learn_pass()
    second = RegionLearner(texts, 2 + WORDS, seed=1)
    second.restore(first.state())
    second.learn_pass()
    assert second.done == 2
    np.testing.assert_array_equal(second.inside, whole.inside)
    np.testing.assert_array_equal(second.around, whole.around)
    other = RegionLearner(texts, 2 + WORDS, seed=2)
    other.learn_pass()
    assert np.any(other.inside.numpy() != first.inside.numpy())


@pytest.mark.parametrize("vocabulary", [9, 30])
def test_a_state_of_another_vocabulary_is_refused(vocabulary, small, rng):
    learner = RegionLearner(make_texts(rng), 2 + WORDS, seed=1)
    other = RegionLearner(make_texts(rng), vocabulary, seed=1)
    with pytest.raises(ValueError, match="it holds no inside of shape"):
        other.restore(learner.state())
