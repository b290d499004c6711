"""List all runs, the best of each recipe first."""

import json
import pathlib

from recipes.command_line import Parser, UserError, run
from recipes.run_folder import METRICS, find_runs, read_choices

HEADER = ("recipe", "data", "cell", "preset", "accuracy", "minutes", "run")
NUMBERS = ("accuracy", "minutes")


def describe(folder):
    """Return the test accuracy of a run, -1 without one, and its row of the table."""
    recipe = folder.parent.name
    if not (folder / METRICS).exists():
        try:
            choices = read_choices(folder)
            config = choices["config"]
            row = (
                recipe,
                choices["data"],
                config["cell"],
                config["preset"],
                "unfinished",
                "",
                str(folder),
            )
            return -1.0, row
        except (UserError, KeyError):
            return -1.0, (recipe, "", "", "", "damaged", "", str(folder))
    try:
        metrics = json.loads((folder / METRICS).read_text())
        accuracy, minutes = (
            float(metrics["test_accuracy"]),
            float(metrics["fit_seconds"]) / 60,
        )
        names = metrics["data"], metrics["cell"], metrics["preset"]
        return accuracy, (
            recipe,
            *map(str, names),
            f"{accuracy:.4f}",
            f"{minutes:.1f}",
            str(folder),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return -1.0, (recipe, "", "", "", "damaged", "", str(folder))


def main(arguments):
    """Print the table; return the exit status."""
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--runs", default="runs", help="folder of all runs (default: 'runs')"
    )
    runs = pathlib.Path(parser.parse_args(arguments).runs)
    described = [describe(folder) for folder in find_runs(runs)]
    if not described:
        print(f"There is no run in {runs}.")
        return 0
    described.sort(key=lambda pair: (pair[1][0], -pair[0], pair[1][-1]))
    table = [HEADER, *(row for _, row in described)]
    widths = [max(map(len, column)) for column in zip(*table)]
    for row in table:
        cells = [
            cell.rjust(width) if name in NUMBERS else cell.ljust(width)
            for cell, name, width in zip(row, HEADER, widths)
        ]
        print("  ".join(cells).rstrip())
    return 0


if __name__ == "__main__":
    run(main)
