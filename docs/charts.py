"""Draws the charts of docs/speed.md from the tables of the benchmarks.

``python docs/charts.py`` writes ``docs/images/speed-*.svg``. The figures stand in
``benchmarks/README.md`` and ``benchmarks/NOTES.md``, and nowhere else.
"""

import pathlib

import matplotlib
from matplotlib.figure import Figure

DOCS = pathlib.Path(__file__).parent
IMAGES = DOCS / "images"
BENCHMARKS = DOCS.parent / "benchmarks"
GREY = "#7a7a7a"  # can be read on white and on black
COLOURS = {"lstm": GREY, "gru": GREY, "torch.nn.LSTM": "#d95f02"}
OURS = "#1b9e77"
STYLE = {
    "font.size": 9,
    "text.color": GREY,
    "axes.edgecolor": GREY,
    "axes.labelcolor": GREY,
    "axes.titlecolor": GREY,
    "axes.titlesize": 10,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "speed",  # the same file each time
}
#: Chart -> heading of its table.
BARS = {
    "speed-training": "Training step",
    "speed-dropout": "Training step with dropout",
    "speed-inference": "Inference of a batch",
}
GROWTH = {
    "steps": "Growth with the steps",
    "units": "Growth with the units",
}


def read_tables():
    """Return heading -> rows of its table; a row is a dict from column to text."""
    tables = {}
    for name in ("README.md", "NOTES.md"):
        for line in (BENCHMARKS / name).read_text("utf-8").splitlines():
            if line.startswith("#"):
                heading = line.lstrip("# ")
            elif line.startswith("|"):
                cells = [cell.strip() for cell in line.strip("|").split("|")]
                tables.setdefault(heading, []).append(cells)
    return {
        heading: [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]
        for heading, lines in tables.items()
    }


def save(drawn, folder, name):
    """Save a figure as SVG, without a date and on no background."""
    path = folder / f"{name}.svg"
    drawn.savefig(path, transparent=True, metadata={"Date": None})


def draw_bars(folder, name, rows):
    """Draw a panel for each shape: a bar is a ratio, and its label milliseconds."""
    layers = [row["layer"] for row in rows]
    shapes = [column for column in rows[0] if column != "layer"]
    drawn = Figure(figsize=(9, 0.8 + 0.26 * len(rows)), layout="constrained")
    panels = drawn.subplots(1, len(shapes), sharex=True, sharey=True)
    for axes, shape in zip(panels, shapes, strict=True):
        figures = [row[shape].split(" · ") for row in rows]
        bars = axes.barh(
            layers,
            [float(ratio) for _, ratio, _ in figures],
            color=[COLOURS.get(layer, OURS) for layer in layers],
        )
        axes.bar_label(bars, [f"{ms} ms" for ms, _, _ in figures], padding=3)
        axes.axvline(1, color=GREY, linestyle=":", linewidth=1, zorder=0)
        axes.set_title(shape)
        axes.margins(x=0.3)
    panels[0].invert_yaxis()
    drawn.supxlabel("time as a part of that of keras.layers.LSTM", fontsize=9)
    save(drawn, folder, name)


def draw_growth(folder, tables):
    """Draw how a training step grows, with both axes logarithmic."""
    drawn = Figure(figsize=(9, 3), layout="constrained")
    panels = drawn.subplots(1, len(GROWTH), sharey=True)
    for axes, (size, heading) in zip(panels, GROWTH.items(), strict=True):
        for row in tables[heading]:
            layer = row["layer"]
            sizes = [column for column in row if column != "layer"]
            milliseconds = [float(row[column]) for column in sizes]
            colour = COLOURS.get(layer, OURS)
            axes.loglog(
                [int(column) for column in sizes],
                milliseconds,
                color=colour,
                marker="o",
                markersize=3,
                label=layer,
            )
        axes.set(xlabel=size)
        axes.set_xticks([int(column) for column in sizes], sizes)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    panels[0].set(ylabel="ms", yticks=[10, 100, 1000])
    panels[0].set_yticklabels(["10", "100", "1,000"])
    save(drawn, folder, "speed-growth")


def draw(folder):
    """Draw all charts into a folder."""
    tables = read_tables()
    with matplotlib.rc_context(STYLE):
        for name, heading in BARS.items():
            draw_bars(folder, name, tables[heading])
        draw_growth(folder, tables)


if __name__ == "__main__":
    draw(IMAGES)
