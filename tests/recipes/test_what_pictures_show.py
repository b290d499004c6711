"""What the pictures of a run show, read from the figures before they are saved."""

import html.parser

import keras
import numpy as np
import pytest
import tensorflow as tf
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from custom_layers import LAYERS, trace_gates
from recipes import imdb, mnist, pictures


@pytest.fixture
def figures(monkeypatch):
    """The figures that are drawn; they are saved, too."""
    drawn = []

    def make(**options):
        drawn.append(Figure(**options))
        return drawn[-1]

    monkeypatch.setattr(pictures, "Figure", make)
    return drawn


@pytest.fixture
def rng():
    return np.random.default_rng(4)


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def lines(axes):
    """Return x and y of every line of a legend, by its label."""
    return {
        line.get_label(): np.array(line.get_data())
        for line in axes.get_lines()
        if line.get_label()[0] != "_"
    }


def test_curves(tmp_path, figures):
    """The kept epoch is the first of those with the best validation accuracy, as in training."""
    (tmp_path / "history.csv").write_text(
        "epoch,step,accuracy,loss,val_accuracy,val_loss,seconds\n"
        "1,10,0.5,1.5,0.25,1.75,3\n"
        "2,20,0.7,0.9,0.75,1.125,3\n"
        "3,30,0.8,0.6,0.75,0.875,3\n"
        "4,35,0.9,0.3,0.5,2.5,3\n"
    )
    pictures.draw_curves(tmp_path)
    (figure,) = figures
    for axes, name, train, validation, kept in zip(
        figure.axes,
        ("loss", "accuracy"),
        ([1.5, 0.9, 0.6, 0.3], [0.5, 0.7, 0.8, 0.9]),
        ([1.75, 1.125, 0.875, 2.5], [0.25, 0.75, 0.75, 0.5]),
        (1.125, 0.75),
        strict=True,
    ):
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("training step", name)
        assert axes.get_title() == f"{name}: {kept} where kept"
        shown = lines(axes)
        assert legend(axes) == list(shown) == ["train", "validation", "kept: epoch 2"]
        np.testing.assert_array_equal(shown["train"], [[10, 20, 30, 35], train])
        np.testing.assert_array_equal(
            shown["validation"], [[10, 20, 30, 35], validation]
        )
        np.testing.assert_array_equal(shown["kept: epoch 2"][0], [20, 20])
        ring = axes.get_lines()[-1]
        np.testing.assert_array_equal(ring.get_data(), [[20], [kept]])
        colours = [line.get_color() for line in axes.get_lines()]
        assert len(set(colours[:3])) == 3 and colours[3] == colours[1]


def test_confusion(tmp_path, figures, rng):
    """Rows are the digits, columns what they were taken for; the right ones have no colour."""
    labels, predictions = rng.integers(0, 10, 400), rng.integers(0, 10, 400)
    predictions[:200] = labels[:200]
    pictures.draw_confusion(tmp_path / "confusion.png", labels, predictions)
    axes, colours = figures[0].axes
    counts = {(row, column): 0 for row in range(10) for column in range(10)}
    for pair in zip(labels, predictions):
        counts[pair] += 1
    assert {text.get_position()[::-1]: text.get_text() for text in axes.texts} == {
        place: str(count) for place, count in counts.items()
    }
    shown = axes.images[0].get_array()
    for (row, column), count in counts.items():
        assert shown[row, column] == (0 if row == column else count)
    assert (axes.get_xlabel(), axes.get_ylabel()) == (
        "what the model thought",
        "the digit",
    )
    assert list(axes.get_xticks()) == list(axes.get_yticks()) == list(range(10))
    assert (
        axes.get_title() == f"{np.sum(labels != predictions)} errors in 400 test digits"
    )
    assert colours.get_ylabel() == "errors"


