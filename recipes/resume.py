"""Resume an interrupted run from its last validation, with an unchanged result."""

import contextlib
import os
import pathlib

from recipes import imdb, mnist
from recipes.run.command_line import Parser, UserError, exit_with
from recipes.run.folder import RunFolder, RunIsLocked, find_runs, reopen

PROGRAMS = {"mnist": mnist.PROGRAM, "imdb": imdb.PROGRAM}
CONFIGS = {recipe: program.config_class for recipe, program in PROGRAMS.items()}


def reopen_last(runs):
    """Return, ready to be resumed, the last run that can be.

    Runs that are finished, have diverged or are locked cannot.

    Raises:
        UserError: There is none.
    """
    for folder in find_runs(runs):
        ended = folder.is_finished or folder.has_diverged
        if folder.manifest.exists() and not ended:
            with contextlib.suppress(RunIsLocked):
                if (stopped := reopen(folder, CONFIGS)) is not None:
                    return stopped
    raise UserError(f"there is no run in {runs} to resume")


def find(name, runs):
    """Return the folder of a run, named by its path or by a name that one run has."""
    named = [path for path in runs.glob("*/*") if path.name == name]
    if not os.path.isdir(name) and len(named) == 1:
        return RunFolder(named[0])
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
        "--runs", default="runs", help="folder of all runs (default: 'runs')"
    )
    chosen = parser.parse_args(arguments)
    runs = pathlib.Path(chosen.runs)
    folder = find(chosen.run, runs) if chosen.run else None
    stopped = reopen(folder, CONFIGS) if folder else reopen_last(runs)
    if stopped is None:
        print(f"The run {folder} is finished: there is nothing to do.")
        return 0
    return PROGRAMS[stopped.recipe].execute(stopped)


if __name__ == "__main__":
    exit_with(main)
