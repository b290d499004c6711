"""Runs many trials; what is finished is not repeated."""

import contextlib
import dataclasses
import json
import sys

from recipes.comparison.tasks.registry import TASKS
from recipes.comparison.trial import Trial, find_units, steps_of
from recipes.run.command_line import UserError
from recipes.run.files import read, write_json
from recipes.run.values import Allowed, check_entries

FIGURE = Allowed(float, least=-sys.float_info.max, most=sys.float_info.max)
#: What the table and the pictures need of a result, besides the trial.
NEEDED = {
    "model_parameters": Allowed(int, least=1, most=10**12),
    "figures": Allowed(dict),
    "observed": Allowed(dict),
    "solved": Allowed(bool, words="true or false"),
    "device": Allowed(str),
    "versions": Allowed(dict),
}


def result_path(folder, trial: Trial):
    """Return the file of a trial's result."""
    return folder / trial.task / f"{trial.cell}-{trial.seed}.json"


def parse_result(content, trial, path):
    """Return the result of a trial that a file with this path holds.

    Raises:
        ValueError: It holds none; other errors, too, if it is damaged.
        UserError: It holds that of other choices.
    """

    def refuse(constant):
        raise ValueError(f"it holds {constant}")

    result = json.loads(content, parse_constant=refuse)
    check_entries("it", result, NEEDED)
    task = TASKS[trial.task]
    units = find_units(task, trial.cell, trial.parameters)
    now = {"units": units, "steps": steps_of(trial)}
    for name, value in (dataclasses.asdict(trial) | now).items():
        if result.get(name) != value:
            raise UserError(
                f"{path} has {name} {result.get(name)!r}, and not {value!r}: choose "
                "another folder with --output"
            )
    check_entries("figures", result["figures"], {task.metric: FIGURE})
    if (warning := result.get("warning")) is not None:
        Allowed(str).check("warning", warning)
    check_observed(result["observed"])
    return result


def check_observed(observed):
    """Raise ValueError unless it is empty, or holds norms as the pictures need them."""
    if not observed:
        return
    norms = [observed[when][name] for when in ("before", "after") for name in "hs"]
    for them in norms:
        Allowed(list).check("norms", them)
        for number in them:
            FIGURE.check("a norm", number)
    if len({len(them) for them in norms}) > 1 or not norms[0]:
        raise ValueError("its lists of norms have different lengths")


def read_result(folder, trial):
    """Return the result of a trial, None if it is not finished.

    Raises:
        UserError: The file holds the result of other choices, or is damaged.
    """
    path = result_path(folder, trial)
    try:
        return read(path, lambda content: parse_result(content, trial, path))
    except FileNotFoundError:
        return None


def read_results(trials, folder):
    """Return what trials have as a result already: a dict, None where it is to run."""
    return {trial: read_result(folder, trial) for trial in trials}


def sweep(results, folder, engine, report):
    """Run trials that have no result yet, and write their results.

    Args:
        results: What `read_results` returned.
        folder: Where the results are, a `pathlib.Path`.
        engine: What runs them: called with a list of trials, it returns a generator
            of ``(trial, result, error)``, each as soon as the trial has ended; either
            the result or the error is None.
        report: Called with each trial that has ended, and with its error, or None.

    Returns:
        The results of all trials that have one, in their order.
    """
    results = dict(results)
    left = [trial for trial, result in results.items() if result is None]
    with contextlib.closing(engine(left)) as ended:
        for trial, result, error in ended:
            if result is not None:
                path = result_path(folder, trial)
                path.parent.mkdir(parents=True, exist_ok=True)
                write_json(path, result)
                results[trial] = result
            report(trial, error)
    return [result for result in results.values() if result is not None]
