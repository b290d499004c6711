"""Small built-in data sets, for trying the programs without a network."""

import numpy as np
import tensorflow as tf

from recipes.data.review_grammar import make_reviews


def sample_digits():
    """Return scikit-learn's 1,797 handwritten digits, laid out like MNIST's.

    MNIST's digits fill 20×20 pixels in the middle of 28×28; these, of 8×8 pixels in 17
    grey levels, are scaled to that. The last fifth is the test split: it was written by
    other hands.

    Returns:
        A description, and images and labels of the training and of the test split.
    """
    import sklearn.datasets  # slow, and needed for the sample alone

    digits = sklearn.datasets.load_digits()
    grey = digits.images[..., None] * (255 / 16)
    large = tf.image.resize(grey, (20, 20), method="bicubic").numpy()[..., 0]
    images = (
        np.pad(large, ((0, 0), (4, 4), (4, 4))).clip(0, 255).round().astype("uint8")
    )
    labels = digits.target.astype("int32")
    size = len(labels) * 4 // 5
    return (
        "scikit-learn's sample of 1,797 digits, not MNIST",
        (images[:size], labels[:size]),
        (images[size:], labels[size:]),
    )


def sample_reviews():
    """Return made-up reviews, in which the order of the words decides.

    Returns:
        A description, and texts and labels of the training and of the test split.
    """
    train, test = make_reviews(4000, seed=1), make_reviews(1000, seed=2)
    return "a sample of 5,000 made-up reviews, not IMDB", train, test
