"""A review's words, coloured by how each moved the probability, and the gates."""

import re

import numpy as np
from matplotlib.patches import Rectangle

from recipes.pictures.figure import KEPT, TRAIN, figure
from recipes.pictures.gates import draw_panel, gate_panels
from recipes.run.texts import visible

GOOD, BAD = (33, 102, 172), (217, 95, 2)  # colour-blind people tell them apart, too
COLUMNS = 108  # letters in a line


def colour_words(reading):
    """Return colour and strength, at most 0.75, of each word, and the move for 0.75."""
    moves = np.diff(reading.probabilities)
    largest = max(0.02, float(np.quantile(np.abs(moves), 0.97)))
    colours = [
        (GOOD if move > 0 else BAD, 0.75 * min(1, abs(move) / largest))
        for move in moves
    ]
    return colours, largest


def without_tags(word):
    """Return a piece of a review without what splitting left of ``<br />``."""
    return re.sub(r"<br|/>", "", word).strip()


def summarize(reading):
    """Return in a sentence which review it is and how the probability moved."""
    first, *_, last = reading.probabilities
    return (
        f"Test review {reading.index}, {reading.label}: probability of good "
        f"{first:.2f} before the first word, {last:.2f} after the last."
    )


def place_words(words):
    """Return the line and the column at which each word begins."""
    places, line, column = [], 0, 0
    for word in words:
        if column and column + len(word) > COLUMNS:
            line, column = line + 1, 0
        places.append((line, column))
        column += len(word) + 1
    return places


def draw_evidence(axes, evidence):
    """Draw how much each word, with its pair and its triple, speaks for a good review.

    Args:
        axes: Where.
        evidence: See `Reading`.
    """
    total = evidence.sum(axis=1)
    colours = [[part / 255 for part in (GOOD if it > 0 else BAD)] for it in total]
    axes.bar(np.arange(1, len(total) + 1), total, color=colours)
    axes.axhline(0, color=KEPT, linewidth=1)
    axes.set(ylabel="sum of r")
    axes.set_title(
        "evidence: log-count ratios r of word, pair and triple", fontsize=10, loc="left"
    )
    axes.grid(alpha=0.3)


def draw_words(path, reading, layer, traces):
    """Draw the coloured words of a `Reading`, its probability, evidence, and gates.

    Args:
        path: The file.
        reading: The `Reading`.
        layer: The recurrent layer.
        traces: Its traces on the review, ``(words, units)`` each, by name.
    """
    words = [visible(without_tags(word))[:COLUMNS] for word in reading.words]
    places = place_words(words)
    lines = places[-1][0] + 1
    panels = gate_panels(traces)
    has_evidence = reading.evidence is not None
    heights = [0.21 * lines + 0.1, 1.9, *[1.6] * (has_evidence + len(panels))]
    with figure(path, 9, sum(heights) + 1.5) as drawn:
        text, said, *rest = drawn.subplots(len(heights), 1, height_ratios=heights)
        text.set(xlim=(0, COLUMNS), ylim=(lines, 0))
        text.axis("off")
        text.set_title(
            f"{summarize(reading)}\nA word is blue where it moved the probability "
            "towards good, orange towards bad.",
            fontsize=10,
            loc="left",
        )
        colours, _ = colour_words(reading)
        for word, place, colour in zip(words, places, colours, strict=True):
            _draw_word(text, word, *place, *colour)
        said.axhline(0.5, color=KEPT, linestyle=":")
        said.plot(np.arange(len(words) + 1), reading.probabilities, color=TRAIN)
        said.set(ylim=(0, 1), ylabel="probability\nof good")
        said.grid(alpha=0.3)
        if has_evidence:
            draw_evidence(rest[0], reading.evidence)
        panels_axes = rest[has_evidence:]
        for axes, (title, names) in zip(panels_axes, panels.items(), strict=True):
            draw_panel(axes, layer, traces, names, upright=False)
            axes.set_title(title, fontsize=10, loc="left")
        for axes in (said, *rest):
            axes.set_xlim(0, len(words) + 0.5)
        axes.set_xlabel("words read")


def _draw_word(axes, word, line, column, colour, strength):
    """Draw a word on its colour, letter by letter, so that any font fits."""
    background = (*(part / 255 for part in colour), strength)
    corner = (column - 0.3, line + 0.06)
    axes.add_patch(Rectangle(corner, len(word) + 0.6, 0.88, color=background))
    style = {"family": "monospace", "fontsize": 8.5}
    for number, letter in enumerate(word):
        axes.text(
            column + number + 0.5,
            line + 0.5,
            letter,
            ha="center",
            va="center_baseline",
            **style,
        )
