"""All pictures of a run: the same run gives the same pictures."""

import numpy as np

from recipes import reading
from recipes.pictures import curves, digits, page, reviews, words
from recipes.pictures.figure import skip_failed_picture


def draw_mnist(folder, model, test, probabilities):
    """Draw every picture of an MNIST run that can be drawn.

    Args:
        folder: The `RunFolder`, with its history.
        model: The model, from images to probabilities.
        test: Images from 0 to 1, ``(n, 28, 28)``, and their labels ``(n,)``.
        probabilities: The model's answers, ``(n, 10)``.
    """
    images, labels = test
    with skip_failed_picture(folder.curves):
        curves.draw_curves(folder.curves, folder.history)
    with skip_failed_picture(folder.confusion):
        digits.draw_confusion(folder.confusion, labels, probabilities.argmax(axis=1))
    with skip_failed_picture(folder.worst_digits):
        digits.draw_mistakes(folder.worst_digits, images, labels, probabilities)
    with skip_failed_picture(folder.gates):
        digits.draw_gates(folder.gates, model, images, labels, probabilities)


def draw_imdb(folder, model, tokenizer, test, probabilities):
    """Draw every picture of an IMDB run that can be drawn; write mistakes and page.

    Args:
        folder: The `RunFolder`, with its history.
        model: The model, from word numbers to the probability of a good review.
        tokenizer: The model from texts to word numbers.
        test: Texts ``(n,)`` of bytes, and their labels ``(n,)``.
        probabilities: The model's answers, ``(n, 1)``.
    """
    texts, labels = test
    probabilities = np.reshape(probabilities, -1)
    with skip_failed_picture(folder.curves):
        curves.draw_curves(folder.curves, folder.history)
    with skip_failed_picture(folder.calibration):
        reviews.draw_calibration(folder.calibration, labels, probabilities)
    with skip_failed_picture(folder.worst_reviews):
        reviews.write_mistakes(folder.worst_reviews, texts, labels, probabilities)
    with skip_failed_picture(folder.page, folder.gates):
        review = reading.read_word_by_word(
            model, tokenizer, texts, labels, probabilities
        )
        with skip_failed_picture(folder.page):
            page.write_page(folder.page, review)
        with skip_failed_picture(folder.gates):
            layer, traces = reading.trace_words(model, tokenizer, review.words)
            words.draw_words(folder.gates, review, layer, traces)
