"""What the results of several seeds say, and what they do not."""

import dataclasses
import math

import numpy as np

LEVEL = 0.95  # of the confidence intervals


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
        is_with_best: Whether its interval meets that of the best mean.
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
        dataclasses.replace(it, is_with_best=_meet(it.interval, summaries[0].interval))
        for it in summaries
    ]


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


def _meet(one, other):
    """Return whether two intervals have a point in common."""
    return one[0] <= other[1] and other[0] <= one[1]
