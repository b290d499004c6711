"""What the pictures show, read before they are saved; and that none costs a run."""

import dataclasses
import html.parser
import re

import numpy as np
import pytest
import tensorflow as tf
from matplotlib.colors import to_rgb
from matplotlib.text import Text
from networks import answers_by_row, make_imdb, make_mnist
from PIL import Image

from custom_layers import LAYERS, trace_gates
from recipes import reading
from recipes.pictures import curves, digits, draw, page, reviews, words
from recipes.pictures.figure import figure
from recipes.reading import Reading
from recipes.run.folder import RunFolder

LSTM = [["i", "f", "o"]]
#: Cell -> the panels of its gates, each with the names of its traces.
PANELS = {
    "lstm": LSTM,
    "peephole": LSTM,
    "weight-drop": LSTM,
    "coupled": [["f", "o"]],
    "gru": [["z", "r"]],
    "gru-cho": [["z", "r"]],
    "depth-gated": [["i_1", "f_1", "o_1"], ["i_2", "f_2", "d_2", "o_2"]],
    "clockwork": [["active"]],
    "simple-rnn": [["h"]],
}


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def lines(axes):
    """Return x and y of every line of a legend, by the first word of its label."""
    return {
        re.search(r"\w+", line.get_label())[0]: np.array(line.get_data())
        for line in axes.get_lines()
        if line.get_label()[0] != "_"
    }


def figures_in(text):
    """Return the numbers in a text."""
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?", text)]


def test_curves(tmp_path, figures):
    """The kept validation is the first with the best accuracy, as in training."""
    (tmp_path / "history.csv").write_text(
        "validation,step,accuracy,loss,val_accuracy,val_loss,seconds\n"
        "1,10,0.5,1.5,0.25,1.75,3\n"
        "2,20,0.7,0.9,0.75,1.125,3\n"
        "3,30,0.8,0.6,0.75,0.875,3\n"
        "4,35,0.9,0.3,0.5,2.5,3\n"
    )
    curves.draw_curves(tmp_path / "curves.png", tmp_path / "history.csv")
    (drawn,) = figures
    for axes, name, train, validation, kept in zip(
        drawn.axes,
        ("loss", "accuracy"),
        ([1.5, 0.9, 0.6, 0.3], [0.5, 0.7, 0.8, 0.9]),
        ([1.75, 1.125, 0.875, 2.5], [0.25, 0.75, 0.75, 0.5]),
        (1.125, 0.75),
        strict=True,
    ):
        assert axes.get_ylabel() == name
        assert figures_in(axes.get_title()) == [kept]
        shown = lines(axes)
        steps = [10, 20, 30, 35]
        np.testing.assert_array_equal(shown["train"], [steps, train])
        np.testing.assert_array_equal(shown["validation"], [steps, validation])
        np.testing.assert_array_equal(shown["kept"][0], [20, 20])
        assert figures_in(legend(axes)[-1]) == [2]
        ring = axes.get_lines()[-1]
        np.testing.assert_array_equal(ring.get_data(), [[20], [kept]])
        colours = [line.get_color() for line in axes.get_lines()]
        assert len(set(colours[:3])) == 3 and colours[3] == colours[1]


def test_confusion(tmp_path, figures, rng):
    """Rows are digits, columns what they were taken for; only errors are coloured."""
    labels, predictions = rng.integers(0, 10, 400), rng.integers(0, 10, 400)
    predictions[:200] = labels[:200]
    digits.draw_confusion(tmp_path / "confusion.png", labels, predictions)
    axes, _ = figures[0].axes
    counts = {(row, column): 0 for row in range(10) for column in range(10)}
    for pair in zip(labels, predictions, strict=True):
        counts[pair] += 1
    shown = {text.get_position()[::-1]: text.get_text() for text in axes.texts}
    assert shown == {place: str(count) for place, count in counts.items()}
    colours = axes.images[0].get_array()
    for (row, column), count in counts.items():
        assert colours[row, column] == (0 if row == column else count)
    assert list(axes.get_xticks()) == list(axes.get_yticks()) == list(range(10))
    assert figures_in(axes.get_title()) == [np.sum(labels != predictions), 400]


