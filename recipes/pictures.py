"""Pictures of a run, in its folder: how it was trained, where it errs, and what its gates do.

They are drawn without a display. What they show is chosen by rule: the same run gives the same pictures.
"""

import contextlib
import csv
import html
import re
import string
import sys
import textwrap
import warnings

import keras
import matplotlib
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from custom_layers import trace_gates
from recipes import report

TRAIN, VALIDATION, KEPT = "#1f77b4", "#d95f02", "#555555"
GOOD, BAD = (
    (33, 102, 172),
    (217, 95, 2),
)  # blue and orange, which the colour-blind tell apart too
GATES = {
    "i": "i, input gate: written",
    "f": "f, forget gate: kept",
    "o": "o, output gate: let out",
    "d": "d, depth gate: let in from below",
    "z": "z, update gate: kept",
    "r": "r, reset gate: looked back at",
}
GATE_COLOURS = {
    "i": "#1b9e77", "f": "#7570b3", "o": "#d95f02", "d": "#666666", "z": "#7570b3", "r": "#1b9e77",
}  # fmt: skip
STYLE = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}
COLUMNS = 108  # letters in a line of the review's picture
LONGEST = 90  # words of the review that is shown
CANDIDATES = 6  # reviews among which it is chosen


@contextlib.contextmanager
def figure(path, width, height):
    """Give a figure to draw in, ``width`` and ``height`` in hundreds of pixels; then save it."""
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Glyph"
        )  # a letter that the font lacks
        drawn = Figure(figsize=(width, height), dpi=100, layout="constrained")
        yield drawn
        with report.complete_file(path) as unfinished:
            drawn.savefig(unfinished)


@contextlib.contextmanager
def warning_unless_drawn(*names):
    """Turn what goes wrong into a warning: a picture must cost neither the others nor a trained model."""
    try:
        yield
    except OSError:
        raise  # a full disk, say: the run can go on later and draw then
    except Exception as error:  # whatever it is, the run goes on
        reason = " ".join(str(error).split())[:200]
        print(
            f"WARNING: no {' and '.join(names)}: {type(error).__name__}: {reason}",
            file=sys.stderr,
        )


def draw_mnist(folder, model, test, probabilities):
    """Draw every picture of an MNIST run that can be drawn.

    Args:
        folder: The run's folder, with its ``history.csv``.
        model: The model, from images to probabilities.
        test: Images from 0 to 1, ``(n, 28, 28)``, and their labels ``(n,)``.
        probabilities: What the model says of them, ``(n, 10)``.
    """
    images, labels = test
    with warning_unless_drawn("curves.png"):
        draw_curves(folder)
    with warning_unless_drawn("confusion.png"):
        draw_confusion(folder / "confusion.png", labels, probabilities.argmax(axis=1))
    with warning_unless_drawn("mistakes.png"):
        draw_mistakes(folder / "mistakes.png", images, labels, probabilities)
    with warning_unless_drawn("gates.png"):
        draw_digit_gates(folder / "gates.png", model, images, labels, probabilities)


def draw_imdb(folder, model, tokenizer, test, probabilities):
    """Draw every picture of an IMDB run that can be drawn, and write its mistakes and its page of words.

    Args:
        folder: The run's folder, with its ``history.csv``.
        model: The model, from word numbers to the probability of a good review.
        tokenizer: The model from texts to word numbers.
        test: Texts ``(n,)`` of bytes, and their labels ``(n,)``.
        probabilities: What the model says of them, ``(n, 1)``.
    """
    texts, labels = test
    probabilities = np.reshape(probabilities, -1)
    with warning_unless_drawn("curves.png"):
        draw_curves(folder)
    with warning_unless_drawn("calibration.png"):
        draw_calibration(folder / "calibration.png", labels, probabilities)
    with warning_unless_drawn("mistakes.txt"):
        write_mistakes(folder / "mistakes.txt", texts, labels, probabilities)
    with warning_unless_drawn("gates.html", "gates.png"):
        review = read_word_by_word(model, tokenizer, texts, labels, probabilities)
        with warning_unless_drawn("gates.html"):
            write_page(folder / "gates.html", review)
        with warning_unless_drawn("gates.png"):
            draw_words(
                folder / "gates.png",
                review,
                word_traces(model, tokenizer, review["words"]),
            )


