"""Draws the diagrams of the cells, ``docs/images/<cell>.svg``.

``python docs/diagrams.py``. A diagram is a description: lines first, then what lies on
them. All have one style, and colours for light and for dark pages.
"""

import pathlib

IMAGES = pathlib.Path(__file__).parent / "images"

STYLE = """
text { font: 17px sans-serif; text-anchor: middle; fill: #1f2328 }
.small { font-size: 14px }
.gate { font-style: italic; font-weight: bold; fill: #0550ae }
path { fill: none; stroke: #6e7781; stroke-width: 1.6 }
path.state { stroke: #1f2328; stroke-width: 3.2 }
path.peephole { stroke: #cf222e; stroke-dasharray: 5 3 }
.frame { fill: #f6f8fa; stroke: #d0d7de }
.sigma { fill: #ddf4ff; stroke: #0969da }
.phi { fill: #fff8c5; stroke: #9a6700 }
.op { fill: #ffffff; stroke: #1f2328 }
.dot { fill: #6e7781 }
.dot.peephole { fill: #cf222e }
.on { fill: #0969da }
.off { fill: none; stroke: #0969da; stroke-width: .8 }
.head { fill: #6e7781; stroke: none }
.state-head { fill: #1f2328; stroke: none }
.peephole-head { fill: #cf222e; stroke: none }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.gate { fill: #79c0ff }
path { stroke: #8b949e }
path.state { stroke: #e6edf3 }
path.peephole { stroke: #ff7b72 }
.frame { fill: #161b22; stroke: #3d444d }
.sigma { fill: #0c2d6b; stroke: #58a6ff }
.phi { fill: #4b2900; stroke: #d29922 }
.op { fill: #0d1117; stroke: #e6edf3 }
.dot { fill: #8b949e }
.dot.peephole { fill: #ff7b72 }
.on { fill: #58a6ff }
.off { stroke: #58a6ff }
.head { fill: #8b949e }
.state-head { fill: #e6edf3 }
.peephole-head { fill: #ff7b72 }
}
"""


def frame(right, bottom):
    """Draw the border of a step; what crosses it comes from other steps or levels."""
    size = f'width="{right - 38}" height="{bottom - 30}"'
    return f'<rect class="frame" x="38" y="30" {size} rx="14"/>'


def line(points, kind="", arrow=True):
    """Draw a line through points; kind: ``""``, ``"state"`` or ``"peephole"``."""
    head = f' marker-end="url(#{kind or "line"})"' if arrow else ""
    steps = " L".join(f"{x} {y}" for x, y in points)
    return f'<path class="{kind}" d="M{steps}"{head}/>'


def gate(name, x, y, function="σ"):
    """Draw a gate or the candidate: its function in a box, its letter beside it."""
    kind = "sigma" if function == "σ" else "phi"
    return (
        f'<rect class="{kind}" x="{x - 17}" y="{y - 14}" '
        f'width="34" height="28" rx="5"/>'
        f'<text x="{x}" y="{y + 6}">{function}</text>'
        f'<text class="gate" x="{x + 18}" y="{y - 18}">{name}</text>'
    )


def op(symbol, x, y):
    """Draw an elementwise operation."""
    size = ' class="small"' if len(symbol) > 1 else ""
    shift = 5 if size else 6
    return (
        f'<circle class="op" cx="{x}" cy="{y}" r="11"/>'
        f'<text{size} x="{x}" y="{y + shift}">{symbol}</text>'
    )


def dot(x, y, kind=""):
    """Draw a point where a line branches off."""
    return f'<circle class="dot {kind}" cx="{x}" cy="{y}" r="3.5"/>'


def label(text, x, y, small=False):
    """Write a text, its middle at x."""
    kind = ' class="small"' if small else ""
    return f'<text{kind} x="{x}" y="{y}">{text}</text>'


def lstm(peepholes=(), coupled=False, depth=False):
    """Describe an LSTM: its forget part, its input part, its output part.

    Args:
        peepholes: The gates that see the cell.
        coupled: Whether f writes, too, in place of i.
        depth: Whether there is a gate d, for the cell of the level below.
    """
    wide = 84 if depth else 0  # room for d
    bottom = 246 if depth else 232  # below the line of x alone
    o, out, right = 284 + wide, 342 + wide, 384 + wide
    names = ["f", "g", "o"] if coupled else ["f", "i", "g", "o"]
    at = {"f": 108, "i": 166, "g": 224, "d": 284, "o": o}
    parts = [
        frame(right - 6, bottom),
        line([(8, 62), (right + 22, 62)], "state"),
        line([(8, 206), (o, 206), (o, 166)]),
        *(line([(at[name], 206), (at[name], 166)]) for name in names[:-1]),
        *(dot(at[name], 206) for name in names[:-1]),
        line([(72, bottom + 32), (72, 206)], arrow=False),
        dot(72, 206),
        line([(108, 138), (108, 75)]),
        line([(224, 138), (224, 119)]),
        line([(224, 96), (224, 75)]),
        line([(o + 17, 152), (out - 13, 152)]),
        line([(out, 62), (out, 85)]),
        line([(out, 113), (out, 139)]),
        line([(out, 163), (out, 206), (right + 22, 206)]),
        dot(out, 62),
    ]
    if coupled:
        parts += [line([(108, 107), (154, 107)]), line([(177, 107), (211, 107)])]
        parts += [dot(108, 107), op("1−", 166, 107)]
    else:
        parts += [line([(166, 138), (166, 107), (211, 107)])]
    if depth:
        parts += [
            line([(284, 138), (284, 119)]),
            line([(284, 96), (284, 75)]),
            line([(72, 234), (284, 234), (284, 166)]),
            dot(72, 234),
            line([(316, bottom + 32), (316, 107), (297, 107)]),
            line([(316, 152), (303, 152)], "peephole"),
            dot(316, 152, "peephole"),
            gate("d", 284, 152),
            op("⊙", 284, 107),
            op("+", 284, 62),
            label("c_below", 358, bottom + 30),
        ]
    seeing = {"f": [(58, 152)], "i": [(58, 186), (134, 186), (134, 152)]}
    seeing["d"] = [(58, 186), (252, 186), (252, 152)]
    for name in (*peepholes, *("d" * depth)):
        start = [(o - 32, 62), (o - 32, 152)] if name == "o" else [(58, 62)]
        path = [*start, *seeing.get(name, []), (at[name] - 19, 152)]
        parts += [line(path, "peephole"), dot(*path[0], "peephole")]
    parts += [gate(name, at[name], 152, "φ" if name == "g" else "σ") for name in names]
    parts += [
        *(op("⊙", 108, 62), op("+", 224, 62), op("⊙", 224, 107), op("⊙", out, 152)),
        f'<rect class="phi" x="{out - 15}" y="86" width="30" height="26" rx="13"/>',
        label("φ", out, 105),
        *(label("c⁻", 16, 52), label("c", right + 12, 52), label("h⁻", 16, 196)),
        *(label("h", right + 12, 196), label("x", 88, bottom + 30)),
    ]
    return right + 30, bottom + 40, parts


