"""Temporal order: that of three symbols, far from each other."""

import dataclasses

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

#: What an input's number means.
ALPHABET = "EBXYabcd"
DISTRACTORS = tuple(ALPHABET.index(symbol) for symbol in "abcd")
#: The first and the last step at which each of the three symbols can be.
PLACES = ((5, 10), (16, 21), (33, 38))
REPRODUCTION = "github.com/cybertronai/schmidhuber-problems, temporal-order-4bit"


@dataclasses.dataclass(frozen=True)
class TemporalOrder(Task):
    """Temporal order, three bits.

    Hochreiter & Schmidhuber 1997, "Long Short-Term Memory", task 6b, at half its
    length. A sequence starts with E and ends with the trigger B. All symbols between
    are drawn from a, b, c, d, but for three, each X or Y: at a step from 5 to 10, from
    16 to 21 and from 33 to 38, with equal probabilities. Its class, from 0 to 7, is
    their order: with X = 0 and Y = 1, the binary number of the three, the first one
    first. Inputs are one-hot vectors of 8.

    In the paper a sequence has 100 to 110 symbols, and the three are at 10 to 20, 33 to
    43 and 66 to 76; the network, with three blocks of two cells, needed 571,100
    sequences. A guess is right one time in eight. "Solved" is ours: 99 % right.
    """

    test_size = 2560  # as in the paper

    def draw(self, rng, count):
        """Return inputs ``(count, T, 8)`` and classes ``(count,)``."""
        symbols = rng.choice(DISTRACTORS, (count, self.inputs[0]))
        symbols[:, 0], symbols[:, -1] = ALPHABET.index("E"), ALPHABET.index("B")
        classes = np.zeros(count, "int32")
        for first, last in PLACES:
            place = rng.integers(first, last + 1, count)
            is_y = rng.integers(0, 2, count)
            symbols[np.arange(count), place] = ALPHABET.index("X") + is_y
            classes = 2 * classes + is_y.astype("int32")
        return one_hot(symbols, len(ALPHABET)), classes

    def measure(self, outputs, targets):
        """Return accuracy and cross-entropy."""
        return {
            "accuracy": float(np.mean(outputs.argmax(axis=-1) == targets)),
            "cross_entropy": cross_entropy(outputs, targets),
        }

    def solved(self, figures):
        """Return whether 99 % of the sequences are right."""
        return figures["accuracy"] >= 0.99


def make_temporal_order(T=50):
    """Return the task; its sequences have T steps, at least 40."""
    conditions = (
        "5 seeds, T = 50, places 3 to 9, 18 to 26 and 33 to 40; 326 parameters (lstm) "
        "and 146 (simple-rnn), 48,000 "
        "sequences, Adam; a reproduction, not the paper"
    )
    return TemporalOrder(
        name=f"temporal-order-{T}",
        goal="name the order of three symbols",
        source="Hochreiter & Schmidhuber 1997, task 6b, at half its length",
        inputs=(T, len(ALPHABET)),
        head=Head(
            8, "softmax", "sparse_categorical_crossentropy", return_sequences=False
        ),
        metric="accuracy",
        better="higher",
        chance=Chance(1 / 8, "one of eight classes, equally likely"),
        defaults=Defaults(steps=1000, batch_size=32, learning_rate=1e-2),
        published=(
            Published("lstm of 1997, no forget gate", 0.998, REPRODUCTION, conditions),
            Published("simple-rnn", 0.133, REPRODUCTION, conditions),
        ),
    )
