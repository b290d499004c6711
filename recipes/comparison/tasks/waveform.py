"""A waveform, generated from a constant input."""

import dataclasses
import typing

import numpy as np

from recipes.comparison.tasks.task import Chance, Defaults, Head, Published, Task

#: In steps: each divides the length, so that the wave's mean is 0, its variance ½.
PERIODS = (8, 32, 80, 160)
#: Where each sine starts, in parts of a turn; chosen once, without a pattern.
PHASES = (0.13, 0.71, 0.38, 0.92)
LENGTH = 320
REPRODUCTION = "github.com/cybertronai/schmidhuber-problems, clockwork-rnn"


@dataclasses.dataclass(frozen=True)
class Waveform(Task):
    """Generating a waveform.

    After Koutník et al. 2014, "A Clockwork RNN" (arXiv 1402.3511), section 4.1. The
    input is 1 at each of 320 steps, so that the network makes the wave from its own
    state. There is one wave: it is learnt by heart, and training and test are the same.

    The paper had 320 samples of music, at 44.1 kHz, between −1 and 1, which we do not
    have; its errors do not compare with ours. The wave here is a half of the sum of
    four sines, ½ Σ sin(2π (t / p + φ)), t = 0 … 319, of the periods p = 8, 32, 80 and
    160 and the phases φ in `PHASES`. Its mean is 0 and its variance ½: the mean squared
    error of a network that says 0. "Solved" is ours: 1 % of that, 0.005.
    """

    def draw(self, rng, count):
        """Return inputs and targets ``(count, 320, 1)``; all are the same."""
        t = np.arange(LENGTH)[:, None]
        sines = np.sin(2 * np.pi * (t / np.array(PERIODS) + np.array(PHASES)))
        wave = sines.sum(axis=1, keepdims=True) / 2
        x = np.ones((count, LENGTH, 1), "float32")
        return x, np.tile(wave.astype("float32"), (count, 1, 1))

    test_size: typing.ClassVar[int] = 1

    def measure(self, outputs, targets):
        """Return the mean squared error."""
        return {"mse": float(np.mean((outputs.astype("float64") - targets) ** 2))}

    def solved(self, figures):
        """Return whether the error is at most 1 % of the wave's variance."""
        return figures["mse"] <= 0.005


#: Up to the longest of the wave's own, as in the paper.
CLOCKS = (1, 2, 4, 8, 16, 32, 64, 128)
_CONDITIONS = (
    "5 seeds, {}; another wave for each seed, 1,500 steps of plain SGD; given there as "
    "half the mean squared error, {}, where ± divides by 5, not 4; a reproduction, not "
    "the paper"
)
WAVEFORM = Waveform(
    name="waveform",
    goal="draw one long wave by heart",
    source="Koutník et al. 2014, section 4.1, with another wave",
    inputs=(LENGTH, 1),
    head=Head(1, "linear", "mean_squared_error", return_sequences=True),
    metric="mse",
    better="lower",
    chance=Chance(1 / 2, "saying 0: the wave's variance, four sines of ⅛ each"),
    defaults=Defaults(steps=1000, batch_size=1, learning_rate=5e-3, parameters=2500),
    cell_options={"clockwork": {"periods": CLOCKS}},
    published=(
        Published(
            "clockwork",
            0.2250,
            REPRODUCTION,
            _CONDITIONS.format("2,497 parameters", "0.1125 ± 0.0153"),
            deviation=0.0342,
        ),
        Published(
            "simple-rnn",
            0.4908,
            REPRODUCTION,
            _CONDITIONS.format("2,449 parameters", "0.2454 ± 0.0036"),
            deviation=0.0081,
        ),
    ),
)
