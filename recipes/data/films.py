"""Finds the reviews of one film, so that they stay on one side of a cut.

The test reviews are of other films than the training reviews. Reviews of one film agree
more often than others, and they share names. If the validation's films were among the
training's, a model could learn the names, and its validation could look better than its
test.
"""

import numpy as np
import scipy.sparse

MOST = 100  # reviews that hold a rare word
LARGEST = 60  # reviews of one film, or of a few that are much alike


def group_by_film(texts):
    """Return for each review the number of its group; a group is about one film.

    The data do not name the film. Two reviews are the more alike the more rare words
    they share: Σ 1 / log2(n), over the words of both that n reviews hold, 2 ≤ n ≤ 100.
    The most similar ones come together first, down to a similarity of 1, in groups of
    at most 60 reviews. (IMDB has at most 30 reviews of a film.)

    Args:
        texts: The reviews, ``(n,)``, of bytes.

    Returns:
        Array ``(n,)`` of integers from 0 on.
    """
    from sklearn.feature_extraction.text import CountVectorizer  # slow to import

    counter = CountVectorizer(binary=True, decode_error="replace", dtype="float32")
    holds = scipy.sparse.csr_array(counter.fit_transform(texts))
    frequency = holds.sum(axis=0)
    rare = np.flatnonzero((frequency >= 2) & (frequency <= MOST))
    holds = holds[:, rare]
    weights = scipy.sparse.diags_array(1 / np.log2(frequency[rare]))
    alike = scipy.sparse.triu(holds @ weights @ holds.T, 1).tocoo()
    near = alike.data >= 1
    order = np.argsort(-alike.data[near], kind="stable")
    pairs = zip(alike.row[near][order], alike.col[near][order], strict=True)

    leader, size = np.arange(len(texts)), np.ones(len(texts), "int64")

    def find(review):
        while leader[review] != review:
            leader[review] = leader[leader[review]]
            review = leader[review]
        return review

    for pair in pairs:
        first, second = map(find, pair)
        if first != second and size[first] + size[second] <= LARGEST:
            leader[second] = first
            size[first] += size[second]
    leaders = [find(review) for review in range(len(texts))]
    return np.unique(leaders, return_inverse=True)[1]


def hold_out(groups, count):
    """Return which examples to hold out: those of the last groups, at least ``count``.

    The last groups of `group_by_film` are mostly small, since a group is numbered after
    its first review: of the 2,534 reviews that IMDB's program holds out, 78 % are a
    group each, of all 25,000 50 %.

    Args:
        groups: The number of each example's group, ``(n,)``.
        count: How many examples to hold out.

    Returns:
        Array ``(n,)`` of booleans.
    """
    from_here_on = np.cumsum(np.bincount(groups)[::-1])[::-1]
    return groups >= np.flatnonzero(from_here_on >= count)[-1]