def test_mistakes(tmp_path, figures, rng):
    """The least likely truth first; of 26 digits the best two are not shown."""
    labels = np.arange(26) % 10
    truth = rng.permutation(np.linspace(0.6, 0.85, 26))
    truth[[17, 3, 8]] = 0.002, 0.3, 0.41
    probabilities = np.zeros((26, 10))
    probabilities[np.arange(26), labels] = truth
    probabilities[np.arange(26), (labels + 1) % 10] = 1 - truth
    images = np.arange(26)[:, None, None] * np.full((28, 28), 0.03)
    pictures.draw_mistakes(tmp_path / "mistakes.png", images, labels, probabilities)
    (figure,) = figures
    assert "what the model thought" in figure.get_suptitle()
    assert figure.get_suptitle().endswith("3 of 26 are wrong.")
    order = sorted(range(26), key=lambda index: truth[index])[:24]
    assert order[:3] == [17, 3, 8]
    for axes, index in zip(figure.axes, order, strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), images[index])
    titles = [axes.title for axes in figure.axes]
    assert [title.get_text() for title in titles[:3]] == [
        "a 8? >99%\nis 7: <1%",
        "a 4? 70%\nis 3: 30%",
        "a 9? 59%\nis 8: 41%",
    ]
    right = order[3]
    assert (
        titles[3].get_text()
        == f"a {labels[right]}? {truth[right]:.0%}\nis {labels[right]}: 60%"
    )
    assert len({title.get_color() for title in titles[:3]}) == 1
    assert {title.get_color() for title in titles[3:]}.isdisjoint(
        {titles[0].get_color()}
    )


def test_fewer_digits_than_places(tmp_path, figures):
    pictures.draw_mistakes(
        tmp_path / "a.png", np.zeros((2, 28, 28)), np.array([0, 1]), np.eye(2, 10)
    )
    assert [len(axes.images) for axes in figures[0].axes] == [1, 1] + [0] * 22
    assert not any(axes.axison for axes in figures[0].axes)


def test_calibration(tmp_path, figures):
    """Six reviews in four of ten bins; the distance is their mean, weighted by the reviews."""
    probabilities = np.array([0.96, 0.05, 0.15, 0.55, 0.17, 1.0])
    labels = np.array([1, 0, 0, 1, 1, 1])
    pictures.draw_calibration(tmp_path / "calibration.png", labels, probabilities)
    upper, lower = figures[0].axes
    shown = lines(upper)
    assert legend(upper) == ["perfectly calibrated", "this model"]
    np.testing.assert_array_equal(shown["perfectly calibrated"], [[0, 1], [0, 1]])
    np.testing.assert_allclose(
        shown["this model"], [[0.05, 0.16, 0.55, 0.98], [0, 0.5, 1, 1]]
    )
    assert [text.get_text() for text in upper.texts] == ["0.00", "0.50", "1.00", "1.00"]
    assert [bar.get_height() for bar in lower.patches] == [1, 2, 0, 0, 0, 1, 0, 0, 0, 2]
    np.testing.assert_allclose(
        [bar.get_center()[0] for bar in lower.patches], np.arange(0.05, 1, 0.1)
    )
    distance = (0.05 + 2 * 0.34 + 0.45 + 2 * 0.02) / 6
    assert (
        upper.get_title()
        == f"Calibration on 6 test reviews: mean distance {distance:.3f}"
    )
    assert upper.get_ylabel() == "share of good reviews"
    assert lower.get_xlabel() == "probability of a good review, said the model"
    assert lower.get_ylabel() == "reviews"


def test_mistakes_as_text(tmp_path):
    """The most confident first, ten at most, with their whole text."""
    probabilities = np.array([0.9, 0.2, 0.97, 0.01, 0.6, *np.linspace(0.51, 0.55, 9)])
    labels = np.array([1, 1, 0, 1, 0, *[0] * 9])
    texts = [
        f"review {index}<br /><br />".encode() + b"so long " * 30 for index in range(14)
    ]
    pictures.write_mistakes(tmp_path / "mistakes.txt", texts, labels, probabilities)
    text = (tmp_path / "mistakes.txt").read_text()
    first, *entries = text.split("\n\n")
    assert (
        first
        == "The model is wrong on 13 of 14 test reviews. On these 10 it was most sure."
    )
    heads = [entry.splitlines()[0] for entry in entries]
    assert heads[:4] == [
        "1. Thought bad, 99.0% sure; is good. Test review 3:",
        "2. Thought good, 97.0% sure; is bad. Test review 2:",
        "3. Thought bad, 80.0% sure; is good. Test review 1:",
        "4. Thought good, 60.0% sure; is bad. Test review 4:",
    ]
    assert len(heads) == 10
    assert entries[0].splitlines()[1] == "   review 3"
    assert entries[0].count("so long") == 30
    assert max(map(len, text.splitlines())) <= 100