def draw_curves(folder):
    """Draw loss and accuracy of ``history.csv``, with the kept epoch marked."""
    with open(folder / "history.csv", newline="") as file:
        rows = [
            {key: float(value or "nan") for key, value in row.items()}
            for row in csv.DictReader(file)
        ]
    kept = max(
        rows, key=lambda row: row["val_accuracy"]
    )  # the first of equal ones, as in training
    steps = [row["step"] for row in rows]
    with figure(folder / "curves.png", 9, 3.6) as drawn:
        for axes, name in zip(drawn.subplots(1, 2), ("loss", "accuracy")):
            marker = "o" if len(rows) < 30 else None
            for key, colour, label in (
                (name, TRAIN, "train"),
                (f"val_{name}", VALIDATION, "validation"),
            ):
                values = [row[key] for row in rows]
                axes.plot(
                    steps,
                    values,
                    color=colour,
                    marker=marker,
                    markersize=3,
                    label=label,
                )
            axes.axvline(
                kept["step"],
                color=KEPT,
                linestyle=":",
                label=f"kept: epoch {kept['epoch']:.0f}",
            )
            value = kept[f"val_{name}"]
            axes.plot(
                kept["step"],
                value,
                "o",
                color=VALIDATION,
                markersize=8,
                markerfacecolor="none",
            )
            axes.set(
                xlabel="training step",
                ylabel=name,
                title=f"{name}: {value:.4g} where kept",
            )
            axes.grid(alpha=0.3)
            axes.legend(frameon=False)


def draw_confusion(path, labels, predictions):
    """Draw how often each digit was taken for each: only the errors are coloured."""
    counts = np.zeros((10, 10), int)
    np.add.at(counts, (labels, predictions), 1)
    errors = counts * (1 - np.eye(10, dtype=int))
    with figure(path, 7, 6) as drawn:
        axes = drawn.subplots()
        shown = axes.imshow(errors, cmap="Oranges", vmin=0, vmax=max(1, errors.max()))
        for row, column in np.ndindex(10, 10):
            count, right = counts[row, column], row == column
            if right:
                axes.add_patch(_square(column, row, facecolor="#e8eef5"))
            dark = errors[row, column] > 0.6 * errors.max()
            colour = (
                "white" if dark and not right else "#222222" if count else "#cccccc"
            )
            axes.text(
                column,
                row,
                str(count),
                ha="center",
                va="center",
                color=colour,
                fontsize=9,
            )
        axes.set(
            xlabel="what the model thought",
            ylabel="the digit",
            xticks=range(10),
            yticks=range(10),
            title=f"{errors.sum():,} errors in {counts.sum():,} test digits",
        )
        drawn.colorbar(shown, ax=axes, label="errors", shrink=0.8)


def _square(x, y, **style):
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.5, y - 0.5), 1, 1, **style)


def draw_mistakes(path, images, labels, probabilities, columns=8, rows=3):
    """Draw the digits to whose true label the model gave least, with what it thought."""
    likelihoods = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
    worst = np.argsort(likelihoods, kind="stable")[: columns * rows]
    with figure(path, 9, 1.65 * rows + 0.5) as drawn:
        wrong = int(np.sum(probabilities.argmax(axis=1) != labels))
        drawn.suptitle(
            f"The worst-scored test digits: what the model thought, and what it gave the truth. "
            f"{wrong:,} of {len(labels):,} are wrong.",
            fontsize=11,
        )
        grid = drawn.subplots(rows, columns, squeeze=False).ravel()
        for axes in grid:
            axes.axis("off")
        for axes, index in zip(grid, worst):
            label, thought = labels[index], probabilities[index].argmax()
            axes.imshow(images[index], cmap="gray_r", vmin=0, vmax=1)
            colour = "#333333" if thought == label else "#b23a00"
            title = f"a {thought}? {_percent(probabilities[index, thought])}\n"
            title += f"is {label}: {_percent(likelihoods[index])}"
            axes.set_title(title, fontsize=9, color=colour)


