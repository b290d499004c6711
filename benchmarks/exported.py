"""Compare a run's ONNX model with its Keras model on all test examples.

    make export RUN=runs/mnist/lstm-modern-1
    .venv/bin/python -m benchmarks.exported runs/mnist/lstm-modern-1

It prints the largest difference between two probabilities, and how many answers differ.
"""

import numpy as np

from recipes.data.datasets import load_imdb, load_mnist
from recipes.predict import load
from recipes.run.command_line import UserError, exit_with
from recipes.run.folder import RunFolder

BATCH = 500


def main(arguments):
    """Compare the models of a run's folder; return the exit status."""
    if len(arguments) != 1:
        raise UserError(f"the argument must be one run folder, got {arguments}")
    model = RunFolder(arguments[0]).model
    (keras_model, recipe), (onnx_model, _) = map(
        load, (model, model.with_suffix(".onnx"))
    )
    if recipe == "imdb":
        test = load_imdb("auto").test[0]
        as_texts = [bytes(text).decode() for text in test]
    else:
        test = load_mnist("auto").test[0] / np.float32(255)
    largest, others = 0.0, 0
    for first in range(0, len(test), BATCH):
        batch = slice(first, first + BATCH)
        expected = np.asarray(keras_model.predict_on_batch(test[batch]))
        given = as_texts if recipe == "imdb" else test
        actual = onnx_model.predict_on_batch(given[batch])
        largest = max(largest, np.max(np.abs(actual - expected)))
        others += np.count_nonzero(answers(actual) != answers(expected))
    print(
        f"{recipe}: {len(test):,} test examples, largest difference {largest:.1e}, "
        f"{others:,} answers differ"
    )
    return 0


def answers(probabilities):
    """Return the likelier class of each example."""
    if probabilities.shape[1] == 1:
        return probabilities[:, 0] > 0.5
    return probabilities.argmax(axis=1)


if __name__ == "__main__":
    exit_with(main)
