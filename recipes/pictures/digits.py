"""Pictures of an MNIST run: its errors, and its gates as it reads a digit."""

import numpy as np
from matplotlib.patches import Rectangle

from recipes.pictures.figure import KEPT, figure
from recipes.pictures.gates import BELOW, draw_panel, gate_panels
from recipes.reading import read_rows

RIGHT, WRONG = "#333333", "#b23a00"


def draw_confusion(path, labels, predictions):
    """Draw how often each digit was taken for each: only the errors are coloured."""
    counts = np.zeros((10, 10), int)
    np.add.at(counts, (labels, predictions), 1)
    errors = counts * (1 - np.eye(10, dtype=int))
    with figure(path, 7, 6) as drawn:
        axes = drawn.subplots()
        shown = axes.imshow(errors, cmap="Oranges", vmin=0, vmax=max(1, errors.max()))
        for row, column in np.ndindex(10, 10):
            count = counts[row, column]
            if row == column:
                corner = (column - 0.5, row - 0.5)
                axes.add_patch(Rectangle(corner, 1, 1, facecolor="#e8eef5"))
            dark = errors[row, column] > 0.6 * errors.max()
            colour = "white" if dark else "#222222" if count else "#cccccc"
            style = {"ha": "center", "va": "center", "fontsize": 9}
            axes.text(column, row, str(count), color=colour, **style)
        axes.set(
            xlabel="what the model thought",
            ylabel="the digit",
            xticks=range(10),
            yticks=range(10),
            title=f"{errors.sum():,} errors in {counts.sum():,} test digits",
        )
        drawn.colorbar(shown, ax=axes, label="errors", shrink=0.8)


def draw_mistakes(path, images, labels, probabilities, columns=8, rows=3):
    """Draw the digits to whose label the model gave least, with its answers."""
    likelihoods = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
    worst = np.argsort(likelihoods, kind="stable")[: columns * rows]
    with figure(path, 9, 1.65 * rows + 0.5) as drawn:
        wrong = int(np.sum(probabilities.argmax(axis=1) != labels))
        drawn.suptitle(
            "The worst-scored test digits: what the model thought, and what it gave "
            "the truth. "
            f"{wrong:,} of {len(labels):,} are wrong.",
            fontsize=11,
        )
        grid = drawn.subplots(rows, columns, squeeze=False).ravel()
        for axes in grid:
            axes.axis("off")
        for axes, index in zip(grid[: len(worst)], worst, strict=True):
            label, thought = labels[index], probabilities[index].argmax()
            axes.imshow(images[index], cmap="gray_r", vmin=0, vmax=1)
            title = f"a {thought}? {_percent(probabilities[index, thought])}\n"
            title += f"is {label}: {_percent(likelihoods[index])}"
            colour = RIGHT if thought == label else WRONG
            axes.set_title(title, fontsize=9, color=colour)


def _percent(probability):
    if probability < 0.01:
        return "<1%"
    return f"{probability:.0%}" if probability <= 0.99 else ">99%"


def draw_gates(path, model, images, labels, probabilities):
    """Draw the class probabilities and the gates after each row of a digit.

    The digit: among the first 200 test digits classified correctly, the one on which
    the model changed its mind most: where the highest probability of another class,
    after any row, times that of the label after the last row, is largest.
    """
    images, labels = images[:200], labels[:200]
    layer, by_row, first = read_rows(model, images)
    digits = np.arange(len(labels))
    others = by_row.copy()
    others[digits, :, labels] = 0
    change = others.max(axis=(1, 2)) * by_row[digits, -1, labels]
    right = probabilities[:200].argmax(axis=1) == labels
    index = int(np.argmax(np.where(right, change, -1)))
    label, by_row = labels[index], by_row[index]
    wrong = np.flatnonzero(by_row.argmax(axis=1) != label)
    settled = wrong[-1] + 1 if len(wrong) else 0
    traces = {name: values[index] for name, values in first.items()}
    panels = gate_panels(traces)
    with figure(path, 9, 4.9) as drawn:
        widths = [1.7, 1.3, *[1.35 if len(panels) == 1 else 0.9] * len(panels)]
        digit, classes, *rest = drawn.subplots(
            1, len(widths), sharey=True, width_ratios=widths
        )
        digit.imshow(images[index], cmap="gray_r", vmin=0, vmax=1, aspect="auto")
        digit.set(
            title=f"It reads this {label} downwards",
            ylabel="row of the image, one step each",
            xlabel="pixel",
        )
        shown = classes.imshow(by_row, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        classes.set(title="… and thinks it is a …", xticks=range(10))
        classes.tick_params(axis="x", length=0, labeltop=True, labelbottom=False)
        classes.set_xlabel("class probabilities after each row")
        drawn.colorbar(shown, ax=classes, ticks=[0, 0.5, 1], aspect=40)
        for axes, (title, names) in zip(rest, panels.items(), strict=True):
            draw_panel(axes, layer, traces, names, upright=True)
            axes.set_title(title)
        for axes in (digit, classes, *rest):
            line = axes.axhline(settled - 0.5, color=KEPT, linestyle=":")
        classes.legend([line], [f"from here on, {label} is likeliest"], **BELOW)
        drawn.suptitle(
            "A network reads a digit row by row, and makes up its mind", fontsize=13
        )
