"""List all runs, the best of each recipe first."""

import json

from recipes.run.command_line import Parser, exit_with, folder_name
from recipes.run.files import Damaged, Unreadable, read
from recipes.run.folder import CONFIG, MANIFEST, find_runs
from recipes.run.values import Allowed, check_entries, printable

HEADER = ("recipe", "data", "cell", "preset", "accuracy", "minutes", "run")
NUMBERS = ("accuracy", "minutes")
#: What the table shows of ``metrics.json``.
METRICS = {
    "test_accuracy": Allowed(float, least=0, most=1),
    "fit_seconds": Allowed(float, least=0, most=1e9),
    "data": MANIFEST["data"],
    **CONFIG,
}


def parse_metrics(content):
    """Return what ``metrics.json`` holds."""
    metrics = json.loads(content)
    check_entries("it", metrics, METRICS)
    return metrics


def summarize(folder):
    """Return names of a run, its test accuracy, -1 without one, its state and minutes.

    Raises:
        FileNotFoundError: It is gone.
        UserError: Its metrics or its manifest cannot be read, or are damaged.
    """
    try:
        metrics = read(folder.metrics, parse_metrics)
    except FileNotFoundError:
        manifest = folder.read_manifest()
        names = {**manifest["config"], "data": manifest["data"]}
        return names, -1.0, "diverged" if folder.has_diverged else "unfinished", ""
    accuracy, minutes = metrics["test_accuracy"], metrics["fit_seconds"] / 60
    return metrics, accuracy, f"{accuracy:.4f}", f"{minutes:.1f}"


def describe(folder):
    """Return the test accuracy of a run, -1 without one, and its row of the table."""
    try:
        names, accuracy, state, minutes = summarize(folder)
    except (Unreadable, FileNotFoundError):
        names, accuracy, state, minutes = {}, -1.0, "unreadable", ""
    except Damaged:
        names, accuracy, state, minutes = {}, -1.0, "damaged", ""
    names = [names.get(key, "") for key in ("data", "cell", "preset")]
    row = (folder.recipe, *names, state, minutes, str(folder))
    return accuracy, tuple(map(printable, row))


def main(arguments):
    """Print the table; return the exit status."""
    parser = Parser(prog="python -m recipes runs", description=__doc__)
    parser.add_argument(
        "--runs",
        type=folder_name,
        default="runs",
        help="folder of all runs (default: 'runs')",
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