def gru():
    """Describe the GRU that resets after the product with U."""
    parts = [
        frame(378, 266),
        line([(8, 62), (406, 62)], "state"),
        line([(60, 62), (60, 226), (192, 226), (192, 186)]),
        line([(108, 226), (108, 186)]),
        line([(80, 298), (80, 226)], arrow=False),
        line([(80, 250), (262, 250), (262, 186)]),
        line([(108, 158), (108, 132), (137, 132)]),
        line([(150, 62), (150, 78)]),
        line([(150, 104), (150, 119)]),
        line([(161, 132), (226, 132), (226, 172), (243, 172)]),
        line([(192, 158), (192, 75)]),
        line([(192, 98), (243, 98)]),
        line([(267, 98), (315, 98)]),
        line([(279, 172), (328, 172), (328, 111)]),
        line([(328, 87), (328, 75)]),
        *(dot(60, 62), dot(108, 226), dot(80, 226), dot(80, 250), dot(150, 62)),
        *(dot(192, 98), gate("r", 108, 172), gate("z", 192, 172)),
        *(gate("g", 262, 172, "φ"), op("⊙", 150, 132), op("⊙", 192, 62)),
        *(op("1−", 255, 98), op("⊙", 328, 98), op("+", 328, 62)),
        '<rect class="op" x="138" y="80" width="24" height="24" rx="3"/>',
        label("U", 150, 98),
        *(label("h⁻", 16, 52), label("h", 396, 52), label("x", 96, 296)),
    ]
    return 414, 306, parts


def clockwork(periods=(1, 2, 4, 8)):
    """Describe the blocks of U, and which module ticks at which step."""
    parts = [label("U: each module (row) feeds", 100, 26, True)]
    parts += [label("itself and faster ones", 100, 44, True)]
    for row, T in enumerate(periods):
        parts.append(label(f"T={T}", 22, 85 + 38 * row, True))
        parts.append(label(T, 66 + 34 * row, 226, True))
        for column in range(len(periods)):
            kind = "on" if column <= row else "off"
            place = f'x="{50 + 34 * column}" y="{62 + 38 * row}"'
            parts.append(
                f'<rect class="{kind}" {place} width="31" height="34" rx="3"/>'
            )
    parts += [label("at each step: filled ticks,", 312, 26, True)]
    parts += [label("empty keeps its h", 312, 44, True)]
    for row, T in enumerate(periods):
        for t in range(9):
            kind = "off" if t % T else "on"
            place = f'x="{216 + 22 * t}" y="{68 + 38 * row}"'
            parts.append(
                f'<rect class="{kind}" {place} width="19" height="22" rx="3"/>'
            )
    parts += [label(t, 225 + 22 * t, 226, True) for t in range(9)]
    parts += [label("t", 312, 248, True), label("T", 118, 248, True)]
    return 424, 258, parts


DIAGRAMS = {
    "lstm": lstm(),
    "peephole": lstm(peepholes=("i", "f", "o")),
    "coupled": lstm(coupled=True),
    "gru": gru(),
    "depth-gated": lstm(peepholes=("i", "f", "o"), depth=True),
    "clockwork": clockwork(),
}


def draw(name):
    """Return the diagram of a cell as SVG."""
    width, height, parts = DIAGRAMS[name]
    heads = "".join(
        f'<marker id="{name}" markerWidth="9" markerHeight="9" refX="6" refY="4.5" '
        f'orient="auto" markerUnits="userSpaceOnUse">'
        f'<path class="{kind}" d="M0 .5L8 4.5L0 8.5z"/></marker>'
        for name, kind in (
            ("line", "head"),
            ("state", "state-head"),
            ("peephole", "peephole-head"),
        )
    )
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" '
        f'height="{height}" viewBox="0 0 {width} {height}">\n'
        f"<title>One step of {name}</title>\n<style>{STYLE}</style>\n"
        f"<defs>{heads}</defs>\n{body}\n</svg>\n"
    )


if __name__ == "__main__":
    for name in DIAGRAMS:
        (IMAGES / f"{name}.svg").write_text(draw(name), "utf-8")
