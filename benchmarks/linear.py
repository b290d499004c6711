"""Trains on IMDB what cannot read: ``python -m benchmarks.linear``.

A logistic regression on the words, pairs and triples that a review holds, each weighted
with its naive Bayes log-count ratio: NBSVM of Wang & Manning, "Baselines and bigrams"
(2012), with the logistic loss and without its interpolation. It has the training and
the validation reviews of the program's default preset. ``TFDS_DATA_DIR`` names the
folder of the data.
"""

import time

import numpy as np
import scipy.sparse
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from custom_layers import standardize_text
from recipes.data.datasets import load_imdb
from recipes.data.films import group_by_film, hold_out
from recipes.run.command_line import UserError, exit_with
from recipes.training.evidence import log_count_ratios

STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0)  # C, of which the validation chooses


def main(arguments):
    """Train, and print both accuracies; return the exit status."""
    if arguments:
        raise UserError(f"there are no flags, got {arguments[0]!r}")
    dataset = load_imdb("full")
    began = time.perf_counter()
    texts, labels = dataset.train
    held_out = hold_out(group_by_film(texts), len(texts) // 10)
    counter = CountVectorizer(
        preprocessor=lambda text: text,
        tokenizer=str.split,
        token_pattern=None,
        ngram_range=(1, 3),
        min_df=2,
        binary=True,
        dtype="float32",
    )

    def standardize(texts):
        return [text.decode() for text in standardize_text(texts).numpy()]

    holds = scipy.sparse.csr_array(counter.fit_transform(standardize(texts[~held_out])))
    labels, validation_labels = labels[~held_out], labels[held_out]
    weights = scipy.sparse.diags_array(log_count_ratios(holds, labels))

    def weighted(texts):
        return counter.transform(standardize(texts)) @ weights

    train, validation = holds @ weights, weighted(texts[held_out])
    models = [
        LogisticRegression(C=strength, solver="liblinear").fit(train, labels)
        for strength in STRENGTHS
    ]
    scores = [model.score(validation, validation_labels) for model in models]
    best = int(np.argmax(scores))
    accuracy = models[best].score(weighted(dataset.test[0]), dataset.test[1])
    print(
        f"C = {STRENGTHS[best]}: validation {scores[best]:.4f}, test {accuracy:.4f}, "
        f"{time.perf_counter() - began:.0f} s"
    )
    return 0


if __name__ == "__main__":
    exit_with(main)
