"""Copy memory: repeat ten symbols after a long pause."""

import dataclasses
import math

import numpy as np

from recipes.comparison.tasks.task import (
    Chance,
    Defaults,
    Head,
    Published,
    Task,
    cross_entropy,
    one_hot,
)

SYMBOLS, LENGTH = 8, 10
BLANK, GO = 0, SYMBOLS + 1  # the symbols are 1 to 8
BAI = "Bai et al. 2018 (arXiv 1803.01271), table 1"
BAI_CONDITIONS = "T = 1,000, 16,000 parameters; guessing has 0.0204"


@dataclasses.dataclass(frozen=True)
class CopyMemory(Task):
    """Copy memory.

    Hochreiter & Schmidhuber 1997, in the form of Arjovsky et al. 2016 (arXiv
    1511.06464), section 5.1. A sequence has T + 20 steps: ten symbols, each one of
    eight; T − 1 blanks; a signal to go; ten blanks. The target has as many steps: T +
    10 blanks, then the ten symbols in their order. Inputs are one-hot vectors of 10:
    blank, symbols, signal; outputs are the probabilities of blank and symbols.

    Who knows all but the symbols gives each of them 1/8: the mean cross-entropy, in
    nats, is 10 ln 8 / (T + 20). The figure ``correct`` is the part of the ten last
    symbols that get the highest probability; guessing has 1/8.

    "Solved" is ours: 99 % of them.
    """

    test_size = 500

    def draw(self, rng, count):
        """Return inputs ``(count, T + 20, 10)`` and labels ``(count, T + 20)``."""
        steps = self.inputs[0]
        symbols = rng.integers(1, SYMBOLS + 1, (count, LENGTH))
        given = np.full((count, steps), BLANK)
        given[:, :LENGTH] = symbols
        given[:, -LENGTH - 1] = GO
        wanted = np.full((count, steps), BLANK, "int32")
        wanted[:, -LENGTH:] = symbols
        return one_hot(given, SYMBOLS + 2), wanted

    def measure(self, outputs, targets):
        """Return the cross-entropy, and the part of the symbols that are right."""
        right = outputs[:, -LENGTH:].argmax(axis=-1) == targets[:, -LENGTH:]
        return {
            "cross_entropy": cross_entropy(outputs, targets),
            "correct": float(np.mean(right)),
        }

    def solved(self, figures):
        """Return whether 99 % of the symbols are right."""
        return figures["correct"] >= 0.99


def make_copy(T, steps):
    """Return copy memory with a pause of T steps."""
    chance = LENGTH * math.log(SYMBOLS) / (T + 2 * LENGTH)
    return CopyMemory(
        name=f"copy-{T}",
        goal=f"repeat ten symbols after {T} steps",
        source="Arjovsky et al. 2016, section 5.1, after Hochreiter & Schmidhuber 1997",
        inputs=(T + 2 * LENGTH, SYMBOLS + 2),
        head=Head(
            SYMBOLS + 1,
            "softmax",
            "sparse_categorical_crossentropy",
            return_sequences=True,
        ),
        metric="cross_entropy",
        better="lower",
        chance=Chance(chance, "1/8 for each of ten symbols: 10 ln 8 / (T + 20)"),
        defaults=Defaults(steps, batch_size=50, learning_rate=5e-3),
        published=tuple(
            Published(cell, value, BAI, BAI_CONDITIONS)
            for cell, value in (
                ("lstm", 0.0204),
                ("gru", 0.0197),
                ("simple-rnn", 0.0202),
            )
        ),
    )
