"""Evidence: what a linear model knows of each word, each pair and each triple."""

import numpy as np
import scipy.sparse

FOLDS = 10
LEAST = 2  # reviews that hold an n-gram of which anything is known
STRENGTH = 3.0  # C of the logistic regression


def log_count_ratios(holds, labels):
    """Return naive Bayes's log-count ratio r of each n-gram.

    r = ln((p / ‖p‖₁) / (q / ‖q‖₁)), where p is 1 + the number of good reviews that hold
    the n-gram, and q that of bad ones: Wang & Manning, "Baselines and bigrams" (2012),
    section 2.1. N-grams that fewer than `LEAST` reviews hold do not count: r is 0.

    Args:
        holds: Which review holds which n-gram, a sparse matrix of ones.
        labels: 1 for good, 0 for bad, ``(reviews,)``.
    """
    good, bad = (1.0 + holds[labels == label].sum(axis=0) for label in (1, 0))
    known = good + bad - 2 >= LEAST
    ratios = np.log((good / good[known].sum()) / (bad / bad[known].sum()))
    return np.where(known, ratios, 0)


def weigh(holds, labels):
    """Return two weights of each n-gram, ``(n-grams, 2)``.

    They are r, and r times its coefficient in a logistic regression on the reviews'
    n-grams, weighted with r: NBSVM of Wang & Manning, with the logistic loss.
    """
    from sklearn.linear_model import LogisticRegression  # slow to import

    ratios = log_count_ratios(holds, labels).astype("float32")
    weighted = holds @ scipy.sparse.diags_array(ratios)
    model = LogisticRegression(C=STRENGTH, max_iter=60, tol=1e-3)
    (coefficients,) = model.fit(weighted, labels).coef_
    return np.stack([ratios, ratios * coefficients], axis=1)


def fit_evidence(layer, words, labels, groups):
    """Weigh the n-grams of training reviews; return the reviews' own weights.

    The layer gets the weights of all training reviews together. But a training review's
    own evidence must not hold its label: it is weighed without the tenth of the reviews
    in which it is itself, and all of its group.

    Args:
        layer: The `custom_layers.NgramWeights`, whose table is set.
        words: Word numbers ``(reviews, words)``.
        labels: 1 for good, 0 for bad, ``(reviews,)``.
        groups: The number of each review's group, ``(reviews,)``.

    Returns:
        Array of float16, of the shape of what the layer returns.
    """
    numbers = np.asarray(layer.numbers(words))
    is_one = numbers >= 0
    review = np.nonzero(is_one)[0]
    ngrams, index = np.unique(numbers[is_one], return_inverse=True)
    is_kept = np.bincount(index) >= LEAST
    ngrams = ngrams[is_kept]
    # The rare ones, which are most, share the last row of all weights: zeros.
    row = np.where(is_kept, np.cumsum(is_kept) - 1, len(ngrams))[index]
    kept = row < len(ngrams)
    ones = np.ones(kept.sum(), "float32")
    holds = scipy.sparse.csr_array(
        (ones, (review[kept], row[kept])), shape=(len(words), len(ngrams))
    )
    layer.set_table(ngrams, weigh(holds, labels))
    evidence = np.zeros((*numbers.shape, 2), "float16")
    folds = groups % FOLDS
    for fold in range(FOLDS):
        inside = folds == fold
        weights = np.pad(weigh(holds[~inside], labels[~inside]), [[0, 1], [0, 0]])
        places = is_one & inside[:, None, None]
        evidence[places] = weights[row[inside[review]]]
    return evidence
