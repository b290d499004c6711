"""Standardizes texts, so that the same text in other clothes has the same words."""

import functools
import string
import unicodedata
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

CHARACTERS = 0x30000  # those with larger numbers, hardly letters, are dropped
ZERO_WIDTH_SPACE = "\u200b"  # shows where a word may end; to Unicode it is no space
# Apostrophes, primes, slashes and a minus sign that are no punctuation to Unicode.
OTHER_PUNCTUATION = "\u02b9\u02ba\u02bb\u02bc\u02bd\u2044\u2212\u2215"
INVISIBLE = "\u034f" + "".join(map(chr, range(0xFE00, 0xFE10)))  # they choose glyphs


def fold(character):
    """Return what `standardize_text` makes of a character: none, one, or a few.

    >>> [fold(character) for character in "Éßﬁ…’"]
    ['e', 'ss', 'fi', '', '']
    """
    if character.isspace() or character == ZERO_WIDTH_SPACE:
        return " "
    if ord(character) >= CHARACTERS:
        return ""
    parts = unicodedata.normalize("NFKD", character).casefold()
    return "".join(
        part for part in unicodedata.normalize("NFKD", parts) if is_of_a_word(part)
    )


def is_of_a_word(part):
    """Return whether a decomposed character belongs to a word."""
    return not (
        part.isspace()  # an accent without a letter decomposes to a space and a mark
        or part in string.punctuation + OTHER_PUNCTUATION + INVISIBLE
        or unicodedata.category(part) in ("Cc", "Cf")  # control and format
        or unicodedata.category(part)[0] == "P"  # punctuation
        or unicodedata.combining(part) >= 200  # accents above and below a letter
    )


@functools.cache
def fold_table():
    """Return what the characters become, joined, and where each one's part begins."""
    folded = [
        "" if 0xD800 <= number < 0xE000 else fold(chr(number))  # a half of a pair
        for number in range(CHARACTERS)
    ]
    codes = np.array([ord(part) for text in folded for part in text], "int32")
    # The last row, which is empty, is that of all other characters.
    splits = np.cumsum([0, *map(len, folded), 0], dtype="int64")
    return codes, splits


@keras.saving.register_keras_serializable("custom_layers")
def standardize_text(texts: npt.ArrayLike) -> Any:
    """Return texts without case, punctuation, accents and typography.

    For ``keras.layers.TextVectorization(standardize=standardize_text)``. ASCII text
    becomes what Keras's default, ``"lower_and_strip_punctuation"``, makes of it; any
    other becomes what its plain form becomes:

    - Letters of every script lose their case, and their accents, composed or not;
      ligatures, full-width letters and other compatibility forms become plain letters
      (Unicode's NFKD and full case folding): ``É`` is ``e``, ``ß`` is ``ss``.
    - Punctuation of every script is dropped, as ASCII's is: quotes, apostrophes,
      primes, dashes, the minus sign and the ellipsis sign.
    - Soft hyphens, zero-width characters, the byte order mark, variation selectors and
      control characters are dropped.
    - White space of every kind is a space, and so is the zero-width space.
    - A byte that is no UTF-8 is ``U+FFFD``, and part of its word.

    Like the layer it needs TensorFlow. Its table is that of Python's ``unicodedata``.

    Args:
        texts: Strings, of any shape.

    Returns:
        A string tensor of the same shape.

    Example:
        >>> import tensorflow as tf
        >>> texts = tf.constant(["THEY call it “great”…", 'They call it "great"...'])
        >>> [text.decode() for text in standardize_text(texts).numpy()]
        ['they call it great', 'they call it great']
    """
    import tensorflow as tf  # the layers of this package do without it

    texts = tf.convert_to_tensor(texts, tf.string)
    flat = tf.reshape(texts, [-1])
    # ASCII, which most texts are, needs no table: that is three times as fast.
    lower = tf.strings.lower(flat)
    plain = tf.strings.regex_replace(lower, "[!-/:-@\\[-`{-~]", "")
    others = tf.where(~tf.strings.regex_full_match(flat, r"[\t-\r -~]*"))
    table = tf.RaggedTensor.from_row_splits(*fold_table(), validate=False)
    characters = tf.strings.unicode_decode(tf.gather_nd(flat, others), "UTF-8")
    folded = tf.gather(table, tf.minimum(characters, CHARACTERS)).merge_dims(-2, -1)
    folded = tf.strings.unicode_encode(folded, "UTF-8")
    return tf.reshape(
        tf.tensor_scatter_nd_update(plain, others, folded), tf.shape(texts)
    )
