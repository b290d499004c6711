"""The results as a page of Markdown, beside what others published."""

from collections import Counter

from recipes.comparison.statistics import gradient_flow, observed_by_cell, summarize
from recipes.comparison.tasks.registry import TASKS

ARROWS = {"lower": "↓", "higher": "↑"}  # where the better ones are


def make_page(results):
    """Return a page with a table for each task.

    Args:
        results: A list of results of trials.
    """
    seeds = Counter((result["task"], result["cell"]) for result in results).values()
    parts = [
        "# Results",
        f"{len(results):,} runs, {_range(seeds)} seeds each, on "
        f"{_all(result['device'] for result in results)}, TensorFlow "
        f"{_all(result['versions']['tensorflow'] for result in results)}, Keras "
        f"{_all(result['versions']['keras'] for result in results)}. A cell has the "
        "same learning rate as all others on a task, and the weights after the last "
        "step count.",
        "± is the standard deviation over the seeds, the interval that of the mean "
        "(95 %, Student's t, which takes the values for normal: it can reach beyond "
        "what is possible, and says little where a run either solves a task or does "
        "not). **Bold**: no winner can be named among these: the interval meets that "
        "of the best mean, and not all seeds lie on one side of all of the best's "
        "(the exact test of Mann & Whitney, p = 0.8 % with five seeds each). What is "
        "not bold proves little alone: of nine equal cells one or more are not bold "
        "in about one of seven tables.",
        make_overview(results),
    ]
    for name in _tasks(results):
        parts += _section(TASKS[name], _of(results, name))
    return "\n\n".join(parts) + "\n"


def make_overview(results):
    """Return one table of all means: a row for each task, a column for each cell.

    The task `gradient`, whose figures are those of the adding problem, has no row
    beside others.
    """
    cells = list(dict.fromkeys(result["cell"] for result in results))
    rows = [["task", "measure", "chance", *cells], ["---"] * (3 + len(cells))]
    for name in compared(results):
        task = TASKS[name]
        summaries = {it.cell: it for it in summarize(task, _of(results, name))}
        measure = f"{task.metric.replace('_', ' ')} {ARROWS[task.better]}"
        means = [_mean(summaries.get(cell)) for cell in cells]
        rows.append(
            [f"{task.goal} (`{name}`)", measure, show(task.chance.value), *means]
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _mean(summary):
    """Return a mean in words, in bold where it may be the best."""
    if summary is None:
        return "–"
    return f"**{show(summary.mean)}**" if summary.is_with_best else show(summary.mean)


def _all(texts):
    """Return the different texts in one."""
    return ", ".join(dict.fromkeys(texts))


def compared(results):
    """Return the names of the tasks in which the cells are compared."""
    names = _tasks(results)
    observed = {result["task"] for result in results if result["observed"]}
    return [name for name in names if name not in observed] or names


def _tasks(results):
    """Return the names of tasks that have results, in the order of the registry."""
    there = {result["task"] for result in results}
    return [name for name in TASKS if name in there]


def _of(results, task):
    return [result for result in results if result["task"] == task]


def _section(task, results):
    """Return the paragraphs on a task."""
    summaries = summarize(task, results)
    steps = _range(result["steps"] for result in results)
    sizes = _range(it.parameters for it in summaries)
    solved = task.solved.__doc__.removeprefix("Return whether ")
    chosen, goal = task.defaults, f"{task.goal[0].upper()}{task.goal[1:]}"
    lines = [
        "| cell | units | parameters | mean | interval | each seed | solved |",
        "|---|---|---|---|---|---|---|",
    ]
    for it in summaries:
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
        value = f"{it.statistic} {show(it.value)}{deviation}".strip()
        lines.append(f"| *{it.cell}, published* | | | {value} | | {it.source} | |")
    warned = [it for result in results if (it := result.get("warning"))]
    notes = (
        [f"**{_all(warned)}** ({len(warned)} of {len(results)} runs)"] if warned else []
    )
    if missing := _missing(results):
        notes.append(f"**Failed or not yet run: {missing}.**")
    notes += [f"Published: {it.conditions} ({it.source})." for it in task.published]
    return [
        f"## {task.name}",
        f"{goal}. {task.source}. The measure: {task.metric.replace('_', ' ')}, "
        f"{task.better} is better; chance {show(task.chance.value)}: "
        f"{task.chance.why}. Solved: {solved} {steps} steps of "
        f"{chosen.optimizer.capitalize()} with a learning rate of "
        f"{chosen.learning_rate:g} and batches of {chosen.batch_size}; gradients are "
        f"cut to a norm of {chosen.clipnorm:g}; {sizes} parameters.",
        "\n".join(lines),
        *_flows(results),
        *dict.fromkeys(notes),
    ]


def _flows(results):
    """Return a table of the gradients at the first step, if they were observed."""
    if not (by_cell := observed_by_cell(results)):
        return []
    lines = [
        "The gradient at the first step, in parts of that at the last one (geometric "
        "mean): by h, the output, and by s, all that a step hands on. The table above "
        "is that of the adding problem with as many steps.\n",
        "| cell | h, before training | s, before | h, after | s, after |",
        "|---|---|---|---|---|",
    ]
    for cell, observed in by_cell.items():
        first = [
            show(gradient_flow(observed, when, name)[0])
            for when in ("before", "after")
            for name in "hs"
        ]
        lines.append(f"| {cell} | {' | '.join(first)} |")
    return ["\n".join(lines)]


def _missing(results):
    """Return which runs of a task are missing: those of cells and seeds of others."""
    there = {(result["cell"], result["seed"]) for result in results}
    seeds = sorted({seed for _, seed in there})
    cells = dict.fromkeys(result["cell"] for result in results)
    return ", ".join(
        f"{cell} with seed {seed}"
        for cell in cells
        for seed in seeds
        if (cell, seed) not in there
    )


def show(number):
    """Return a number with three significant digits, more if it is nearly 1.

    >>> [show(it) for it in (0.123456, 99.96, 0.00001234, 1234.0, 0.9996, 1.0)]
    ['0.123', '100', '1.23e-05', '1,234', '0.9996', '1']
    >>> show(float("nan"))
    '–'
    """
    if number != number:
        return "–"
    if 0.9995 <= number < 1:
        return f"{number:.6g}"
    return f"{number:,.0f}" if 1000 <= abs(number) < 1e9 else f"{number:.3g}"


def _range(numbers):
    """Return the smallest and the largest number in words."""
    numbers = list(numbers)
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
