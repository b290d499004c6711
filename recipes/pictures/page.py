"""A review as a page: its words, coloured by how each moved the probability."""

import html
import pathlib
import string

from recipes.pictures.words import BAD, GOOD, colour_words, summarize, without_tags
from recipes.run.files import write_text
from recipes.run.texts import visible

TEMPLATE = pathlib.Path(__file__).with_name("page.html")


def write_page(path, reading):
    """Write the coloured words of a `Reading` as a page that needs no other file."""
    colours, largest = colour_words(reading)
    steps = zip(
        reading.words,
        colours,
        reading.probabilities[:-1],
        reading.probabilities[1:],
        strict=True,
    )
    words = [_span(*step) for step in steps]
    template = string.Template(TEMPLATE.read_text(encoding="utf-8"))
    page = template.substitute(
        title="A review, as the network reads it",
        summary=html.escape(summarize(reading)),
        largest=f"{largest:.2f}",
        good=_css(GOOD),
        bad=_css(BAD),
        words="\n".join(words),
    )
    write_text(path, page)


def _css(colour):
    return ", ".join(map(str, colour))


def _span(word, colour, before, after):
    """Return a word as HTML; what splitting left of ``<br />`` becomes a line break."""
    rgb, strength = colour
    text = html.escape(visible(without_tags(word)))
    span = (
        f'<span style="background: rgba({_css(rgb)}, {strength:.2f})" '
        f'title="{before:.3f} → {after:.3f}">{text}</span>'
    )
    if word.endswith("<br"):
        return span + "<br>"
    return "<br>" + span if "/>" in word or "<br" in word else span
