"""Compare: which cell learns which task? With as many parameters as units allow.

Each run is a process of its own, as many side by side as there are cores. A run that is
finished is not repeated: begin again after an interruption with the same command. The
folder of the results gets results.json, results.md, results.png and, of the task
gradient, gradient.png. Where RAY_ADDRESS is set, Ray runs it on that cluster.
"""

import functools
import json
import os
import pathlib
import sys

from recipes.comparison.cells import CELLS
from recipes.comparison.cluster import run_on_ray
from recipes.comparison.plots import draw_gradients, draw_results
from recipes.comparison.processes import run_here
from recipes.comparison.sweep import read_results, sweep
from recipes.comparison.table import make_page
from recipes.comparison.tasks.registry import DEFAULT_TASKS, TASKS
from recipes.comparison.trial import Trial, find_units
from recipes.run.command_line import Parser, UserError, exit_with, folder_name
from recipes.run.files import write_text
from recipes.run.values import Allowed

FAILED = 1  # the exit status if a run failed
LIMITS = {
    "seeds": Allowed(int, least=1, most=1000),
    "parameters": Allowed(int, least=10, most=10**8),
    "budget": Allowed(float, least=0.001, most=1000),
    "workers": Allowed(int, least=1, most=1000),
}


def choose(flag, text, known, default):
    """Return the names in a list with commas; the default's if it is empty.

    Raises:
        UserError: One is not known, or there twice.
    """
    names = [name.strip() for name in text.split(",") if name.strip()] or list(default)
    for name in names:
        if name not in known:
            raise UserError(f"{flag} must name {', '.join(known)}, got {name!r}")
    if len(set(names)) < len(names):
        raise UserError(f"{flag} names something twice, got {text!r}")
    return names


def make_trials(options):
    """Return the trials: all cells of a task and a seed, then the next seed."""
    for name, allowed in LIMITS.items():
        if (value := getattr(options, name)) is None:
            continue
        try:
            allowed.check(f"--{name}", value)
        except ValueError as error:
            raise UserError(str(error)) from error
    tasks = choose("--task", options.task, TASKS, DEFAULT_TASKS)
    cells = choose("--cells", options.cells, CELLS, CELLS)
    parameters = {
        task: options.parameters or TASKS[task].defaults.parameters for task in tasks
    }
    for task in tasks:
        for cell in cells:
            try:
                find_units(TASKS[task], cell, parameters[task])
            except ValueError as error:
                raise UserError(f"--{error}") from error
    return [
        Trial(task, cell, seed, parameters[task], options.budget)
        for task in tasks
        for seed in range(1, options.seeds + 1)
        for cell in cells
    ]


def main(arguments):
    """Read the command line and compare; return the exit status."""
    parser = Parser(prog="python -m recipes compare", description=__doc__)
    parser.add_argument(
        "--task",
        default="",
        help=f"tasks, with commas (default: {', '.join(DEFAULT_TASKS)}); there are "
        f"{', '.join(TASKS)}",
    )
    parser.add_argument(
        "--cells",
        default="",
        help=f"cells, with commas (default: all): {', '.join(CELLS)}",
    )
    parser.add_argument(
        "--seeds", type=int, default=5, help="seeds of each (default: 5)"
    )
    parser.add_argument(
        "--parameters",
        type=int,
        help="weights of the recurrent layer and what follows it, as nearly as whole "
        "units allow (default: the task's)",
    )
    parser.add_argument(
        "--budget",
        type=float,
        default=1.0,
        help="training steps, as a multiple of those of each task (default: 1)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=os.cpu_count() or 1,
        help="runs side by side (default: the number of cores)",
    )
    parser.add_argument(
        "--output",
        type=folder_name,
        default="comparison",
        help="folder of the results (default: comparison)",
    )
    options = parser.parse_args(arguments)
    folder = pathlib.Path(options.output)
    trials = make_trials(options)
    failed = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        results = carry_out(trials, folder, options.workers, failed)
        if results:
            write(folder, results)
    except OSError as error:
        raise UserError(
            f"cannot write in {folder}: {error.strerror or error}"
        ) from error
    if results:
        print(
            f"Written: {folder / 'results.md'}, results.json and pictures, of the "
            f"{len(results):,} runs that were asked for"
        )
    for trial, error in failed:
        print(f"FAILED: {trial.cell} on {trial.task}, seed {trial.seed}: {error}")
    return FAILED if failed else 0


def write(folder, results):
    """Write page, pictures and JSON of results into a folder."""
    page = make_page(results)
    draw_results(folder / "results.png", results)
    gradient = folder / "gradient.png"
    if any(result["observed"] for result in results):
        draw_gradients(gradient, results)
    else:
        gradient.unlink(missing_ok=True)  # of another choice of tasks
    write_text(folder / "results.md", page)
    lines = ",\n".join(json.dumps(it, allow_nan=False) for it in results)
    write_text(folder / "results.json", f"[\n{lines}\n]\n")


def carry_out(trials, folder, workers, failed):
    """Run trials with a bar that shows how far they are; return the results.

    Args:
        trials: List of `Trial`.
        folder: Where the results are.
        workers: How many run side by side.
        failed: List that gets the trials that failed, with what was wrong.
    """
    import tqdm

    if os.environ.get("RAY_ADDRESS"):
        engine = run_on_ray
    else:
        engine = functools.partial(run_here, workers=workers)
    known = read_results(trials, folder)
    finished = sum(result is not None for result in known.values())
    with tqdm.tqdm(
        total=len(trials), initial=finished, unit="run", file=sys.stderr
    ) as bar:

        def report(trial, error):
            bar.update()
            if error:
                failed.append((trial, error))

        return sweep(known, folder, engine, report)


if __name__ == "__main__":
    exit_with(main)
