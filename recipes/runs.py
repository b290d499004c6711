"""List all runs, the best of each recipe first."""

import json

from recipes.run.command_line import Parser, UserError, exit_with
from recipes.run.folder import find_runs

HEADER = ("recipe", "data", "cell", "preset", "accuracy", "minutes", "run")
NUMBERS = ("accuracy", "minutes")


def describe(folder):
    """Return the test accuracy of a run, -1 without one, and its row of the table."""
    try:
        if folder.is_finished:
            metrics = json.loads(folder.metrics.read_text())
            accuracy = float(metrics["test_accuracy"])
            minutes = f"{float(metrics['fit_seconds']) / 60:.1f}"
            names, shown = metrics, f"{accuracy:.4f}"
        else:
            manifest = folder.read_manifest()
            accuracy, minutes = -1.0, ""
            shown = "diverged" if folder.has_diverged else "unfinished"
            names = {**manifest["config"], "data": manifest["data"]}
        names = [str(names[key]) for key in ("data", "cell", "preset")]
    except (UserError, OSError, ValueError, KeyError, TypeError):
        accuracy, minutes, names, shown = -1.0, "", [""] * 3, "damaged"
    return accuracy, (folder.recipe, *names, shown, minutes, str(folder))


def main(arguments):
    """Print the table; return the exit status."""
    parser = Parser(prog="python -m recipes runs", description=__doc__)
    parser.add_argument(
        "--runs", default="runs", help="folder of all runs (default: 'runs')"
    )
    runs = parser.parse_args(arguments).runs
    described = [describe(folder) for folder in find_runs(runs)]
    if not described:
        print(f"There is no run in {runs}.")
        return 0
    described.sort(key=lambda pair: (pair[1][0], -pair[0], pair[1][-1]))
    table = [HEADER, *(row for _, row in described)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = [
            cell.rjust(width) if name in NUMBERS else cell.ljust(width)
            for cell, name, width in zip(row, HEADER, widths, strict=True)
        ]
        print("  ".join(cells).rstrip())
    return 0


if __name__ == "__main__":
    exit_with(main)