def test_mistakes(tmp_path, figures, rng):
    """The least likely truth first; of 26 digits the best two are not shown."""
    labels = np.arange(26) % 10
    truth = rng.permutation(np.linspace(0.6, 0.85, 26))
    truth[[17, 3, 8]] = 0.002, 0.3, 0.41
    probabilities = np.zeros((26, 10))
    probabilities[np.arange(26), labels] = truth
    probabilities[np.arange(26), (labels + 1) % 10] = 1 - truth
    images = np.arange(26)[:, None, None] * np.full((28, 28), 0.03)
    digits.draw_mistakes(tmp_path / "mistakes.png", images, labels, probabilities)
    (drawn,) = figures
    assert figures_in(drawn.get_suptitle()) == [3, 26]
    order = sorted(range(26), key=lambda index: truth[index])[:24]
    assert order[:3] == [17, 3, 8]
    for axes, index in zip(drawn.axes, order, strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), images[index])
    titles = [axes.title for axes in drawn.axes]
    said = [re.findall(r"[<>]?\d+%?", title.get_text()) for title in titles[:4]]
    label = labels[order[3]]
    assert said == [
        ["8", ">99%", "7", "<1%"],
        ["4", "70%", "3", "30%"],
        ["9", "59%", "8", "41%"],
        [str(label), f"{truth[order[3]]:.0%}", str(label), "60%"],
    ]
    wrong, right = (
        {title.get_color() for title in part} for part in (titles[:3], titles[3:])
    )
    assert len(wrong) == len(right) == 1 and wrong != right


def test_fewer_digits_than_places(tmp_path, figures):
    images, labels = np.zeros((2, 28, 28)), np.array([0, 1])
    digits.draw_mistakes(tmp_path / "a.png", images, labels, np.eye(2, 10))
    assert [len(axes.images) for axes in figures[0].axes] == [1, 1] + [0] * 22
    assert not any(axes.axison for axes in figures[0].axes)


def test_calibration(tmp_path, figures):
    """Six reviews in four of ten bins; the distance is weighted by the reviews."""
    probabilities = np.array([0.96, 0.05, 0.15, 0.55, 0.17, 1.0])
    labels = np.array([1, 0, 0, 1, 1, 1])
    reviews.draw_calibration(tmp_path / "calibration.png", labels, probabilities)
    upper, lower = figures[0].axes
    shown = lines(upper)
    np.testing.assert_array_equal(shown["perfectly"], [[0, 1], [0, 1]])
    answers = [[0.05, 0.16, 0.55, 0.98], [0, 0.5, 1, 1]]
    np.testing.assert_allclose(shown["this"], answers)
    assert [text.get_text() for text in upper.texts] == ["0.00", "0.50", "1.00", "1.00"]
    assert [bar.get_height() for bar in lower.patches] == [1, 2, 0, 0, 0, 1, 0, 0, 0, 2]
    centres = [bar.get_center()[0] for bar in lower.patches]
    np.testing.assert_allclose(centres, np.arange(0.05, 1, 0.1))
    distance = (0.05 + 2 * 0.34 + 0.45 + 2 * 0.02) / 6
    assert figures_in(upper.get_title()) == [6, round(distance, 3)]


def test_mistakes_as_text(tmp_path):
    """The most confident first, ten at most, with their whole text."""
    probabilities = np.array([0.9, 0.2, 0.97, 0.01, 0.6, *np.linspace(0.51, 0.55, 9)])
    labels = np.array([1, 1, 0, 1, 0, *[0] * 9])
    texts = [
        f"review {index}<br /><br />".encode() + b"so long " * 30 for index in range(14)
    ]
    reviews.write_mistakes(tmp_path / "mistakes.txt", texts, labels, probabilities)
    text = (tmp_path / "mistakes.txt").read_text()
    first, *entries = text.split("\n\n")
    assert figures_in(first) == [13, 14, 10]
    heads = [entry.splitlines()[0] for entry in entries]
    assert len(heads) == 10
    said = [(figures_in(head), re.findall("good|bad", head)) for head in heads[:4]]
    assert said == [
        ([1, 99.0, 3], ["bad", "good"]),
        ([2, 97.0, 2], ["good", "bad"]),
        ([3, 80.0, 1], ["bad", "good"]),
        ([4, 60.0, 4], ["good", "bad"]),
    ]
    assert entries[0].splitlines()[1] == "   review 3"
    assert entries[0].count("so long") == 30
    assert max(map(len, text.splitlines())) <= 100


