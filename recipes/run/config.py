"""The choices that both programs offer."""

import dataclasses
import pathlib

from custom_layers import LAYERS
from recipes.run.command_line import UserError, check_at_least, flag


@dataclasses.dataclass(frozen=True)
class Config:
    """The choices that both programs offer."""

    preset: str
    cell: str = flag("lstm", "the recurrent cell", choices=tuple(LAYERS))
    units: int = flag(128, "units of the recurrent layer")
    epochs: int = flag(0, "passes over the training data; 0: no limit")
    steps: int = flag(0, "training steps; 0: no limit")
    save_every: int = flag(0, "steps between two validations; 0: an epoch")
    batch: int = flag(128, "examples in a batch")
    seed: int = flag(1, "seed of weights, order of the data and dropout")
    data: str = flag(
        "auto",
        "full: the real data; sample: the built-in sample; auto: real, else sample",
        choices=("auto", "full", "sample"),
    )
    name: str = flag("", "name of the run's folder; empty: cell-preset-seed")
    runs: str = flag("runs", "folder of all runs")
    logdir: str = flag("", "folder for TensorBoard's events; empty: none")
    target: float = flag(0.0, "exit with status 1 below this test accuracy")

    def check(self):
        """Raise UserError for values that mean nothing."""
        check_at_least(
            self, units=1, epochs=0, steps=0, save_every=0, batch=1, seed=0, target=0.0
        )
        if not self.epochs and not self.steps:
            raise UserError("--epochs and --steps are both 0: training would never end")
        if self.target > 1:
            raise UserError(f"--target must be at most 1, got {self.target!r}")
        if self.seed >= 2**32:
            raise UserError(f"--seed must be below 2**32, got {self.seed}")
        if pathlib.PurePath(self.name).name != self.name or self.name.startswith("."):
            raise UserError(
                f"--name must be the name of a folder, not a path, got {self.name!r}"
            )

    def make_recurrent(self, **options):
        """Return the recurrent layer that ``--cell`` and ``--units`` name.

        Raises:
            UserError: The cell cannot have that many units.
        """
        try:
            return LAYERS[self.cell](self.units, **options)
        except ValueError as error:
            raise UserError(
                f"--units {self.units} with --cell {self.cell}: {error}"
            ) from error
