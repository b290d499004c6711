"""The same text in other clothes has the same words, numbers and answers."""

import json
import os
import pathlib
import string
import subprocess
import sys
import unicodedata

import keras
import numpy as np
import pytest
import tensorflow as tf

from custom_layers import standardize_text
from custom_layers.text import CHARACTERS, fold
from recipes import imdb, predict, reading

ROOT = pathlib.Path(__file__).parents[2]
ISSUE = (
    'They call it "great", and it is "wonderful".',
    "They call it “great”, and it is “wonderful”.",
)

QUOTES = "“” „“ ‚‘ ‘’ «» »« ‹› ″″ ‟” 「」".split()
SPACES = "\x85\xa0\u1680\u202f\u205f\u3000\u2028\u2029" + "".join(
    map(chr, range(0x2000, 0x200C))
)
INVISIBLE = (
    "\xad\u034f\u061c\u180e\u200c\u200d\u200e\u200f\u202a\u202e\u2060\u2066\ufeff"
    "\U000e0061"
)


def each(name, signs, plain, dressed):
    """Return for each sign its name -> the plain text, and the text with the sign."""
    return {
        f"{name} {' '.join(f'U+{ord(part):04X}' for part in sign)}": (
            plain,
            dressed.format(*sign),
        )
        for sign in signs
    }


#: What is folded -> the same text in plain form and in other clothes.
CLOTHES = {
    "the issue's": ISSUE,
    "case": ("a great film", "A GREAT Film"),
    "case beyond ASCII": ("ärger straße œuvre σας", "ÄRGER STRASSE ŒUVRE ΣΑΣ"),
    "accents, composed": ("naive cliche", unicodedata.normalize("NFC", "naïve cliché")),
    "accents, decomposed": (
        unicodedata.normalize("NFC", "naïve cliché"),
        unicodedata.normalize("NFD", "naïve cliché"),
    ),
    "two accents": ("ế", "e\u0301\u0302"),
    "full-width": ('a great film: "8/10"', "ａ　ｇｒｅａｔ　ｆｉｌｍ： ＂８／１０＂"),
    "ligatures": ("the first film offers fluff", "the ﬁrst ﬁlm oﬀers ﬂuﬀ"),
    "superscripts": ("alien3", "alien³"),
    "variation selectors": ("a ❤ film", "a ❤\ufe0f film"),
    "control characters": ("a great film", "a gre\x1bat\x00 \x96film\x7f"),
    "ellipsis": ("great...film ...", "great…film …"),
    "no text": ("", "\ufeff\u200b “…” \u3000"),
    **each("quotes", QUOTES, 'a "great" film', "a {}great{} film"),
    **each("apostrophe", "’‘′´ʼ‛＇", "it isn't", "it isn{}t"),
    **each(
        "dash", "–—―‐‑‒−﹣－", "a well-made film - good", "a well{0}made film {0} good"
    ),
    **each("space", SPACES, "a great film", "{0}a{0}great{0}{0}film"),
    **each("invisible", INVISIBLE, "a great film", "{0}a gr{0}eat{0} film"),
}


@pytest.fixture(scope="module")
def tokenizer():
    """It knows the words of all plain texts."""
    return imdb.make_tokenizer(
        [plain.encode() for plain, _ in CLOTHES.values()], 99, 12
    )


@pytest.fixture(scope="module")
def reader(tokenizer, tmp_path_factory):
    """The path of a saved model."""
    config = imdb.ImdbConfig("classic", units=4, words=12, vocabulary=99, embedding=4)
    model = imdb.make_classic(config)
    rng = np.random.default_rng(5)
    for weight in model.trainable_weights:
        weight.assign(rng.uniform(-1, 1, weight.shape))
    text = keras.Input((), dtype="string")
    path = tmp_path_factory.mktemp("texts") / "model.keras"
    keras.Model(text, model(tokenizer(text))).save(path)
    return path


@pytest.mark.parametrize("name", CLOTHES)
def test_words_are_those_of_the_plain_text(name, tokenizer):
    plain, dressed = CLOTHES[name]
    numbers = np.asarray(tokenizer(tf.constant([plain, dressed])))
    np.testing.assert_array_equal(*numbers)
    assert 1 not in numbers or not plain  # all words are known
    assert len(reading.split_words(dressed)) == len(reading.split_words(plain))


def test_dressed_texts_teach_the_plain_words(tokenizer):
    dressed = [text.encode() for _, text in CLOTHES.values()]
    vocabularies = [
        words.get_layer("vectorize").get_vocabulary()
        for words in (tokenizer, imdb.make_tokenizer(dressed, 99, 12))
    ]
    assert vocabularies[0] == vocabularies[1]