def test_every_cell_has_its_panels():
    assert PANELS.keys() == LAYERS.keys()


def settled(answers, label):
    """Return the row from which on the label has the highest probability."""
    row = len(answers)
    while row and answers[row - 1].argmax() == label:
        row -= 1
    return row


def assert_panels(panels, cell, traces, ticks, upright):
    """Assert that panels show the traces' means at each step, or a clock's ticks."""
    for panel, names in zip(panels, PANELS[cell], strict=True):
        if names == ["active"]:
            shown = panel.images[0].get_array()
            np.testing.assert_array_equal(shown if upright else shown.T, ticks)
            continue
        shown = lines(panel)
        assert shown.keys() == {name.split("_")[0] for name in names}
        assert len(legend(panel)) == len(names)
        for name in names:
            means = np.abs(traces[name]).mean(axis=1)
            x, y = shown[name.split("_")[0]]
            if upright:
                np.testing.assert_array_equal(y, range(len(means)))
                np.testing.assert_allclose(x, means, atol=1e-6)
            else:
                np.testing.assert_array_equal(x, range(1, len(means) + 1))
                np.testing.assert_allclose(y, means, atol=1e-6)


@pytest.mark.parametrize("cell", PANELS)
def test_gates_of_a_digit(cell, tmp_path, figures, rng):
    """The probabilities are the model's of each part; the gates are those traced."""
    model = make_mnist(cell, rng)
    images = rng.uniform(size=(4, 28, 28)).astype("float32")
    answers = [answers_by_row(model, image) for image in images]
    probabilities = np.array([rows[-1] for rows in answers])
    labels = probabilities.argmax(axis=1)
    change = [
        max(np.delete(rows, label, axis=1).flat) * rows[-1][label]
        for rows, label in zip(answers, labels, strict=True)
    ]
    labels[np.argmax(change)] += 1  # a wrong answer is not shown
    labels %= 10
    change[np.argmax(change)] = -1
    index = int(np.argmax(change))

    digits.draw_gates(tmp_path / "gates.png", model, images, labels, probabilities)
    digit, classes, *panels, _ = figures[0].axes  # the last is a scale of colours
    assert figures_in(digit.get_title()) == [labels[index]]
    np.testing.assert_array_equal(digit.images[0].get_array(), images[index])
    np.testing.assert_allclose(classes.images[0].get_array(), answers[index], atol=1e-5)
    assert list(classes.get_xticks()) == list(range(10))
    row = settled(answers[index], labels[index])
    for axes in (digit, classes, *panels):
        assert list(axes.get_lines()[-1].get_ydata()) == [row - 0.5] * 2
    assert figures_in(*legend(classes)) == [labels[index]]
    traces = trace_gates(model.layers[-2], images[index : index + 1])
    traces = {name: values[0] for name, values in traces.items()}
    periods = (1, 2, 4, 8)
    ticks = [[row % period == 0 for period in periods] for row in range(28)]
    assert_panels(panels, cell, traces, ticks, upright=True)
    if cell == "clockwork":
        assert tuple(panels[0].images[0].get_extent()) == (-0.5, 3.5, 27.5, -0.5)
        assert [text.get_text() for text in panels[0].get_xticklabels()] == list("1248")
    else:
        assert {panel.get_xlim() for panel in panels} == {(0, 1)}


