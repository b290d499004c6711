"""The choices that both programs offer."""

import dataclasses

from custom_layers import LAYERS
from recipes.run.command_line import UserError, check_flags, flag
from recipes.run.values import FOLDER

PRESETS = ("modern", "best", "classic")
#: What runs did that were begun before a choice existed.
BEFORE = {"devices": 1}
LEARNING_RATE = {"least": 1e-9, "most": 1000}  # the limits of that flag


@dataclasses.dataclass(frozen=True)
class Config:
    """The choices that both programs offer."""

    preset: str = flag("modern", "the program to run", choices=PRESETS)
    cell: str = flag("lstm", "the recurrent cell", choices=tuple(LAYERS))
    units: int = flag(128, "units of the recurrent layer", least=1, most=10_000)
    epochs: int = flag(
        0, "passes over the training data; 0: no limit", least=0, most=10_000
    )
    steps: int = flag(0, "training steps; 0: no limit", least=0, most=10**9)
    save_every: int = flag(
        0, "steps between two validations; 0: an epoch", least=0, most=10**9
    )
    batch: int = flag(128, "examples in a batch", least=1, most=10**6)
    devices: int = flag(
        1,
        "devices that share each batch: GPUs; without a GPU, virtual ones of the CPU, "
        "to try it: not faster",
        least=1,
        most=64,
    )
    seed: int = flag(
        1, "seed of weights, order of the data and dropout", least=0, most=2**32 - 1
    )
    data: str = flag(
        "auto",
        "full: the real data; sample: the built-in sample; auto: real, else sample",
        choices=("auto", "full", "sample"),
    )
    name: str = flag(
        "",
        "name of the run's folder; empty: cell-preset-seed",
        pattern=r"([^./][^/]{0,99})?",
        words="the name of a folder, not a path: at most 100 printable characters, "
        "and no dot in front",
    )
    runs: str = flag(
        "runs", "folder of all runs", pattern=FOLDER.pattern, words=FOLDER.words
    )
    logdir: str = flag(
        "",
        "folder for TensorBoard's events; empty: none",
        pattern=f"({FOLDER.pattern})?",
        words=FOLDER.words,
    )
    target: float = flag(
        0.0, "exit with status 1 below this test accuracy", least=0, most=1
    )

    @classmethod
    def restore(cls, choices):
        """Return the configuration that was saved as a dict.

        Raises:
            ValueError: It is none, or one with which no run can have begun.
        """
        choices = BEFORE | choices
        names = {field.name for field in dataclasses.fields(cls)}
        if differing := names ^ choices.keys():
            raise ValueError(
                f"config lacks or must not have {', '.join(sorted(differing))}"
            )
        config = cls(**choices)
        try:
            config.check()
        except UserError as error:
            raise ValueError(str(error)) from error
        return config

    def check(self):
        """Raise UserError for values that mean nothing."""
        check_flags(self)
        if not self.epochs and not self.steps:
            raise UserError("--epochs and --steps are both 0: training would never end")
        if self.batch % self.devices:
            raise UserError(
                f"--batch must be a multiple of the {self.devices} --devices, "
                f"got {self.batch}"
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
