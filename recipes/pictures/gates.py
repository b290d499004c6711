"""Panels that show how far a layer's gates are open at each step."""

import numpy as np

#: Gate -> what its opening means, and its colour.
GATES = {
    "i": ("i, input gate: written", "#1b9e77"),
    "f": ("f, forget gate: kept", "#7570b3"),
    "o": ("o, output gate: read out", "#d95f02"),
    "d": ("d, depth gate: taken from below", "#666666"),
    "z": ("z, update gate: kept", "#7570b3"),
    "r": ("r, reset gate: looked back at", "#1b9e77"),
}
#: Style of a legend, and its place below upright panels.
LEGEND = {"frameon": False, "fontsize": 9, "loc": "upper center"}
BELOW = {**LEGEND, "bbox_to_anchor": (0.5, -0.13)}


def gate_panels(traces):
    """Return title -> names of what a panel shows; a stack has a panel for each level.

    Args:
        traces: What `trace_gates` returned.
    """
    gates = [name for name in traces if name.split("_")[0] not in ("g", "c", "h")]
    levels = sorted({name.partition("_")[2] for name in gates})
    if len(levels) > 1:
        return {
            f"gates, level {level}": [
                gate for gate in gates if gate.endswith(f"_{level}")
            ]
            for level in levels
        }
    if gates == ["active"]:
        return {"modules that ticked": gates}
    if gates:
        return {"gates, mean opening": gates}
    return {"no gates: mean size of h": ["h"]}


def draw_panel(axes, layer, traces, names, upright):
    """Draw the gates of one panel at each step.

    Args:
        axes: Where.
        layer: The recurrent layer.
        traces: Its traces on one sequence, ``(steps, units)`` each, by name.
        names: Those to draw.
        upright: Whether the steps run downwards.
    """
    if names == ["active"]:
        draw_modules(axes, traces["active"], layer.cell.periods, upright)
    else:
        draw_means(axes, {name: traces[name] for name in names}, upright)


def draw_modules(axes, active, periods, upright):
    """Draw which modules of a Clockwork RNN ticked at each step."""
    steps, units = active.shape
    modules = active[:, :: units // len(periods)]
    count = len(periods)
    style = {"cmap": "Greys", "vmin": 0, "vmax": 1.6, "aspect": "auto"}
    if upright:
        axes.imshow(modules, extent=(-0.5, count - 0.5, steps - 0.5, -0.5), **style)
        axes.set(xlabel="period of the module")
        axes.set_xticks(range(count), periods)
    else:
        axes.imshow(modules.T, extent=(0.5, steps + 0.5, count - 0.5, -0.5), **style)
        axes.set(ylabel="period of the module")
        axes.set_yticks(range(count), periods)


def draw_means(axes, traces, upright):
    """Draw the means of gates, or of the size of h, over the units."""
    for name, values in traces.items():
        means = np.mean(np.abs(values), axis=1)
        steps = np.arange(len(means))
        label, colour = GATES.get(name.split("_")[0], (f"|{name}|", "#333333"))
        points = (means, steps) if upright else (steps + 1, means)
        axes.plot(*points, color=colour, label=label)
    axes.grid(alpha=0.3)
    if upright:
        axes.set(xlim=(0, 1), xlabel="mean |h|" if "h" in traces else "0 shut … 1 open")
        axes.legend(**BELOW)
    else:
        low, high = axes.get_ylim()
        axes.set(
            ylim=(low, high + 0.3 * (high - low)),  # room for the legend
            ylabel="mean |h|" if "h" in traces else "mean opening",
        )
        axes.legend(ncols=len(traces), **LEGEND)