def _percent(probability):
    return (
        f"{probability:.0%}"
        if 0.01 <= probability <= 0.99
        else "<1%"
        if probability < 0.5
        else ">99%"
    )


def draw_digit_gates(path, model, images, labels, probabilities):
    """Draw, row by row of a digit, the class probabilities and how far the gates are open.

    The digit is the first test digit that is right at last and on which the model changed its mind late:
    among the first 200, the one whose winner came to lead at the latest row.
    """
    layer = next(layer for layer in model.layers if isinstance(layer, keras.layers.RNN))
    first = trace_gates(layer, images[:200])
    by_row = keras.ops.convert_to_numpy(
        model.layers[-1](first["h"])
    )  # (digits, rows, classes)
    is_winner = by_row.argmax(axis=2) == labels[:200, None]
    settled = np.argmax(np.cumprod(is_winner[:, ::-1], axis=1)[:, ::-1], axis=1)
    right = probabilities[:200].argmax(axis=1) == labels[:200]
    index = int(np.argmax(np.where(right, settled, -1)))
    traces = {name: values[index] for name, values in first.items()}
    groups = _gate_groups(traces)
    with figure(path, 9, 4.8) as drawn:
        widths = [1.7, 1.15, *[1.35 if len(groups) == 1 else 0.9] * len(groups)]
        axes = drawn.subplots(1, len(widths), sharey=True, width_ratios=widths)
        axes[0].imshow(images[index], cmap="gray_r", vmin=0, vmax=1, aspect="auto")
        axes[0].set(
            title=f"a {labels[index]}, read downwards",
            ylabel="row of the image, one step each",
            xlabel="pixel",
        )
        shown = axes[1].imshow(
            by_row[index], cmap="Blues", vmin=0, vmax=1, aspect="auto"
        )
        axes[1].set(title="class probabilities", xlabel="digit", xticks=range(10))
        drawn.colorbar(shown, ax=axes[1], ticks=[0, 0.5, 1], aspect=40)
        for panel, (title, names) in zip(axes[2:], groups.items()):
            _plot_gates(panel, layer, traces, names, upright=True)
            panel.set_title(title)
        drawn.suptitle(
            "What the network thinks after each row (its last layer, applied to h), and its gates",
            fontsize=11,
        )


def _gate_groups(traces):
    """Return title -> names of gates: one panel, or one for each level of a stack."""
    gates = [
        name for name in traces if name.split("_")[0] not in ("candidate", "c", "h")
    ]
    levels = sorted({name.partition("_")[2] for name in gates})
    if len(levels) > 1:
        return {
            f"gates, level {level}": [
                gate for gate in gates if gate.endswith(f"_{level}")
            ]
            for level in levels
        }
    if gates == ["active"]:
        return {"modules that ticked": gates}
    return (
        {"gates, mean opening": gates} if gates else {"no gates: mean size of h": ["h"]}
    )


