"""Small built-in data sets, for trying the programs without a network."""

import numpy as np
import tensorflow as tf

from recipes.data.review_grammar import make_reviews


def sample_digits():
    """Return scikit-learn's 1,797 handwritten digits, laid out like MNIST's.

    MNIST's digits fill 20×20 pixels in the middle of 28×28; these, of 8×8 pixels in 17
    grey levels, are scaled to that. Every fifth digit is in the test split, so that the
    same hands wrote both splits: with 13 writers, a test of other hands would depend on
    who they are.

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
    is_test = np.arange(len(labels)) % 5 == 4
    return (
        "scikit-learn's sample of 1,797 digits, not MNIST",
        (images[~is_test], labels[~is_test]),
        (images[is_test], labels[is_test]),
    )


def sample_reviews():
    """Return made-up reviews, in which the order of the words decides.

    Returns:
        A description, and texts and labels of the training and of the test split.
    """
    train, test = make_reviews(4000, seed=1), make_reviews(1000, seed=2)
    return "a sample of 5,000 made-up reviews, not IMDB", train, test


def sample_unlabelled_reviews():
    """Return 2,000 more made-up reviews, without labels."""
    return make_reviews(2000, seed=3)[0]
