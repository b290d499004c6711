"""The adding problem: the sum of the two numbers that are marked."""

import dataclasses

import numpy as np

from recipes.comparison.tasks.task import Chance, Defaults, Head, Published, Task

BAI = "Bai et al. 2018 (arXiv 1803.01271), table 1"
BAI_CONDITIONS = "T = 600, 70,000 parameters; both markers anywhere"


@dataclasses.dataclass(frozen=True)
class Adding(Task):
    """The adding problem.

    Hochreiter & Schmidhuber 1997, "Long Short-Term Memory", experiment 4, in the form
    of Arjovsky et al. 2016 (arXiv 1511.06464), section 5.2. A sequence of T steps has
    two features: a number, uniform between 0 and 1, and a marker, which is 1 at two
    steps and else 0: one among the first T // 2 steps, one among the others. The
    target, after the last step, is the sum of the two marked numbers.

    Who predicts 1 has the variance of a sum of two independent uniform numbers as mean
    squared error: 2 · 1/12 = 1/6.

    In 1997 the numbers were from −1 to 1, the target was 0.5 + (X1 + X2) / 4, and a
    sequence was right if the error was below 0.04. In our units that is 0.08: the
    figure ``correct`` is the part of the test sequences that are right. "Solved" is
    ours: 99 % of them.
    """

    tolerance = 0.08

    def draw(self, rng, count):
        """Return inputs ``(count, T, 2)`` and sums ``(count, 1)``."""
        T = self.inputs[0]
        x = np.zeros((count, T, 2), "float32")
        x[..., 0] = rng.random((count, T))
        rows = np.arange(count)
        first = rng.integers(0, T // 2, count)
        second = rng.integers(T // 2, T, count)
        x[rows, first, 1] = x[rows, second, 1] = 1
        return x, (x[rows, first, :1] + x[rows, second, :1])

    def measure(self, outputs, targets):
        """Return the mean squared error, and the part of the sequences right."""
        error = outputs.astype("float64") - targets
        return {
            "mse": float(np.mean(error**2)),
            "correct": float(np.mean(np.abs(error) < self.tolerance)),
        }

    def solved(self, figures):
        """Return whether 99 % of the sequences are right."""
        return figures["correct"] >= 0.99


def make_adding(T, steps, kind=Adding):
    """Return the adding problem of T steps, as a task of a kind."""
    return kind(
        name=f"adding-{T}",
        goal=f"add two of {T} numbers",
        source="Hochreiter & Schmidhuber 1997, experiment 4",
        inputs=(T, 2),
        head=Head(1, "linear", "mean_squared_error", return_sequences=False),
        metric="mse",
        better="lower",
        chance=Chance(1 / 6, "predicting 1: the variance of two uniform numbers' sum"),
        defaults=Defaults(steps, batch_size=50, learning_rate=5e-3),
        published=tuple(
            Published(cell, value, BAI, BAI_CONDITIONS)
            for cell, value in (("lstm", 0.164), ("gru", 5.3e-5), ("simple-rnn", 0.177))
        ),
    )