def _plot_gates(axes, layer, traces, names, upright):
    """Plot means over the units against the step: downwards if ``upright``, else to the right."""
    if names == ["active"]:
        periods = layer.cell.periods
        modules = traces["active"][:, :: layer.cell.module_units]
        steps, count = modules.shape
        extent = (
            (-0.5, count - 0.5, steps - 0.5, -0.5)
            if upright
            else (0.5, steps + 0.5, count - 0.5, -0.5)
        )
        style = {"cmap": "Greys", "vmin": 0, "vmax": 1.6, "aspect": "auto"}
        axes.imshow(modules if upright else modules.T, extent=extent, **style)
        axes.set(
            **{
                "xticks" if upright else "yticks": range(len(periods)),
                "xticklabels" if upright else "yticklabels": periods,
                "xlabel" if upright else "ylabel": "period of the module",
            }
        )
        return
    for name in names:
        values = traces[name]
        means = np.mean(np.abs(values), axis=1)
        steps = np.arange(len(means))
        base = name.split("_")[0]
        style = {
            "color": GATE_COLOURS.get(base, "#333333"),
            "label": GATES.get(base, f"|{base}|"),
        }
        axes.plot(*((means, steps) if upright else (steps + 1, means)), **style)
    if upright:
        axes.set(
            xlim=(0, 1), xlabel="0 shut … 1 open" if names != ["h"] else "mean |h|"
        )
    else:
        axes.set(ylabel="mean opening" if names != ["h"] else "mean |h|")
    axes.grid(alpha=0.3)
    if upright:
        axes.legend(
            frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.13)
        )
    else:
        low, high = axes.get_ylim()
        axes.set_ylim(low, high + 0.3 * (high - low))  # room for the legend
        axes.legend(frameon=False, fontsize=8, loc="upper center", ncols=len(names))


def draw_calibration(path, labels, probabilities, bins=10):
    """Draw how often reviews are good among those that were given each probability."""
    number = np.minimum((probabilities * bins).astype(int), bins - 1)
    counts = np.bincount(number, minlength=bins)
    full = counts > 0
    said = np.bincount(number, probabilities, bins)[full] / counts[full]
    true = np.bincount(number, labels, bins)[full] / counts[full]
    error = np.sum(counts[full] * np.abs(said - true)) / counts.sum()
    with figure(path, 7, 5.6) as drawn:
        upper, lower = drawn.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        upper.plot(
            [0, 1], [0, 1], color=KEPT, linestyle=":", label="perfectly calibrated"
        )
        upper.plot(said, true, "o-", color=TRAIN, label="this model")
        for x, y in zip(said, true):
            below = y < x
            upper.annotate(
                f"{y:.2f}",
                (x, y),
                (7, -10) if below else (-7, 5),
                textcoords="offset points",
                ha="left" if below else "right",
                fontsize=8,
                color=TRAIN,
            )
        upper.set(
            ylabel="share of good reviews",
            ylim=(-0.05, 1.05),
            title=f"Calibration on {len(labels):,} test reviews: mean distance {error:.3f}",
        )
        upper.legend(frameon=False, loc="upper left")
        lower.bar((np.arange(bins) + 0.5) / bins, counts, width=0.9 / bins, color=TRAIN)
        lower.set(
            xlabel="probability of a good review, said the model",
            ylabel="reviews",
            xlim=(0, 1),
        )
        for axes in (upper, lower):
            axes.grid(alpha=0.3)


def write_mistakes(path, texts, labels, probabilities, count=10):
    """Write the reviews on which the model was most surely wrong."""
    wrong = np.flatnonzero((probabilities > 0.5) != labels)
    worst = wrong[np.argsort(-np.abs(probabilities[wrong] - 0.5), kind="stable")][
        :count
    ]
    lines = [
        f"The model is wrong on {len(wrong):,} of {len(labels):,} test reviews. "
        f"On these {len(worst)} it was most sure."
    ]
    for rank, index in enumerate(worst, 1):
        says, sure = ("good", probabilities[index]) if probabilities[index] > 0.5 else (
            "bad", 1 - probabilities[index]
        )  # fmt: skip
        is_ = "good" if labels[index] else "bad"
        lines += [
            "",
            f"{rank}. Thought {says}, {sure:.1%} sure; is {is_}. Test review {index}:",
        ]
        paragraphs = re.split(r"(?:<br\s*/?>\s*)+", _text(texts[index]))
        lines += [textwrap.fill(part, 100, initial_indent="   ", subsequent_indent="   ")
                  for part in paragraphs if part.strip()]  # fmt: skip
    with report.complete_file(path) as unfinished:
        unfinished.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _text(review):
    return (
        review.decode("utf-8", "replace") if isinstance(review, bytes) else str(review)
    )


