"""Counting: the languages aⁿbⁿ and aⁿbⁿcⁿ."""

import dataclasses
import typing

import numpy as np

from recipes.comparison.tasks.task import (
    Chance,
    Defaults,
    Head,
    Published,
    Task,
    one_hot,
    predict,
    weights_of,
)

REPRODUCTION = "github.com/cybertronai/schmidhuber-problems, anbn-anbncn"
CONDITIONS = (
    "median of 5 seeds, {}; n up to 100 tested, Adam, one sequence a step; a "
    "reproduction, not the paper"
)


@dataclasses.dataclass(frozen=True)
class Counting(Task):
    """Counting: the symbols that can come next in aⁿbⁿ, or in aⁿbⁿcⁿ.

    Gers & Schmidhuber 2001, "LSTM recurrent networks learn simple context-free and
    context-sensitive languages". The network reads a start symbol S and then the
    string, and says after each symbol which ones can come next; T ends a string, and
    n is at least 1:

        read                       next, in aⁿbⁿ      next, in aⁿbⁿcⁿ
        S                          a                  a
        an a                       a or b             a or b
        a b that is not the last   b                  b
        the last b                 T                  c
        a c that is not the last                      c
        the last c                                    T

    It is trained with n from 1 to 10, equally likely. A string is accepted if all
    symbols' probabilities are, after every step, on the right side of ½. The metric is
    the largest N so that all strings with n ≤ N are accepted; up to 1,000 are tried.

    Ours: one-hot inputs, sigmoid outputs, cross-entropy, full backpropagation through
    time and batches. The paper used −1 and 1, squared errors, truncated gradients and
    one string after the other. A network without memory accepts n = 1 alone: with more,
    after the last b it says the same as after the one before. "Solved" is the
    paper's end of training: all strings with n ≤ 10 are accepted.

    Attributes:
        letters: ``"ab"`` or ``"abc"``.
    """

    letters: str = "ab"
    most_trained: typing.ClassVar[int] = 10
    most_tested: typing.ClassVar[int] = 1000

    def encode(self, numbers):
        """Return the strings with these n: inputs, targets, and which steps there are.

        Args:
            numbers: The n of each string, positive integers ``(count,)``.

        Returns:
            Inputs ``(count, steps, letters + 1)``: S and the letters. Targets of the
            same shape: the letters and T. And ``(count, steps)`` of bool: the shorter
            strings are filled up with zeros at the end.
        """
        n, count = np.asarray(numbers)[:, None], len(self.letters)
        step = np.arange(count * n.max() + 1)[None]
        exists = step <= count * n
        # 0: S; 1, 2, …: the letter.
        read = np.where(step == 0, 0, (step - 1) // n + 1)
        is_last = (step > 0) & (step % n == 0)
        # The letter that is expected, where T is one more than the last one.
        expected = np.where(step == 0, 0, read - 1 + (is_last & (read > 1)))
        x = one_hot(np.where(exists, read, 0), count + 1) * exists[..., None]
        y = one_hot(np.where(exists, expected, 0), count + 1) * exists[..., None]
        y[..., 1][exists & (read == 1)] = 1  # after an a: a or b
        return x.astype("float32"), y.astype("float32"), exists

    def draw(self, rng, count):
        """Return inputs, targets ``(count, steps, letters + 1)`` and weights."""
        numbers = rng.integers(1, self.most_trained + 1, count)
        # One of the longest, left out again: all batches have its length.
        encoded = self.encode([*numbers, self.most_trained])
        x, y, exists = (array[:-1] for array in encoded)
        return x, y, weights_of(exists)

    def test(self, seed=0):
        """Return the strings with n from 1 to 10, whatever the seed."""
        x, y, exists = self.encode(np.arange(1, self.most_trained + 1))
        return x, y, weights_of(exists)

    def accepted(self, model, numbers):
        """Return which strings a network accepts, bool ``(count,)``.

        Args:
            model: A Keras model, or anything else with its ``predict``.
            numbers: The n of each string.
        """
        x, y, exists = self.encode(numbers)
        right = ((predict(model, x) > 0.5) == (y > 0.5)).all(axis=-1)
        return (right | ~exists).all(axis=-1)

    def evaluate(self, model):
        """Return the largest N, and the part of the trained strings accepted."""
        trained = self.accepted(model, np.arange(1, self.most_trained + 1))
        figures = {"trained": float(trained.mean())}
        tried, largest = self.most_trained, int(np.argmin([*trained, False]))
        while largest == tried < self.most_tested:
            tried = min(3 * tried, self.most_tested)
            accepted = self.accepted(model, np.arange(largest + 1, tried + 1))
            largest += int(np.argmin([*accepted, False]))
        return {"largest_n": float(largest), **figures}

    def solved(self, figures):
        """Return whether all strings with n ≤ 10 are accepted."""
        return figures["largest_n"] >= self.most_trained


def make_counting(letters, steps, parameters, published):
    """Return the task of a language."""
    name = "".join(f"{letter}n" for letter in letters)
    count = len(letters)
    return Counting(
        name=name,
        goal=f"count: {'ⁿ'.join(letters)}ⁿ, trained to n = {Counting.most_trained}",
        source="Gers & Schmidhuber 2001",
        inputs=(count * Counting.most_trained + 1, count + 1),
        head=Head(count + 1, "sigmoid", "binary_crossentropy", return_sequences=True),
        metric="largest_n",
        better="higher",
        chance=Chance(1, "without memory, the last of two b is like the first"),
        defaults=Defaults(
            steps, batch_size=10, learning_rate=1e-2, parameters=parameters
        ),
        published=published,
        letters=letters,
    )


ANBN = make_counting(
    "ab",
    3000,
    60,  # two cells with peepholes
    (
        Published(
            "peephole",
            100,
            REPRODUCTION,
            CONDITIONS.format("2 cells; 65 to 100"),
            statistic="median",
        ),
    ),
)
ANBNCN = make_counting(
    "abc",
    4000,
    120,  # three cells with peepholes
    (
        Published(
            "peephole",
            24,
            REPRODUCTION,
            CONDITIONS.format("3 cells; 18 to 29"),
            statistic="median",
        ),
        Published(
            "peephole, Kalman filter",
            1000,
            "Gers et al. 2002 (ICANN, pages 655-660), abstract",
            "n up to 1,000 and more; trained with a Kalman filter",
        ),
    ),
)
