"""Go on with a run that was stopped: from its last validation, to the end it would have had."""

import argparse
import pathlib

from recipes import imdb, mnist
from recipes.command_line import UserError, run
from recipes.run_folder import CONFIG, METRICS, find_runs, reopen

PROGRAMS = {"mnist": mnist, "imdb": imdb}
CONFIGS = {"mnist": mnist.MnistConfig, "imdb": imdb.ImdbConfig}


def find_unfinished(runs):
    """Return the unfinished run that was begun last.

    Raises:
        UserError: There is none.
    """
    for folder in find_runs(runs):
        if (folder / CONFIG).exists() and not (folder / METRICS).exists():
            return folder
    raise UserError(f"there is no unfinished run in {runs}")


def main(arguments):
    """Go on with a run; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--run", default="", help="folder of the run (default: the unfinished run begun last)"
    )
    parser.add_argument("--runs", default="runs", help="folder of all runs (default: 'runs')")
    chosen = parser.parse_args(arguments)
    folder = pathlib.Path(chosen.run) if chosen.run else find_unfinished(pathlib.Path(chosen.runs))
    stopped = reopen(folder, CONFIGS)
    if stopped is None:
        print(f"The run {folder} is finished: there is nothing to do.")
        return 0
    print(f"Going on with {folder}.")
    return stopped.carry_out(PROGRAMS[stopped.recipe].train_and_test)


if __name__ == "__main__":
    run(main)
