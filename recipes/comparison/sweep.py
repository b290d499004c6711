"""Runs many trials; what is finished is not repeated."""

import contextlib
import dataclasses
import json

from recipes.comparison.tasks.registry import TASKS
from recipes.comparison.trial import Trial, find_units, steps_of
from recipes.run.command_line import UserError
from recipes.run.files import read, write_json
from recipes.run.values import Allowed, check_entries

#: What the table needs of a result, besides the trial.
NEEDED = {
    "units": Allowed(int, least=1, most=10**9),
    "model_parameters": Allowed(int, least=1, most=10**12),
    "steps": Allowed(int, least=1, most=10**12),
    "figures": Allowed(dict),
    "solved": Allowed(bool, words="true or false"),
    "device": Allowed(str),
    "versions": Allowed(dict),
}


def result_path(folder, trial: Trial):
    """Return the file of a trial's result."""
    return folder / trial.task / f"{trial.cell}-{trial.seed}.json"


def parse_result(content):
    """Return the result that a file holds; raise ValueError if it is none."""
    result = json.loads(content)
    check_entries("it", result, NEEDED)
    return result


def read_result(folder, trial):
    """Return the result of a trial, None if it is not finished.

    Raises:
        UserError: The file holds the result of other choices, or is damaged.
    """
    path = result_path(folder, trial)
    try:
        result = read(path, parse_result)
    except FileNotFoundError:
        return None
    task = TASKS[trial.task]
    units = find_units(task, trial.cell, trial.parameters)
    now = {"units": units, "steps": steps_of(trial)}
    for name, value in (dataclasses.asdict(trial) | now).items():
        if result.get(name) != value:
            raise UserError(
                f"{path} has {name} {result.get(name)!r}, and not {value!r}: choose "
                "another folder with --output"
            )
    if task.metric not in result["figures"]:
        raise UserError(f"{path} has no {task.metric}: remove it to run it again")
    return result


def sweep(trials, folder, engine, report):
    """Run trials that have no result yet, and write their results.

    Args:
        trials: List of `Trial`.
        folder: Where the results are, a `pathlib.Path`.
        engine: What runs them: called with a list of trials, it returns a generator
            of ``(trial, result, error)``, each as soon as the trial has ended; either
            the result or the error is None.
        report: Called with the trials that have a result already, a list of them, then
            with each one that has ended as a list, and with its error, or None.

    Returns:
        The results of all trials that have one, in their order.
    """
    results = {trial: read_result(folder, trial) for trial in trials}
    left = [trial for trial, result in results.items() if result is None]
    report([trial for trial in trials if results[trial] is not None], None)
    with contextlib.closing(engine(left)) as ended:
        for trial, result, error in ended:
            if result is not None:
                path = result_path(folder, trial)
                path.parent.mkdir(parents=True, exist_ok=True)
                write_json(path, result)
                results[trial] = result
            report([trial], error)
    return [result for result in results.values() if result is not None]