def test_a_saved_model_needs_custom_layers_alone(reader):
    """In another process, which has raw texts and no recipe."""
    program = (
        "import json, sys, custom_layers, keras, tensorflow as tf\n"
        "model = keras.saving.load_model(sys.argv[1])\n"
        "texts = tf.constant(json.load(sys.stdin))\n"
        "print(json.dumps(model.predict(texts, verbose=0)[:, 0].tolist()))\n"
        "assert not any(name.startswith('recipes') for name in sys.modules)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, str(reader)],
        input=json.dumps([text for pair in CLOTHES.values() for text in pair]),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    answers = np.reshape(json.loads(result.stdout), (-1, 2))
    for name, (plain, dressed) in zip(CLOTHES, answers, strict=True):
        assert plain == dressed, name
    assert len({plain for plain, _ in answers}) > 10  # of different texts they differ


def test_predict_answers_a_dressed_text_as_the_plain_one(reader, tmp_path, capsys):
    pairs = [
        (plain, dressed)
        for plain, dressed in CLOTHES.values()
        if plain and "\0" not in dressed
    ]
    (tmp_path / "texts").write_text("\n".join(f"{a}\n{b}" for a, b in pairs))
    source = ["--file", str(tmp_path / "texts")]
    assert predict.main(["imdb", *source, "--run", str(reader), "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    answers = [json.loads(line)["probabilities"]["good"] for line in lines]
    assert answers[::2] == answers[1::2]
    assert len(set(answers)) > 10
    for text, answer in zip(ISSUE, answers, strict=False):
        arguments = ["imdb", "--text", text, "--run", str(reader), "--json"]
        assert predict.main(arguments) == 0
        result = json.loads(capsys.readouterr().out)
        assert result["probabilities"]["good"] == pytest.approx(answer)


def test_ascii_is_standardized_as_by_keras(rng):
    letters = string.ascii_letters + string.digits + string.punctuation + " \t\n\v\f\r"
    texts = ["".join(rng.choice(list(letters), 200)) for _ in range(50)]
    vocabularies = []
    for standardize in (standardize_text, "lower_and_strip_punctuation"):
        layer = keras.layers.TextVectorization(standardize=standardize, split=None)
        layer.adapt(texts)
        vocabularies.append(layer.get_vocabulary())
    assert vocabularies[0] == vocabularies[1]
    assert len(vocabularies[0]) == 52  # the texts, padding and the unknown


def test_no_character_needs_to_be_folded_twice():
    """And its decomposition, and other case, are folded to the same."""

    def folded(text):
        return "".join(map(fold, text))

    for number in range(CHARACTERS):
        if 0xD800 <= number < 0xE000:  # a half of a pair
            continue
        letter = chr(number)
        assert folded(fold(letter)) == fold(letter)
        # Keras saves one word a line.
        assert len(f"a{fold(letter)}b".splitlines()) == 1
        # An accent without a letter would become a space and an accent.
        is_whole = " " in unicodedata.normalize("NFKD", letter)
        for form in ("NFC", "NFD") if is_whole else ("NFC", "NFD", "NFKC", "NFKD"):
            assert folded(unicodedata.normalize(form, letter)) == fold(letter)
        if letter != "ı":  # whose upper case is that of i
            assert folded(letter.upper()) == folded(letter.lower()) == fold(letter)


def test_the_graph_folds_as_python_does():
    letters = [
        chr(number)
        for number in [*range(CHARACTERS), 0x30000, 0xE0061, 0x10FFFF]
        if not 0xD800 <= number < 0xE000
    ]
    found = standardize_text(tf.constant([f"a{letter}b" for letter in letters]))
    for letter, text in zip(letters, found.numpy(), strict=True):
        # White space of ASCII stays as it is: the layer splits there.
        kept = letter if letter in "\t\n\v\f\r" else fold(letter)
        assert text.decode() == f"a{kept}b"


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 1), (2, 0)])
def test_texts_of_any_shape(shape):
    texts = np.full(shape, "Él", object)
    found = standardize_text(tf.constant(texts, tf.string, shape)).numpy()
    np.testing.assert_array_equal(found, np.full(shape, b"el", object))


def test_what_is_not_utf_8_stays_with_its_word():
    (found,) = standardize_text([b"caf\xe9 gr\xffeat"]).numpy()
    assert found.decode() == "caf\ufffd gr\ufffdeat"
