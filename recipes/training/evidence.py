"""Evidence: what a linear model knows of each word, each pair and each triple."""

import numpy as np
import scipy.sparse

FOLDS = 10
STRENGTH = 3.0  # C of the logistic regression


def log_count_ratios(holds, labels, trust=None, least=2):
    """Return naive Bayes's log-count ratio r of each n-gram.

    r = ln((p / ‖p‖₁) / (q / ‖q‖₁)), where p is 1 + the trust in the good reviews that
    hold the n-gram, and q that in the bad ones. With a trust of 1 in each it is that of
    Wang & Manning, "Baselines and bigrams" (2012), section 2.1. N-grams that fewer than
    ``least`` reviews hold do not count: r is 0.

    Args:
        holds: Which review holds which n-gram, a sparse matrix of ones.
        labels: 1 for good, 0 for bad, ``(reviews,)``.
        trust: How much each review counts, from 0 to 1, ``(reviews,)``; None: each 1.
        least: The number of reviews that must hold an n-gram.
    """
    trust = np.ones(len(labels)) if trust is None else trust
    good, bad = (1 + (trust * (labels == label)) @ holds for label in (1, 0))
    known = holds.sum(axis=0) >= least
    ratios = np.log((good / good[known].sum()) / (bad / bad[known].sum()))
    return np.where(known, ratios, 0)


def weigh(holds, labels, trust, least):
    """Return two weights of each n-gram, ``(n-grams, 2)``.

    They are r, and r times its coefficient in a logistic regression on the reviews'
    n-grams, weighted with r: NBSVM of Wang & Manning, with the logistic loss, and
    without its interpolation. The arguments are those of `log_count_ratios`.
    """
    from sklearn.linear_model import LogisticRegression  # slow to import

    ratios = log_count_ratios(holds, labels, trust, least).astype("float32")
    weighted = holds @ scipy.sparse.diags_array(ratios)
    model = LogisticRegression(C=STRENGTH, max_iter=60, tol=1e-3)
    (coefficients,) = model.fit(weighted, labels, sample_weight=trust).coef_
    return np.stack([ratios, ratios * coefficients], axis=1)


def fit_evidence(layer, words, labels, groups, more=None, least=2):
    """Weigh the n-grams of training reviews; return the reviews' own weights.

    The layer gets the weights of all training reviews together. But a training review's
    own evidence must not hold its label: it is weighed without the tenth of the reviews
    in which it is itself, and all of its group. That holds for the labels: the
    probabilities of ``more`` may come from a network that has learnt from all of them.

    Args:
        layer: The `custom_layers.NgramWeights`, whose table is set.
        words: Word numbers ``(reviews, words)``.
        labels: 1 for good, 0 for bad, ``(reviews,)``.
        groups: The number of each review's group, ``(reviews,)``.
        more: More reviews, which always count: their word numbers, and the
            probabilities that they are good. A review counts as what is likelier, and
            the less, the nearer its probability p is to a half: ``|2p − 1|``.
        least: The number of reviews that must hold an n-gram of which anything is
            known.

    Returns:
        Array of float16, of the shape of what the layer returns for ``words``.
    """
    count, trust, folds = len(words), np.ones(len(words)), groups % FOLDS
    if more is not None:
        words, probabilities = np.concatenate([words, more[0]]), more[1]
        labels = np.concatenate([labels, probabilities > 0.5]).astype("int32")
        trust = np.concatenate([trust, np.abs(2 * probabilities - 1)])
        folds = np.concatenate([folds, np.full(len(probabilities), -1)])
    batches = np.split(words, range(1000, len(words), 1000))
    numbers = np.concatenate([np.asarray(layer.numbers(batch)) for batch in batches])
    is_one = numbers >= 0
    review = np.nonzero(is_one)[0].astype("int32")
    ngrams, index = np.unique(numbers[is_one], return_inverse=True)
    is_kept = np.bincount(index) >= least
    ngrams = ngrams[is_kept]
    # The rare ones, which are most, share the last row of all weights: zeros.
    row = np.where(is_kept, np.cumsum(is_kept) - 1, len(ngrams))[index].astype("int32")
    kept = row < len(ngrams)
    ones = np.ones(kept.sum(), "float32")
    holds = scipy.sparse.csr_array(
        (ones, (review[kept], row[kept])), shape=(len(words), len(ngrams))
    )
    layer.set_table(ngrams, weigh(holds, labels, trust, least))
    evidence = np.zeros((count, *numbers.shape[1:], 2), "float16")
    is_one = is_one[:count]  # from here on of `words` alone
    places = np.count_nonzero(is_one)
    review, row = review[:places], row[:places]
    for fold in range(FOLDS):
        others, inside = folds != fold, folds[:count] == fold
        weights = weigh(holds[others], labels[others], trust[others], least)
        weights = np.pad(weights, [[0, 1], [0, 0]])
        evidence[is_one & inside[:, None, None]] = weights[row[inside[review]]]
    return evidence
