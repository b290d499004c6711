"""Trains on IMDB what cannot read: ``python -m benchmarks.linear``.

A logistic regression on the words, pairs and triples that a review holds, each weighted
with its naive Bayes log-count ratio: NBSVM of Wang & Manning, "Baselines and bigrams"
(2012), with the logistic loss. It has the training and the validation reviews of the
program's default preset. ``TFDS_DATA_DIR`` names the folder of the data.
"""

import time

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from custom_layers import standardize_text
from recipes.data.datasets import load_imdb
from recipes.data.films import group_by_film, hold_out

STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0)  # C, of which the validation chooses


def main():
    """Train, and print both accuracies."""
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

    counts = counter.fit_transform(standardize(texts[~held_out]))
    labels, validation = labels[~held_out], labels[held_out]
    good, bad = (1 + counts[labels == label].sum(axis=0) for label in (1, 0))
    ratios = np.log((good / good.sum()) / (bad / bad.sum()))

    def weighted(counts):
        return counts.multiply(ratios).tocsr()

    held_out_counts = weighted(counter.transform(standardize(texts[held_out])))
    models = [
        LogisticRegression(C=strength, solver="liblinear").fit(weighted(counts), labels)
        for strength in STRENGTHS
    ]
    scores = [model.score(held_out_counts, validation) for model in models]
    best = int(np.argmax(scores))
    test = weighted(counter.transform(standardize(dataset.test[0])))
    accuracy = models[best].score(test, dataset.test[1])
    print(
        f"C = {STRENGTHS[best]}: validation {scores[best]:.4f}, test {accuracy:.4f}, "
        f"{time.perf_counter() - began:.0f} s"
    )


if __name__ == "__main__":
    main()
