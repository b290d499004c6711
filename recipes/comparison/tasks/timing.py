"""Precise timing: measure the delay between spikes, and generate spikes on time.

Gers, Schraudolph & Schmidhuber 2002, "Learning Precise Timing with LSTM Recurrent
Networks" (JMLR 3, 115-143), for which they put peepholes into the LSTM. The kinds of
tasks and the criterion (no output may be off by a half; they took 0.49) are theirs.
Lengths, encoding and numbers of streams are ours, and so is the training: the whole
stream is backpropagated through, with cross-entropy. The paper truncated the gradients,
took squared errors, and went on with a stream until the first mistake.
"""

import dataclasses
import typing

import numpy as np

from recipes.comparison.tasks.task import (
    Chance,
    Defaults,
    Head,
    Task,
    predict,
    weights_of,
)

PAPER = "Gers, Schraudolph & Schmidhuber 2002"


@dataclasses.dataclass(frozen=True)
class Delays(Task):
    """Measuring spike delays: F steps, or F + 1.

    The input is 1 at a spike, else 0. The first spike is at step 0; then come ten
    intervals of F or F + 1 steps, equally likely, each ended by a spike. At these ten
    spikes, and only there, the target counts: 0 for F, 1 for F + 1. After the last one
    the input is 0.

    ``correct`` is the part of the spikes, ``streams`` that of the streams with ten
    right answers. A guess is right one time in two. "Solved" is ours: 99 % of the
    streams.

    Attributes:
        interval: F.
    """

    interval: int = 10
    spikes: typing.ClassVar[int] = 10

    def draw(self, rng, count):
        """Return inputs, targets ``(count, T, 1)`` and weights ``(count, T)``."""
        longer = rng.integers(0, 2, (count, self.spikes))
        times = np.cumsum(self.interval + longer, axis=1)
        x = np.zeros((count, self.inputs[0], 1), "float32")
        y, rows = np.zeros_like(x), np.arange(count)[:, None]
        x[:, 0] = x[rows, times] = 1
        y[rows, times, 0] = longer
        is_counted = x[..., 0] > 0
        is_counted[:, 0] = False
        return x, y, weights_of(is_counted)

    def evaluate(self, model):
        """Return the parts of the spikes and of the streams that are right."""
        x, y, weights = self.test()
        right = (predict(model, x) > 0.5) == (y > 0.5)
        right = right[weights > 0].reshape(-1, self.spikes)
        return {
            "correct": float(right.mean()),
            "streams": float(right.all(axis=1).mean()),
        }

    def solved(self, figures):
        """Return whether 99 % of the streams are right."""
        return figures["streams"] >= 0.99


@dataclasses.dataclass(frozen=True)
class Pulses(Task):
    """Generating timed spikes: one every F steps, without any input that tells when.

    The input is constant. The target is 1 at the last step of every cycle of F steps,
    else 0. With ``choices`` (0,) the input is 1 and there is one stream, which every
    batch holds. With (0, 1), there are two streams: the input is I, 0 or 1, and a cycle
    has F + I steps. Nothing is drawn at random.

    It is trained on five cycles and tested on fifty. A cycle is right if every output
    in it is on the right side of ½. ``cycles`` is the part of them that are right,
    ``stable`` the number before the first wrong one (of the worst stream), ``mse`` the
    mean squared error of all steps. A constant output has no cycle right. "Solved" is
    ours: all of them.

    Attributes:
        interval: F.
        choices: The I that a stream can have.
    """

    interval: int = 10
    choices: tuple[int, ...] = (0,)
    trained_cycles: typing.ClassVar[int] = 5
    tested_cycles: typing.ClassVar[int] = 50

    def encode(self, chosen, steps):
        """Return inputs and targets ``(count, steps, 1)`` of streams.

        Args:
            chosen: The I of each stream, ``(count,)``.
            steps: Their length.
        """
        constant = np.ones_like(chosen) if len(self.choices) == 1 else chosen
        x = np.repeat(constant[:, None, None], steps, axis=1).astype("float32")
        length = (self.interval + chosen)[:, None]
        y = (np.arange(1, steps + 1) % length == 0).astype("float32")
        return x, y[..., None]

    def draw(self, rng, count):
        """Return inputs and targets ``(count, T, 1)``."""
        return self.encode(np.resize(self.choices, count), self.inputs[0])

    def test(self, seed=0):
        """Return one stream of fifty cycles for each choice, whatever the seed."""
        steps = self.tested_cycles * (self.interval + max(self.choices))
        return self.encode(np.array(self.choices), steps)

    def measure(self, outputs, targets):
        """Return how many cycles are right, how long the first ones are, the error."""
        right = ((outputs > 0.5) == (targets > 0.5))[..., 0]
        cycles = np.stack(
            [
                stream[: self.tested_cycles * length].reshape(-1, length).all(axis=1)
                for stream, length in zip(
                    right, self.interval + np.array(self.choices), strict=True
                )
            ]
        )
        error = outputs.astype("float64") - targets
        return {
            "cycles": float(cycles.mean()),
            "stable": float(min(np.argmin([*row, False]) for row in cycles)),
            "mse": float(np.mean(error**2)),
        }

    def solved(self, figures):
        """Return whether all cycles are right."""
        return figures["cycles"] == 1


HEAD = Head(1, "sigmoid", "binary_crossentropy", return_sequences=True)


def make_delays(interval, steps):
    """Return the measuring of intervals of F or F + 1 steps."""
    return Delays(
        name=f"delays-{interval}",
        goal=f"tell {interval} steps from {interval + 1}",
        source=f"{PAPER}, measuring spike delays",
        inputs=(Delays.spikes * (interval + 1) + 1, 1),
        head=HEAD,
        metric="correct",
        better="higher",
        chance=Chance(1 / 2, "two intervals, equally likely"),
        defaults=Defaults(steps, batch_size=32, learning_rate=1e-2),
        interval=interval,
    )


def make_pulses(name, interval, choices, steps):
    """Return the generation of a spike every F steps, or every F + I."""
    longest = interval + max(choices)
    return Pulses(
        name=f"{name}-{interval}",
        goal=f"a pulse every {interval} steps"
        + (" or one more, as told" if len(choices) > 1 else ""),
        source=f"{PAPER}, generating timed spikes",
        inputs=(Pulses.trained_cycles * longest, 1),
        head=HEAD,
        metric="cycles",
        better="higher",
        chance=Chance(0, "a constant output is wrong in every cycle"),
        defaults=Defaults(
            steps, batch_size=len(choices), learning_rate=3e-3, parameters=250
        ),
        interval=interval,
        choices=choices,
    )