#: Cell -> the panels of its gates: title -> label in the legend -> name of the trace.
WRITTEN, KEPT, LET_OUT = (
    "i, input gate: written",
    "f, forget gate: kept",
    "o, output gate: let out",
)
LSTM = {"gates, mean opening": {WRITTEN: "i", KEPT: "f", LET_OUT: "o"}}
GRU = {
    "gates, mean opening": {
        "z, update gate: kept": "z",
        "r, reset gate: looked back at": "r",
    }
}
PANELS = {
    "lstm": LSTM,
    "peephole": LSTM,
    "weight-drop": LSTM,
    "coupled": {"gates, mean opening": {KEPT: "f", LET_OUT: "o"}},
    "gru": GRU,
    "gru-cho": GRU,
    "depth-gated": {
        "gates, level 1": {WRITTEN: "i_1", KEPT: "f_1", LET_OUT: "o_1"},
        "gates, level 2": {
            WRITTEN: "i_2",
            KEPT: "f_2",
            "d, depth gate: let in from below": "d_2",
            LET_OUT: "o_2",
        },
    },
    "clockwork": {"modules that ticked": {}},
    "simple-rnn": {"no gates: mean size of h": {"|h|": "h"}},
}


def test_every_cell_has_its_panels():
    assert PANELS.keys() == LAYERS.keys()


def answers_by_row(model, image):
    """Return what the model says of the image's first row, its first two, … each read on its own."""
    recurrent, classify = model.layers[-2:]
    h = recurrent(np.repeat(image[None], 28, axis=0), mask=np.tri(28, dtype=bool))
    return np.asarray(classify(h))


def settled(answers, label):
    """Return the row from which on the label has the highest probability."""
    row = len(answers)
    while row and answers[row - 1].argmax() == label:
        row -= 1
    return row


@pytest.mark.parametrize("cell", PANELS)
def test_gates_of_a_digit(cell, tmp_path, figures, rng):
    """Probabilities are the model's own of each part of the digit; its gates are those traced."""
    model = mnist.make_classic(mnist.MnistConfig("classic", cell=cell, units=8))
    recurrent = model.layers[-2]
    recurrent.set_weights(
        [rng.uniform(-1, 1, weight.shape) for weight in recurrent.get_weights()]
    )
    images = rng.uniform(size=(4, 28, 28)).astype("float32")
    answers = [answers_by_row(model, image) for image in images]
    probabilities = np.array([rows[-1] for rows in answers])
    labels = probabilities.argmax(axis=1)
    latest = [settled(rows, label) for rows, label in zip(answers, labels)]
    labels[np.argmax(latest)] += 1  # a wrong answer is not shown
    labels %= 10
    latest[np.argmax(latest)] = -1
    index = int(np.argmax(latest))

    pictures.draw_digit_gates(
        tmp_path / "gates.png", model, images, labels, probabilities
    )
    (figure,) = figures
    digit, classes, *panels, _ = (
        figure.axes
    )  # the last is the scale of the probabilities
    assert digit.get_title() == f"a {labels[index]}, read downwards"
    assert digit.get_ylabel() == "row of the image, one step each"
    np.testing.assert_array_equal(digit.images[0].get_array(), images[index])
    np.testing.assert_allclose(classes.images[0].get_array(), answers[index], atol=1e-5)
    assert (classes.get_title(), classes.get_xlabel()) == (
        "class probabilities",
        "digit",
    )
    assert list(classes.get_xticks()) == list(range(10))

    traces = trace_gates(recurrent, images[index : index + 1])
    assert [panel.get_title() for panel in panels] == list(PANELS[cell])
    for panel, names in zip(panels, PANELS[cell].values()):
        shown = lines(panel)
        assert list(shown) == list(names)
        for label, name in names.items():
            x, y = shown[label]
            np.testing.assert_array_equal(y, range(28))
            np.testing.assert_allclose(
                x, np.abs(traces[name][0]).mean(axis=1), atol=1e-6
            )
        if names:
            assert legend(panel) == list(names)
            assert panel.get_xlim() == (0, 1)
            assert panel.get_xlabel() == (
                "mean |h|" if "|h|" in names else "0 shut … 1 open"
            )
        else:
            ticks = [
                [row % period == 0 for period in (1, 2, 4, 8)] for row in range(28)
            ]
            np.testing.assert_array_equal(panel.images[0].get_array(), ticks)
            assert tuple(panel.images[0].get_extent()) == (-0.5, 3.5, 27.5, -0.5)
            assert [text.get_text() for text in panel.get_xticklabels()] == list("1248")
            assert panel.get_xlabel() == "period of the module"


