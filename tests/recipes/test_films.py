"""Reviews of one film stay together."""

import numpy as np

from recipes.data.films import LARGEST, group_by_film, hold_out


def reviews_of(films, each, rng):
    """Return reviews of made-up films, in mixed order, and the number of the film.

    A film has 20 names of its own; a review has 16 of them, and common words.
    """
    common = [f"word{number}" for number in range(30)]
    film = rng.permutation(np.repeat(np.arange(films), each))
    texts = []
    for number in film:
        names = [f"name{number}x{part}" for part in rng.permutation(20)[:16]]
        texts.append(" ".join([*rng.choice(common, 20), *names]).encode())
    return np.array(texts, object), film


def test_groups_are_films(rng):
    texts, film = reviews_of(200, 5, rng)
    groups = group_by_film(texts)
    assert set(groups) == set(range(groups.max() + 1))
    for group in range(groups.max() + 1):
        assert len(set(film[groups == group])) == 1
    together = [len(set(groups[film == number])) == 1 for number in range(200)]
    assert np.mean(together) > 0.9


def test_a_group_does_not_grow_without_end(rng):
    texts, _ = reviews_of(3, 99, rng)
    groups = group_by_film(texts)
    assert 30 < np.bincount(groups).max() <= LARGEST


def test_reviews_without_rare_words_are_alone():
    groups = group_by_film(np.array([b"a good film", b"a bad film"] * 60, object))
    np.testing.assert_array_equal(groups, np.arange(120))


def test_whole_groups_are_held_out():
    groups = np.array([0, 3, 2, 3, 1, 2, 2, 0])
    np.testing.assert_array_equal(np.flatnonzero(hold_out(groups, 2)), [1, 3])
    np.testing.assert_array_equal(np.flatnonzero(hold_out(groups, 3)), [1, 2, 3, 5, 6])
    np.testing.assert_array_equal(np.flatnonzero(hold_out(np.arange(9), 3)), [6, 7, 8])
