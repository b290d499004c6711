"""The results as a page of Markdown, beside what others published."""

from recipes.comparison.statistics import summarize
from recipes.comparison.tasks.registry import TASKS

ARROWS = {"lower": "↓", "higher": "↑"}  # where the better ones are


def make_page(results):
    """Return a page with a table for each task.

    Args:
        results: A list of results of trials.
    """
    seeds = {len({it["seed"] for it in _of(results, task)}) for task in _tasks(results)}
    parts = [
        "# Results",
        f"{len(results):,} runs, {_range(seeds)} seeds each. ± is the standard "
        "deviation over the seeds, the interval that of the mean (95 %, Student's t). "
        "**Bold**: the interval meets that of the best mean, so that no winner can be "
        "named among these.",
    ]
    parts.append(make_overview(results))
    for name in _tasks(results):
        parts += _section(TASKS[name], _of(results, name))
    return "\n\n".join(parts) + "\n"


def make_overview(results):
    """Return one table of all means: a row for each task, a column for each cell."""
    cells = list(dict.fromkeys(result["cell"] for result in results))
    rows = [["task", "measure", "chance", *cells], ["---"] * (3 + len(cells))]
    for name in _tasks(results):
        task = TASKS[name]
        summaries = {it.cell: it for it in summarize(task, _of(results, name))}
        measure = f"{task.metric.replace('_', ' ')} {ARROWS[task.better]}"
        means = [_mean(summaries.get(cell)) for cell in cells]
        rows.append([name, measure, show(task.chance.value), *means])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _mean(summary):
    """Return a mean in words, in bold where it may be the best."""
    if summary is None:
        return "–"
    return f"**{show(summary.mean)}**" if summary.is_with_best else show(summary.mean)


def _tasks(results):
    """Return the names of tasks that have results, in the order of the registry."""
    there = {result["task"] for result in results}
    return [name for name in TASKS if name in there]


def _of(results, task):
    return [result for result in results if result["task"] == task]


def _section(task, results):
    """Return the paragraphs on a task."""
    (steps,) = {result["steps"] for result in results}
    batch = task.defaults.batch_size
    lines = [
        "| cell | units | parameters | mean | interval | each seed | solved |",
        "|---|---|---|---|---|---|---|",
    ]
    for it in summarize(task, results):
        mean = f"{show(it.mean)} ± {show(it.deviation)}"
        low, high = it.interval
        row = (
            it.cell,
            f"{it.units:,}",
            f"{it.parameters:,}",
            f"**{mean}**" if it.is_with_best else mean,
            f"{show(low)} … {show(high)}",
            ", ".join(map(show, it.values)),
            f"{it.solved} of {len(it.values)}",
        )
        lines.append(f"| {' | '.join(row)} |")
    for it in task.published:
        deviation = "" if it.deviation is None else f" ± {show(it.deviation)}"
        value = f"{show(it.value)}{deviation}"
        lines.append(f"| *{it.cell}, published* | | | {value} | | {it.source} | |")
    notes = [f"**{it}**" for result in results if (it := result.get("warning"))]
    notes += [f"Published: {it.conditions} ({it.source})." for it in task.published]
    return [
        f"## {task.name}",
        f"{task.source}. {task.metric}, {task.better} is better; "
        f"chance {show(task.chance.value)}: {task.chance.why}. {steps:,} steps of "
        f"{batch} sequences.",
        "\n".join(lines),
        *dict.fromkeys(notes),
    ]


def show(number):
    """Return a number with three significant digits.

    >>> [show(it) for it in (0.123456, 99.96, 0.00001234, 1234.0, float("nan"))]
    ['0.123', '100', '1.23e-05', '1,234', '–']
    """
    if number != number:
        return "–"
    return f"{number:,.0f}" if 1000 <= abs(number) < 1e9 else f"{number:.3g}"


def _range(numbers):
    """Return the smallest and the largest number in words."""
    low, high = min(numbers), max(numbers)
    return f"{low}" if low == high else f"{low} to {high}"