def split_words(text):
    """Cut a text into pieces of which the tokenizer makes one word each; marks stay with their word."""
    pieces, before = [], ""
    for piece in re.split(r"[ \t\n\v\f\r]+", text.strip()):
        if piece.strip(string.punctuation):
            pieces.append(before + piece)
            before = ""
        elif pieces:
            pieces[-1] += " " + piece
        else:
            before += piece + " "
    return pieces


def read_word_by_word(model, tokenizer, texts, labels, probabilities):
    """Choose a review and predict after each of its words.

    Chosen among the first `CANDIDATES` test reviews of 20 to `LONGEST` words that the model gets right:
    the one on which the probability moved most. If there is none, the first review's last words.

    Returns:
        Dict of ``index``, ``label``, ``words`` (n), and ``probabilities`` (n + 1): after no word, one, …
    """
    words = tokenizer.output_shape[1]
    found = []
    for index in np.flatnonzero((probabilities > 0.5) == labels):
        pieces = split_words(_text(texts[index]))
        if 20 <= len(pieces) <= min(LONGEST, words):
            found.append((index, pieces))
        if len(found) == CANDIDATES:
            break
    found = found or [(0, split_words(_text(texts[0]))[-min(LONGEST, words) :])]
    begun = [
        [" ".join(pieces[:n]) for n in range(len(pieces) + 1)] for _, pieces in found
    ]
    said = [
        np.asarray(model(tokenizer(tf.constant(texts)), training=False))[:, 0]
        for texts in begun
    ]
    chosen = int(np.argmax([np.ptp(values) for values in said]))
    index, pieces = found[chosen]
    return {
        "index": int(index),
        "label": "good" if labels[index] else "bad",
        "words": pieces,
        "probabilities": said[chosen],
    }


def word_traces(model, tokenizer, words):
    """Return the recurrent layer, and its trace on a review: dict of arrays ``(words, units)``.

    Of a bidirectional layer it is the one that reads forwards.
    """
    numbers = np.asarray(tokenizer(tf.constant([" ".join(words)])))
    kinds = (keras.layers.RNN, keras.layers.Bidirectional)
    wrapper = next(layer for layer in model.layers if isinstance(layer, kinds))
    layer = getattr(wrapper, "forward_layer", wrapper)
    inputs = keras.tree.flatten(wrapper.input)[
        0
    ]  # the second, if there is one, is the mask
    sequences = keras.Model(model.input, inputs)(numbers)
    traces = trace_gates(
        layer, sequences
    )  # the words come first, the padding after them
    count = int(np.sum(numbers != 0))
    return layer, {
        name: values.reshape(-1, values.shape[-1])[:count]
        for name, values in traces.items()
    }


def _moves(review):
    """Return how the probability moved at each word, and the move that gets the full colour."""
    moves = np.diff(review["probabilities"])
    return moves, max(0.02, float(np.quantile(np.abs(moves), 0.97)))


def _lines(words):
    """Return the line and the column at which each word begins."""
    places, line, column = [], 0, 0
    for word in words:
        if column and column + len(word) > COLUMNS:
            line, column = line + 1, 0
        places.append((line, column))
        column += len(word) + 1
    return places