@pytest.fixture
def review(rng):
    """A reading whose probability moves much at the seventh word alone."""
    probabilities = 0.5 + 0.01 * (-1) ** np.arange(31)
    probabilities[7:] += 0.4
    known = [f"w{number}" for number in range(40)]
    return Reading(3, "good", list(rng.choice(known, 30)), probabilities)


@pytest.mark.parametrize("cell", PANELS)
def test_gates_of_a_review(cell, review, tmp_path, figures, rng):
    model, tokenizer = make_imdb("modern", cell, rng)
    layer, traces = reading.trace_words(model, tokenizer, review.words)
    words.draw_words(tmp_path / "gates.png", review, layer, traces)
    _, said, *panels = figures[0].axes
    shown = said.get_lines()[1].get_data()
    np.testing.assert_array_equal(shown, [range(31), review.probabilities])
    for panel in panels:
        assert panel.get_xlim() == said.get_xlim() == (0, 30.5)
    periods = (1, 2, 4, 8)  # a segment of 25 words starts its clock anew
    ticks = [[word % 25 % period == 0 for period in periods] for word in range(30)]
    assert_panels(panels, cell, traces, ticks, upright=False)
    if cell == "clockwork":
        assert tuple(panels[0].images[0].get_extent()) == (0.5, 30.5, 3.5, -0.5)


def test_evidence_of_a_review(review, tmp_path, figures, rng):
    evidence = rng.normal(size=(30, 3))
    with_evidence = dataclasses.replace(review, evidence=evidence)
    traces = {"h": rng.random((30, 8))}
    words.draw_words(tmp_path / "gates.png", with_evidence, None, traces)
    _, said, drawn, panel = figures[0].axes
    bars, total = drawn.patches, evidence.sum(axis=1)
    assert len(bars) == 30 and panel.get_lines()
    for number, (bar, value) in enumerate(zip(bars, total, strict=True), 1):
        assert bar.get_x() + bar.get_width() / 2 == pytest.approx(number)
        assert bar.get_height() == pytest.approx(value)
        colour = to_rgb("#2166ac" if value > 0 else "#d95f02")
        assert bar.get_facecolor()[:3] == pytest.approx(colour)
    assert drawn.get_xlim() == said.get_xlim()


def test_words_of_a_review(review, tmp_path, figures, rng):
    """Each letter stands on its word's colour, which is how the probability moved."""
    traces = {"h": rng.random((30, 8))}
    words.draw_words(tmp_path / "gates.png", review, None, traces)
    text = figures[0].axes[0]
    letters = "".join(letter.get_text() for letter in text.texts)
    assert letters == "".join(review.words)
    assert figures_in(text.get_title(loc="left")) == [3, 0.51, 0.91]
    places = [letter.get_position() for letter in text.texts]
    assert places[0] == (0.5, 0.5)
    widest = max(column for column, line in places)
    assert widest < words.COLUMNS == text.get_xlim()[1]
    assert max(line for column, line in places) < text.get_ylim()[0]
    letters = iter(places)
    moves = np.diff(review.probabilities)
    for word, box, move in zip(review.words, text.patches, moves, strict=True):
        for _ in word:
            assert box.contains_point(text.transData.transform(next(letters)))
        *colour, strength = box.get_facecolor()
        assert tuple(colour) == to_rgb("#2166ac" if move > 0 else "#d95f02")
        assert (strength == 0.75) == (abs(move) > 0.1)


