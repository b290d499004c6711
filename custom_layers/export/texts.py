"""What whoever feeds an exported model needs to make word numbers of a text."""

import json
import string
from typing import Any

import keras

from custom_layers.text import CHARACTERS, fold, standardize_text

#: The arguments of a layer whose vocabulary is enough to know the numbers.
NEEDED = {"output_mode": "int", "split": "whitespace", "ngrams": None, "ragged": False}
LETTERS = {letter: letter.lower() for letter in string.ascii_uppercase}
PUNCTUATION = dict.fromkeys(string.punctuation, "")
#: What Keras's own ways to standardise make of characters.
STANDARD: dict[str | None, dict[str, str]] = {
    None: {},
    "lower": LETTERS,
    "strip_punctuation": PUNCTUATION,
    "lower_and_strip_punctuation": LETTERS | PUNCTUATION,
}


def describe(layer: keras.layers.TextVectorization) -> dict[str, str]:
    """Return how a layer makes word numbers of a text, as metadata of a model.

    Args:
        layer: The layer.

    Returns:
        Dict of ``"vocabulary"``, the words one a line, the first with number 0, which
        pads, the second with 1, which stands for all unknown words; and, if the layer
        standardises texts as Keras can or with `standardize_text`, ``"characters"``: a
        JSON object from characters to what takes their place before a text is split,
        where ``""`` has the number from which on all are dropped. A layer with
        ``output_sequence_length`` cuts and pads texts to that length; whoever feeds the
        model has to, since its input has that length.

    Raises:
        ValueError: The layer does more than number words: see `NEEDED`. Or one of its
            words holds a line break.

    Example:
        >>> words = ["good", "film"]
        >>> make = keras.layers.TextVectorization
        >>> description = describe(make(vocabulary=words, standardize="lower"))
        >>> description["vocabulary"].split("\\n")
        ['', '[UNK]', 'good', 'film']
        >>> json.loads(description["characters"])["A"]
        'a'
    """
    config = layer.get_config()
    for name, needed in NEEDED.items():
        if config[name] != needed:
            raise ValueError(
                "ONNX has no texts, so that word numbers take their place: "
                f"{layer.name} must have {name}={needed!r}, got {config[name]!r}"
            )
    words = layer.get_vocabulary()
    for word in words:
        if "\n" in word:
            raise ValueError(
                "the file's metadata hold the words one a line: no word of "
                f"{layer.name} may hold a line break, got {str(word)!r}"
            )
    description = {"vocabulary": "\n".join(words)}
    characters = _characters(config["standardize"])
    if characters is not None:
        description["characters"] = json.dumps(characters, ensure_ascii=False)
    return description


def _characters(standardize: Any) -> dict[str, Any] | None:
    """Return what becomes of characters, None if nobody knows."""
    # Up to some release Keras gave the function itself.
    ours = standardize_text, keras.saving.serialize_keras_object(standardize_text)
    if standardize in ours:
        letters = (chr(n) for n in range(CHARACTERS) if not 0xD800 <= n < 0xE000)
        folded = {letter: fold(letter) for letter in letters}
        changed = {a: b for a, b in folded.items() if a != b}
        return changed | {"": CHARACTERS}
    if standardize is None or isinstance(standardize, str):
        return STANDARD[standardize] | {"": 0x110000}
    return None