def draw_words(path, review, layer_and_traces):
    """Draw a review's words coloured by how the probability moved, and beneath it the gates."""
    from matplotlib.patches import Rectangle

    layer, traces = layer_and_traces
    words = [_without_tags(word)[:COLUMNS] for word in review["words"]]
    moves, largest = _moves(review)
    places = _lines(words)
    groups = _gate_groups(traces)
    text_height = 0.21 * (places[-1][0] + 1) + 0.1
    heights = [text_height, 1.9, *[1.6] * len(groups)]
    with figure(path, 9, sum(heights) + 1.5) as drawn:
        panels = drawn.subplots(len(heights), 1, height_ratios=heights)
        axes = panels[0]
        axes.set(xlim=(0, COLUMNS), ylim=(places[-1][0] + 1, 0))
        axes.axis("off")
        axes.set_title(
            f"{_summary(review)}\nA word is blue where it moved the probability towards good, "
            "orange towards bad.",
            fontsize=10,
            loc="left",
        )
        for word, move, (line, column) in zip(words, moves, places):
            colour = [part / 255 for part in (GOOD if move > 0 else BAD)]
            strength = 0.75 * min(1, abs(move) / largest)
            axes.add_patch(
                Rectangle(
                    (column - 0.3, line + 0.06),
                    len(word) + 0.6,
                    0.88,
                    color=(*colour, strength),
                )
            )
            for letter, character in enumerate(word):
                axes.text(
                    column + letter + 0.5,
                    line + 0.5,
                    character,
                    family="monospace",
                    fontsize=8.5,
                    ha="center",
                    va="center_baseline",
                    parse_math=False,
                )
        axes = panels[1]
        axes.axhline(0.5, color=KEPT, linestyle=":")
        axes.plot(np.arange(len(words) + 1), review["probabilities"], color=TRAIN)
        axes.set(ylim=(0, 1), ylabel="probability\nof good")
        axes.grid(alpha=0.3)
        for panel, (title, names) in zip(panels[2:], groups.items()):
            _plot_gates(panel, layer, traces, names, upright=False)
            panel.set_title(title, fontsize=10, loc="left")
        for panel in panels[1:]:
            panel.set_xlim(0, len(words) + 0.5)
        panels[-1].set_xlabel("words read")


def _without_tags(word):
    """Return a piece of a review without the halves of ``<br />`` that splitting leaves."""
    return re.sub(r"<br|/>", "", word).strip()


def _summary(review):
    probability = review["probabilities"][-1]
    return (
        f"Test review {review['index']}, {review['label']}: probability of good "
        f"{review['probabilities'][0]:.2f} before the first word, {probability:.2f} after the last."
    )


PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light; }}
body {{ background: #fff; color: #222; font: 17px/1.9 Georgia, serif; max-width: 46em; margin: 2em auto;
  padding: 0 1em; }}
h1 {{ font-size: 1.3em; line-height: 1.3; }}
.words span {{ border-radius: 3px; padding: 2px 1px; }}
.legend {{ font-size: 0.85em; line-height: 1.5; }}
.bar {{ display: inline-block; width: 12em; height: 0.8em; vertical-align: middle; margin: 0 0.4em;
  background: linear-gradient(to right, rgba({bad}, 0.75), rgba({bad}, 0), rgba({good}, 0),
  rgba({good}, 0.75)); border: 1px solid #ccc; }}
</style>
</head>
<body>
<h1>{title}</h1>
<p class="legend">{summary}</p>
<p class="legend">A word's colour is how the probability moved when the network had read it:
towards bad, by {largest:.2f} or more <span class="bar"></span> towards good, by {largest:.2f} or more.
Point at a word to see the figures.</p>
<p class="words">
{words}
</p>
</body>
</html>
"""


def write_page(path, review):
    """Write a page that needs no other file: the review's words, coloured as in `draw_words`."""
    moves, largest = _moves(review)
    spans = []
    for number, (word, move) in enumerate(zip(review["words"], moves)):
        before, after = review["probabilities"][number : number + 2]
        colour = ", ".join(map(str, GOOD if move > 0 else BAD))
        strength = 0.75 * min(1, abs(move) / largest)
        shown = html.escape(_without_tags(word))
        spans.append(
            f'<span style="background: rgba({colour}, {strength:.2f})" '
            f'title="{before:.3f} → {after:.3f}">{shown}</span>'
        )
        if "/>" in word or "<br" in word:
            spans[-1] = (
                (spans[-1] + "<br>") if word.endswith("<br") else ("<br>" + spans[-1])
            )
    page = PAGE.format(
        title="A review, as the network reads it",
        summary=html.escape(_summary(review)),
        largest=largest,
        good=", ".join(map(str, GOOD)),
        bad=", ".join(map(str, BAD)),
        words="\n".join(spans),
    )
    with report.complete_file(path) as unfinished:
        unfinished.write_text(page, encoding="utf-8")
