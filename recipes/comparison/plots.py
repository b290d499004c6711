"""The results as pictures: every seed a dot, every cell an interval; gradients."""

import math

import numpy as np
from matplotlib.ticker import FuncFormatter

from recipes.comparison.cells import CELLS
from recipes.comparison.statistics import gradient_flow, observed_by_cell, summarize
from recipes.comparison.table import compared, show
from recipes.comparison.tasks.registry import TASKS
from recipes.pictures.figure import figure

INTERVAL, CHANCE = "#333333", "#555555"
COLUMNS = 3
SHORT = FuncFormatter(lambda value, place: f"{value:g}")


def draw_results(path, results):
    """Draw a panel for each task; a dotted line is chance, where that is near."""
    by_task = {}
    for result in results:
        by_task.setdefault(result["task"], []).append(result)
    names = compared(results)
    columns = min(COLUMNS, len(names))
    rows = math.ceil(len(names) / columns)
    cells = max(len({it["cell"] for it in them}) for them in by_task.values())
    with figure(path, 4 * columns, rows * (1.2 + 0.3 * cells)) as drawn:
        panels = drawn.subplots(rows, columns, squeeze=False).flat
        for axes in panels[len(names) :]:
            axes.set_axis_off()
        for axes, name in zip(panels, names, strict=False):
            _draw_task(axes, TASKS[name], by_task[name])


def _draw_task(axes, task, results):
    summaries = summarize(task, results)
    for place, it in enumerate(summaries):
        color = f"C{list(CELLS).index(it.cell)}"  # the same in every panel
        axes.plot(it.values, [place] * len(it.values), "o", color=color, alpha=0.6)
        low, high = it.interval
        if math.isfinite(low):
            axes.plot([low, high], [place, place], color=INTERVAL, linewidth=2)
        axes.plot(it.mean, place, "|", color=INTERVAL, markersize=14)
    shown = [value for it in summaries for value in it.values]
    low, high, chance = min(shown), max(shown), task.chance.value
    if 2 * low - high < chance < 2 * high - low:  # else it would take most of the room
        low, high = min(low, chance), max(high, chance)
    axes.axvline(chance, color=CHANCE, linestyle=":")
    if low > 0 and high > 30 * low:
        axes.set_xscale("log")
        low, high = low / 1.5, high * 1.5
    elif high > 30:
        axes.set_xscale("symlog", linthresh=1)
        low, high = low - 0.2, high * 1.5
    else:
        room = 0.04 * (high - low or abs(high) or 1)
        low, high = low - room, high + room
    axes.set_xlim(low, high)  # intervals may reach beyond what is possible
    axes.xaxis.set_major_formatter(SHORT)
    axes.set_yticks(range(len(summaries)), [it.cell for it in summaries])
    axes.set_ylim(len(summaries) - 0.5, -0.5)  # the best on top
    metric = task.metric.replace("_", " ")
    words = f"{metric}, {task.better} is better; chance {show(chance)}"
    axes.set(xlabel=words)
    axes.set_title(f"{task.name}: {task.goal}", fontsize=9)
    axes.grid(axis="x", alpha=0.3)


def draw_gradients(path, results):
    """Draw the norms of ∂loss/∂h_t and ∂loss/∂s_t over t, before and after training.

    A line is what `gradient_flow` returns.

    Args:
        path: The file.
        results: Results of trials; those without gradients are passed over.
    """
    by_cell = observed_by_cell(results)
    with figure(path, 10, 8) as drawn:
        panels = drawn.subplots(2, 2, sharex=True, sharey=True)
        shown = ("h", "h the output"), ("s", "s all states")
        for row, (name, what) in zip(panels, shown, strict=True):
            for axes, when in zip(row, ("before", "after"), strict=True):
                for number, (cell, them) in enumerate(by_cell.items()):
                    flow = gradient_flow(them, when, name)
                    steps = np.arange(1, 1 + len(flow))
                    style = ("--", "-")[number % 2]  # one line may lie on another
                    color = f"C{list(CELLS).index(cell)}"
                    axes.semilogy(steps, flow, style, color=color, label=cell)
                axes.grid(alpha=0.3)
            row[0].set_ylabel(f"‖∂loss/∂{name}_t‖ / ‖∂loss/∂{name}_T‖, {what}")
        for axes, when in zip(panels[0], ("before", "after"), strict=True):
            axes.set_title(f"{when} training")
        for axes in panels[1]:
            axes.set_xlabel("t")
        panels[0, 0].yaxis.set_major_formatter(SHORT)
        panels[1, 1].legend(frameon=False, fontsize=8, loc="lower right")