def make_imdb(preset, cell, rng, words=50):
    """Return a small network with large weights, and a tokenizer of the words ``w0`` to ``w39``."""
    config = imdb.ImdbConfig(
        preset, cell=cell, units=8, vocabulary=45, words=words, embedding=4
    )
    model = (
        imdb.make_classic(config)
        if preset == "classic"
        else imdb.make_modern(config, 9)
    )
    model.set_weights(
        [
            weight if weight.dtype == "int64" else rng.uniform(-1, 1, weight.shape)
            for weight in model.get_weights()
        ]
    )
    known = " ".join(f"w{number}" for number in range(40)).encode()
    return model, imdb.make_tokenizer([known], config.vocabulary, words)


def answers_by_word(model, tokenizer, text):
    """Return what the network says of no word, the first, the first two, …: the rest is padding."""
    (numbers,) = np.asarray(tokenizer(tf.constant([text])))
    count = np.sum(numbers != 0)
    begun = numbers * np.tri(count + 1, len(numbers), -1, dtype="int32")
    begun[0, 0] = 1  # no word is an unknown one
    return np.asarray(model(begun, training=False))[:, 0]


@pytest.mark.parametrize("preset", ["classic", "modern"])
def test_the_review_and_its_probabilities(preset, monkeypatch, rng):
    """The one that moved most among the first that are right and neither short nor long."""
    monkeypatch.setattr(pictures, "LONGEST", 23)
    monkeypatch.setattr(pictures, "CANDIDATES", 3)
    model, tokenizer = make_imdb(preset, "lstm", rng)
    lengths = [22, 19, 24, 20, 21, 23, 22]
    texts = [
        " ".join(rng.choice([f"w{n}" for n in range(40)], length)) for length in lengths
    ]
    answers = [answers_by_word(model, tokenizer, text) for text in texts]
    probabilities = np.array([said[-1] for said in answers])
    labels = (probabilities > 0.5).astype(int)
    labels[4] = 1 - labels[4]
    moved = {index: np.ptp(answers[index]) for index in (0, 3, 5)}
    chosen = max(moved, key=moved.get)
    texts = [text.encode() for text in texts]
    review = pictures.read_word_by_word(model, tokenizer, texts, labels, probabilities)
    assert review["index"] == chosen
    assert review["label"] == ("good" if labels[chosen] else "bad")
    assert review["words"] == texts[chosen].decode().split()
    np.testing.assert_allclose(review["probabilities"], answers[chosen], atol=1e-5)


