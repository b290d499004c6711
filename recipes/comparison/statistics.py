"""What the results of several seeds say, and what they do not."""

import dataclasses
import math

import numpy as np

LEVEL = 0.95  # of the confidence intervals
SMALLEST = 1e-12  # of the gradients: what is smaller counts as that


@dataclasses.dataclass(frozen=True)
class Summary:
    """A cell's results on a task.

    Attributes:
        cell: Its name.
        units: Its units.
        parameters: Those of the network.
        values: The metric of each seed, in the order of the seeds.
        solved: How many seeds solved the task.
        mean: The mean of the values.
        deviation: Their standard deviation, NaN of a single one.
        interval: The confidence interval of the mean, infinite of a single value.
        is_with_best: Whether nothing tells it from the cell with the best mean: their
            intervals meet, and their values are not apart (see `are_apart`).
    """

    cell: str
    units: int
    parameters: int
    values: tuple[float, ...]
    solved: int
    mean: float
    deviation: float
    interval: tuple[float, float]
    is_with_best: bool = False


def confidence_interval(values):
    """Return the confidence interval of a mean, after Student's t distribution.

    Example:
    >>> low, high = confidence_interval([1.0, 2.0, 3.0])
    >>> round(low, 3), round(high, 3)  # 2 ± 4.303 · 1 / √3
    (-0.484, 4.484)
    """
    from scipy import stats  # slow to import

    if len(values) < 2:
        return -math.inf, math.inf
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * error)
    mean = float(np.mean(values))
    return mean - half, mean + half


def observed_by_cell(results):
    """Return what the runs of each cell observed: name -> list, if they did."""
    by_cell = {}
    for result in results:
        if result["observed"]:
            by_cell.setdefault(result["cell"], []).append(result["observed"])
    return by_cell


def gradient_flow(observed, when, name):
    """Return how large a cell's gradients are at each step, in parts of the last one.

    The geometric mean over its seeds.

    Args:
        observed: What each of its runs observed.
        when: ``"before"`` or ``"after"`` training.
        name: ``"h"`` or ``"s"``: see `recipes.comparison.tasks.gradient`.
    """
    norms = np.array([it[when][name] for it in observed])
    kept = np.maximum(norms / norms[:, -1:], SMALLEST)
    return np.exp(np.log(kept).mean(axis=0))


def summarize(task, results):
    """Return the `Summary` of each cell, the best mean first.

    Args:
        task: The `Task`.
        results: Results of its trials.
    """
    by_cell = {}
    for result in sorted(results, key=lambda it: it["seed"]):
        by_cell.setdefault(result["cell"], []).append(result)
    summaries = [_summarize(task, cell, them) for cell, them in by_cell.items()]
    summaries.sort(key=lambda it: it.mean, reverse=task.better == "higher")
    return [
        dataclasses.replace(it, is_with_best=not differ(it, summaries[0]))
        for it in summaries
    ]


def are_apart(one, other):
    """Return whether all values of one lie on one side of the other's, not by chance.

    Of n values each, that happens by chance in 2 of (2n choose n) cases: the exact test
    of Mann & Whitney 1947, at its smallest p. Unlike the intervals it does not mind
    that a single seed lies far out.

    Example:
    >>> are_apart([1, 2, 3, 4], [5, 6, 7, 900]), are_apart([1, 2], [5, 6])
    (True, False)
    """
    apart = max(one) < min(other) or max(other) < min(one)
    cases = math.comb(len(one) + len(other), len(one))
    return apart and 2 / cases < 1 - LEVEL


def differ(one, other):
    """Return whether two summaries differ by more than chance.

    Their intervals do not meet, or their values are apart (see `are_apart`).
    """
    (low, high), (other_low, other_high) = one.interval, other.interval
    meet = low <= other_high and other_low <= high
    return not meet or are_apart(one.values, other.values)


def _summarize(task, cell, results):
    values = tuple(result["figures"][task.metric] for result in results)
    several = len(values) > 1
    return Summary(
        cell=cell,
        units=results[0]["units"],
        parameters=results[0]["model_parameters"],
        values=values,
        solved=sum(result["solved"] for result in results),
        mean=float(np.mean(values)),
        deviation=float(np.std(values, ddof=1)) if several else math.nan,
        interval=confidence_interval(values),
    )