class Spans(html.parser.HTMLParser):
    """Collects style, title and text of the words of a page."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag == "span" and "title" in dict(attributes):
            self.found.append([*dict(attributes).values()])

    def handle_data(self, data):
        if self.found and len(self.found[-1]) == 2:
            self.found[-1].append(data)


def test_the_page_s_figures_and_colours(tmp_path):
    probabilities = np.array([0.5, 0.7, 0.69, 0.2])
    review = Reading(1, "bad", ["a", "b", "c"], probabilities)
    page.write_page(tmp_path / "gates.html", review)
    moves = np.abs(np.diff(probabilities))
    strengths = 0.75 * np.minimum(1, moves / np.quantile(moves, 0.97))
    assert Spans((tmp_path / "gates.html").read_text()).found == [
        [f"background: rgba(33, 102, 172, {strengths[0]:.2f})", "0.500 → 0.700", "a"],
        [f"background: rgba(217, 95, 2, {strengths[1]:.2f})", "0.700 → 0.690", "b"],
        ["background: rgba(217, 95, 2, 0.75)", "0.690 → 0.200", "c"],
    ]


def test_the_page_escapes_and_needs_nothing_else(tmp_path):
    words = ["<script>alert(1)</script>", "a&b", "$title ${x} $$", 'quote"']
    review = Reading(1, "good", words, np.linspace(0.1, 0.9, 5))
    page.write_page(tmp_path / "page.html", review)
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script" not in text
    assert not re.search(r"https?:|src=|href=|url\(", text)
    found = Spans(text).found
    assert [word for _, _, word in found] == words


def test_line_breaks_of_a_review_are_line_breaks_of_the_page(tmp_path):
    words = ["one", "two <br", "/><br", "/>three"]
    page.write_page(
        tmp_path / "a.html", Reading(1, "good", words, np.linspace(0, 1, 5))
    )
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    text = re.sub(r"</?span[^>]*>|\n", "", text[text.index('class="words">') :])
    assert text.startswith('class="words">onetwo<br><br>')
    assert "three</p>" in text


@pytest.mark.xdist_group("finished-runs")
@pytest.mark.parametrize(
    ("recipe", "names"),
    {
        "mnist": ["curves.png", "confusion.png", "mistakes.png", "gates.png"],
        "imdb": [
            *("curves.png", "calibration.png", "gates.png"),
            *("mistakes.txt", "gates.html"),
        ],
    }.items(),
)
def test_a_run_leaves_its_pictures(recipe, names, finished_runs):
    folder = finished_runs / recipe / "run"
    for name in names:
        if name.endswith(".png"):
            image = Image.open(folder / name)
            assert 600 <= image.width <= 950
            assert 300 <= image.height <= 1000
            assert len(image.convert("L").getcolors()) > 20
        else:
            assert (folder / name).stat().st_size > 500
    figures = {"config.json", "history.csv", "metrics.json", "model.keras"}
    assert {path.name for path in folder.iterdir()} == figures | set(names)


DRAWING = {
    "mnist": {
        "draw_curves": (curves, "curves.png"),
        "draw_confusion": (digits, "confusion.png"),
        "draw_mistakes": (digits, "mistakes.png"),
        "draw_gates": (digits, "gates.png"),
    },
    "imdb": {
        "draw_curves": (curves, "curves.png"),
        "draw_calibration": (reviews, "calibration.png"),
        "write_mistakes": (reviews, "mistakes.txt"),
        "read_word_by_word": (reading, "gates.html and gates.png"),
        "write_page": (page, "gates.html"),
        "trace_words": (reading, "gates.png"),
        "draw_words": (words, "gates.png"),
    },
}
NEEDED = {
    "read_word_by_word": ["write_page", "trace_words", "draw_words"],
    "trace_words": ["draw_words"],
}
FAILURES = [(recipe, name) for recipe in DRAWING for name in DRAWING[recipe]]


def draw_with_a_failure(recipe, failing, error, monkeypatch):
    """Draw with functions that do nothing but one; return which were called."""
    called = []

    def stand_in(name):
        def function(*arguments):
            called.append(name)
            if name == failing:
                raise error
            return Reading(0, "good", [], []) if name == "read_word_by_word" else (1, 2)

        return function

    for name, (module, _) in DRAWING[recipe].items():
        monkeypatch.setattr(module, name, stand_in(name))
    models = [None] * (1 if recipe == "mnist" else 2)
    test, probabilities = (None, None), np.zeros((3, 2))
    getattr(draw, f"draw_{recipe}")(RunFolder("run"), *models, test, probabilities)
    return called


@pytest.mark.parametrize(("recipe", "failing"), FAILURES)
def test_a_failing_picture_costs_no_other(recipe, failing, monkeypatch, capsys):
    called = draw_with_a_failure(recipe, failing, ValueError("no\nfont"), monkeypatch)
    lost = NEEDED.get(failing, [])
    assert called == [name for name in DRAWING[recipe] if name not in lost]
    _, missing = DRAWING[recipe][failing]
    assert capsys.readouterr().err == f"WARNING: no {missing}: ValueError: no font\n"


@pytest.mark.parametrize(("recipe", "failing"), FAILURES)
def test_a_full_disk_stops_the_drawing(recipe, failing, monkeypatch):
    with pytest.raises(OSError, match="no room"):
        draw_with_a_failure(recipe, failing, OSError("no room"), monkeypatch)


#: What a terminal obeys, what no UTF-8 holds, what turns text round.
NASTY = "a\x1b[31mb\x07 c\ud800d \u202eevil\x9b1m"


def test_no_review_s_control_characters_are_written(tmp_path):
    reviews.write_mistakes(
        tmp_path / "mistakes.txt", [NASTY, NASTY.encode("utf-8", "replace")],
        np.array([0, 1]), np.array([0.9, 0.2]),
    )  # fmt: skip
    review = Reading(1, "good", NASTY.split(), np.linspace(0.1, 0.9, 4))
    page.write_page(tmp_path / "gates.html", review)
    for name in ("mistakes.txt", "gates.html"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert text.replace("\n", "").isprintable()
        assert r"a\x1b[31mb\x07" in text and r"\u202eevil\x9b1m" in text


@pytest.mark.parametrize(
    ("texts", "missing"),
    [
        (["", ""], True),
        (["-", "\ufeff"], True),
        (["", "a"], False),
        (["$x^2$", "$\\frac{$"], False),
        ([NASTY, "\x1b"], False),
    ],
)
def test_pictures_of_odd_reviews(texts, missing, tmp_path, rng, capsys):
    """Each is drawn; where there is nothing to draw, a line says so."""
    model, tokenizer = make_imdb("modern", "lstm", rng)
    folder = RunFolder(tmp_path)
    folder.history.write_text(
        "validation,step,accuracy,loss,val_accuracy,val_loss,seconds\n"
        "1,10,0.5,1.5,0.25,1.75,3\n"
    )
    texts = np.array([text.encode("utf-8", "replace") for text in texts], object)
    numbers = tokenizer(tf.constant(texts))
    probabilities = np.asarray(model(numbers, training=False))
    draw.draw_imdb(folder, model, tokenizer, (texts, np.array([0, 1])), probabilities)
    drawn = {path.name for path in tmp_path.iterdir()} - {"history.csv"}
    names = {"curves.png", "calibration.png", "mistakes.txt"}
    error = capsys.readouterr().err
    if missing:
        assert error == (
            "WARNING: no gates.html and gates.png: ValueError: "
            "no test review holds a word\n"
        )
    else:
        names |= {"gates.html", "gates.png"}
        assert error == ""
    assert drawn == names


def test_a_dollar_is_no_mathematics(tmp_path, figures):
    formula = "$x^2$ and $\\frac{$"
    with figure(tmp_path / "a.png", 4, 3) as drawn:
        axes = drawn.subplots()
        axes.set(title=formula, xlabel=formula, ylabel=formula)
        axes.plot([0, 1], [0, 1], label=formula)
        axes.legend(title=formula)
        axes.text(0, 0, formula)
        axes.set_xticks([0, 1], [formula, "1"])
        drawn.suptitle(formula)
    texts = [text for text in drawn.findobj(Text) if formula in text.get_text()]
    assert len(texts) >= 8
    assert not any(text.get_parse_math() for text in texts)


def test_a_picture_that_cannot_be_saved_leaves_nothing(tmp_path):
    def fail(renderer):
        raise ValueError("no font")

    with (
        pytest.raises(ValueError, match="no font"),
        figure(tmp_path / "a.png", 1, 1) as drawn,
    ):
        drawn.draw = fail
    assert not list(tmp_path.iterdir())