@pytest.mark.parametrize("cell", PANELS)
def test_gates_of_a_review(cell, tmp_path, figures, rng):
    """The trace is what the network's own layer puts out; the words' colours are the moves."""
    for preset in ("classic", "modern"):
        model, tokenizer = make_imdb(preset, cell, rng)
        words = list(rng.choice([f"w{n}" for n in range(40)], 30))
        layer, traces = pictures.word_traces(model, tokenizer, words)
        numbers = tokenizer(tf.constant([" ".join(words)]))
        kinds = (keras.layers.RNN, keras.layers.Bidirectional)
        outer = next(layer for layer in model.layers if isinstance(layer, kinds))
        outputs = np.asarray(keras.Model(model.input, outer.output)(numbers))
        if preset == "classic":  # the last state
            np.testing.assert_allclose(traces["h"][-1], outputs[0], atol=1e-5)
        else:  # all states, and those of the layer that reads backwards
            np.testing.assert_allclose(
                traces["h"], outputs.reshape(-1, 16)[:30, :8], atol=1e-5
            )
        assert {values.shape for values in traces.values()} == {(30, 8)}

    probabilities = 0.5 + 0.01 * (-1) ** np.arange(31)
    probabilities[7:] += 0.4
    review = {
        "index": 3,
        "label": "good",
        "words": words,
        "probabilities": probabilities,
    }
    pictures.draw_words(tmp_path / "gates.png", review, (layer, traces))
    text, said, *panels = figures[0].axes
    assert "".join(letter.get_text() for letter in text.texts) == "".join(words)
    assert text.get_title(loc="left").startswith(
        "Test review 3, good: probability of good 0.51 before the first word, 0.91 after the last."
    )
    moves = np.diff(probabilities)
    places = [letter.get_position() for letter in text.texts]
    assert places[0] == (0.5, 0.5)
    assert (
        max(column for column, line in places) < pictures.COLUMNS == text.get_xlim()[1]
    )
    assert max(line for column, line in places) < text.get_ylim()[0]
    letters = iter(places)
    for word, box, move in zip(words, text.patches, moves, strict=True):
        for _ in word:
            assert box.contains_point(text.transData.transform(next(letters)))
        *colour, strength = box.get_facecolor()
        assert tuple(colour) == to_rgba("#2166ac" if move > 0 else "#d95f02")[:3]
        assert (strength == 0.75) == (abs(move) > 0.1)
    np.testing.assert_array_equal(
        said.get_lines()[1].get_data(), [range(31), probabilities]
    )
    assert said.get_ylabel() == "probability\nof good"
    assert [panel.get_title(loc="left") for panel in panels] == list(PANELS[cell])
    for panel, names in zip(panels, PANELS[cell].values()):
        assert panel.get_xlim() == said.get_xlim() == (0, 30.5)
        shown = lines(panel)
        assert list(shown) == list(names)
        for label, name in names.items():
            x, y = shown[label]
            np.testing.assert_array_equal(x, range(1, 31))
            np.testing.assert_allclose(y, np.abs(traces[name]).mean(axis=1), atol=1e-6)
        if names:
            assert panel.get_ylabel() == (
                "mean |h|" if "|h|" in names else "mean opening"
            )
        else:  # a segment of 25 words starts its clock anew
            ticks = [
                [word % 25 % period == 0 for word in range(30)]
                for period in (1, 2, 4, 8)
            ]
            np.testing.assert_array_equal(panel.images[0].get_array(), ticks)
            assert tuple(panel.images[0].get_extent()) == (0.5, 30.5, 3.5, -0.5)
            assert panel.get_ylabel() == "period of the module"
    assert panels[-1].get_xlabel() == "words read"


def test_the_page_s_figures_and_colours(tmp_path):
    probabilities = np.array([0.5, 0.7, 0.69, 0.2])
    review = {
        "index": 1,
        "label": "bad",
        "words": ["a", "b", "c"],
        "probabilities": probabilities,
    }
    pictures.write_page(tmp_path / "gates.html", review)
    spans = []

    class Reader(html.parser.HTMLParser):
        def handle_starttag(self, tag, attributes):
            if tag == "span" and "title" in dict(attributes):
                spans.append([*dict(attributes).values()])

        def handle_data(self, data):
            if spans and len(spans[-1]) == 2:
                spans[-1].append(data)

    Reader().feed((tmp_path / "gates.html").read_text())
    moves = np.abs(np.diff(probabilities))
    strengths = 0.75 * np.minimum(1, moves / np.quantile(moves, 0.97))
    assert spans == [
        [f"background: rgba(33, 102, 172, {strengths[0]:.2f})", "0.500 → 0.700", "a"],
        [f"background: rgba(217, 95, 2, {strengths[1]:.2f})", "0.700 → 0.690", "b"],
        ["background: rgba(217, 95, 2, 0.75)", "0.690 → 0.200", "c"],
    ]
