"""How far an IMDB run's answers can be trusted: its calibration and its mistakes."""

import re
import textwrap

import numpy as np

from recipes.pictures.figure import KEPT, TRAIN, figure
from recipes.run.files import write_text
from recipes.run.texts import decode, visible


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
        for x, y in zip(said, true, strict=True):
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
            title=f"Calibration on {len(labels):,} test reviews: "
            f"mean distance {error:.3f}",
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
    """Write the reviews on which the model was most confidently wrong."""
    wrong = np.flatnonzero((probabilities > 0.5) != labels)
    confidence = np.abs(probabilities[wrong] - 0.5)
    worst = wrong[np.argsort(-confidence, kind="stable")][:count]
    lines = [
        f"The model is wrong on {len(wrong):,} of {len(labels):,} test reviews. "
        f"On these {len(worst)} it was most sure."
    ]
    for rank, index in enumerate(worst, 1):
        good = probabilities[index]
        thought, sure = ("good", good) if good > 0.5 else ("bad", 1 - good)
        truth = "good" if labels[index] else "bad"
        lines += [
            "",
            f"{rank}. Thought {thought}, {sure:.1%} sure; is {truth}. "
            f"Test review {index}:",
        ]
        for part in re.split(r"(?:<br\s*/?>\s*)+", decode(texts[index])):
            if part.strip():
                text = textwrap.fill(visible(part), 97)
                lines.append(textwrap.indent(text, "   "))
    write_text(path, "\n".join(lines) + "\n")
