"""How a run was trained: loss and accuracy against the steps."""

import csv

from recipes.pictures.figure import KEPT, TRAIN, VALIDATION, figure


def draw_curves(path, history):
    """Draw loss and accuracy of a ``history.csv``, with the kept validation marked."""
    with open(history, newline="") as file:
        rows = [
            {key: float(value or "nan") for key, value in row.items()}
            for row in csv.DictReader(file)
        ]
    # The first of equal ones, as in training.
    kept = max(rows, key=lambda row: row["val_accuracy"])
    steps = [row["step"] for row in rows]
    marker = "o" if len(rows) < 30 else None
    with figure(path, 9, 3.6) as drawn:
        for axes, name in zip(drawn.subplots(1, 2), ("loss", "accuracy"), strict=True):
            for key, colour, label in (
                (name, TRAIN, "train"),
                (f"val_{name}", VALIDATION, "validation"),
            ):
                values = [row[key] for row in rows]
                style = {"color": colour, "marker": marker, "markersize": 3}
                axes.plot(steps, values, label=label, **style)
            label = f"kept: validation {kept['validation']:.0f}"
            axes.axvline(kept["step"], color=KEPT, linestyle=":", label=label)
            value = kept[f"val_{name}"]
            ring = {"color": VALIDATION, "markersize": 8, "markerfacecolor": "none"}
            axes.plot(kept["step"], value, "o", **ring)
            axes.set(
                xlabel="training step",
                ylabel=name,
                title=f"{name}: {value:.4g} where kept",
            )
            axes.grid(alpha=0.3)
            axes.legend(frameon=False)
