"""Go on with a run that was stopped: from its last validation, to the end it would have had."""

import contextlib
import os
import pathlib

from recipes import imdb, mnist
from recipes.command_line import Parser, UserError, run
from recipes.run_folder import CONFIG, METRICS, AtWork, find_runs, reopen

PROGRAMS = {"mnist": mnist, "imdb": imdb}
CONFIGS = {"mnist": mnist.MnistConfig, "imdb": imdb.ImdbConfig}


def reopen_last(runs):
    """Return, ready to go on, the run that was begun last of those that nobody finished or works on.

    Raises:
        UserError: There is none.
    """
    for folder in find_runs(runs):
        if (folder / CONFIG).exists() and not (folder / METRICS).exists():
            with contextlib.suppress(AtWork):
                if (stopped := reopen(folder, CONFIGS)) is not None:
                    return stopped
    raise UserError(f"there is no run in {runs} to go on with")


def find(name, runs):
    """Return the folder of the run that ``name`` means: a path, or a name that one run has."""
    named = [folder for folder in runs.glob("*/*") if folder.name == name]
    folder = pathlib.Path(name)
    return named[0] if not os.path.isdir(folder) and len(named) == 1 else folder


def main(arguments):
    """Go on with a run; return the exit status."""
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--run",
        default="",
        help="folder of the run (default: the unfinished run begun last)",
    )
    parser.add_argument(
        "--runs", default="runs", help="folder of all runs (default: 'runs')"
    )
    chosen = parser.parse_args(arguments)
    runs = pathlib.Path(chosen.runs)
    folder = find(chosen.run, runs) if chosen.run else None
    stopped = reopen(folder, CONFIGS) if folder else reopen_last(runs)
    if stopped is None:
        print(f"The run {folder} is finished: there is nothing to do.")
        return 0
    print(f"Going on with {stopped.folder}.")
    return stopped.carry_out(PROGRAMS[stopped.recipe].train_and_test)


if __name__ == "__main__":
    run(main)
