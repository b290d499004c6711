"""Resume an interrupted run from its last validation, with an unchanged result."""

import contextlib
import os

from recipes import imdb, mnist
from recipes.run.command_line import Parser, UserError, exit_with, folder_name
from recipes.run.folder import IsNoRun, RunFolder, RunIsLocked, find_runs, reopen
from recipes.run.values import printable

PROGRAMS = {"mnist": mnist.PROGRAM, "imdb": imdb.PROGRAM}
CONFIGS = {recipe: program.config_class for recipe, program in PROGRAMS.items()}


def reopen_last(runs):
    """Return, ready to be resumed, the last run that can be.

    Runs that are finished, have diverged or are locked cannot.

    Raises:
        UserError: There is none.
    """
    for folder in find_runs(runs):
        if not folder.is_finished and not folder.has_diverged:
            with contextlib.suppress(IsNoRun, RunIsLocked):
                if (stopped := reopen(folder, CONFIGS)) is not None:
                    return stopped
    raise UserError(f"there is no run in {runs} to resume")


def find(name, runs):
    """Return the folder of a run, named by its path or by a name that one run has."""
    if not os.path.isdir(name):
        named = [folder for folder in find_runs(runs) if folder.path.name == name]
        if len(named) == 1:
            return named[0]
    return RunFolder(name)


def main(arguments):
    """Resume a run; return the exit status."""
    parser = Parser(prog="python -m recipes resume", description=__doc__)
    parser.add_argument(
        "--run",
        default="",
        help="folder of the run (default: the unfinished run begun last)",
    )
    parser.add_argument(
        "--runs",
        type=folder_name,
        default="runs",
        help="folder of all runs (default: 'runs')",
    )
    chosen = parser.parse_args(arguments)
    folder = find(chosen.run, chosen.runs) if chosen.run else None
    stopped = reopen(folder, CONFIGS) if folder else reopen_last(chosen.runs)
    if stopped is None:
        print(f"The run {printable(str(folder))} is finished: there is nothing to do.")
        return 0
    return PROGRAMS[stopped.recipe].execute(stopped)


if __name__ == "__main__":
    exit_with(main)
