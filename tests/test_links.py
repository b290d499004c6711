"""Links of the pages: what they show and where they lead exists."""

import html.parser
import pathlib
import re
import urllib.parse

import markdown_it
import pytest

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [
    str(path.relative_to(ROOT))
    for pattern in ("*.md", "docs/**/*.md", "benchmarks/*.md")
    for path in sorted(ROOT.glob(pattern))
]


class Targets(html.parser.HTMLParser):
    """Collects what the HTML in a page shows or leads to."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        self.found += [value for name, value in attributes if name in ("src", "href")]


def find_targets(text):
    """Return the target of every image and link of a page; code has none."""
    targets = Targets()
    targets.feed(markdown_it.MarkdownIt("gfm-like", {"linkify": False}).render(text))
    return [urllib.parse.unquote(target) for target in targets.found]


def find_anchors(text):
    """Return the anchors of a page's headings, as GitHub names them."""
    anchors, tokens = [], markdown_it.MarkdownIt("commonmark").parse(text)
    for opening, heading in zip(tokens, tokens[1:], strict=False):
        if opening.type == "heading_open":
            words = "".join(child.content for child in heading.children).lower()
            anchor = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
            again = sum(
                re.fullmatch(rf"{anchor}(-\d+)?", it) is not None for it in anchors
            )
            anchors.append(f"{anchor}-{again}" if again else anchor)
    return anchors


def find_missing(page, root):
    """Return the targets of a page in ``root`` that are not there.

    There is a target that is in ``root`` and, after a ``#``, has the heading. Those on
    other hosts are not asked for.
    """
    text = page.read_text(encoding="utf-8")
    missing = []
    for target in find_targets(text):
        if urllib.parse.urlsplit(target).scheme:
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page.resolve()
        if not (path.exists() and path.is_relative_to(root.resolve())):
            missing.append(target)
        elif anchor and (
            path.suffix != ".md"
            or anchor not in find_anchors(path.read_text(encoding="utf-8"))
        ):
            missing.append(target)
    return missing


@pytest.mark.parametrize("page", PAGES)
def test_every_image_and_link_of_a_page_exists(page):
    missing = find_missing(ROOT / page, ROOT)
    assert not missing, f"{page} leads to what is not there: {', '.join(missing)}"


def test_the_pages_have_links_to_check():
    assert {"README.md", "docs/training.md", "benchmarks/README.md"} <= set(PAGES)
    targets = find_targets((ROOT / "README.md").read_text(encoding="utf-8"))
    assert {"docs/images/gates-mnist.png", "docs/training.md"} <= set(targets)


def test_a_planted_missing_link_is_found(tmp_path):
    """Among those that exist, in every form that a page uses."""
    root = tmp_path / "project"
    (root / "docs").mkdir(parents=True)
    (tmp_path / "outside.md").touch()
    (root / "there.png").touch()
    (root / "docs/other.md").write_text(
        "# The `x` of it: a *title*!\n\n## Again\n\n## Again\n\n```\n# Code\n```\n"
    )
    page = root / "page.md"
    page.write_text(
        "# Here\n\n![a](there.png) [b](docs/other.md) [c\nd](docs) [e](#here)\n"
        "[f](docs/other.md#the-x-of-it-a-title) [g](docs/other.md#again-1)\n"
        "[h](https://example.org/no.md) <img src='there.png'> [i][j] [k](th%65re.png)\n"
        "\n[j]: there.png\n\n`[code](no.png)`\n\n```\n![code](no.png)\n```\n\n"
        "[m](no.md) ![n](docs/no.png) [o\np](no)\n\n"
        "| a |\n|---|\n| <img src='no.svg'> |\n| [q](docs/other.md#no) |\n\n"
        "[r](#no) [s][t] [u](there.png#no) [v](docs/other.md#again-2) [w](/there.png)\n"
        "[x](docs/other.md#code) [y](../outside.md)\n\n[t]: no-reference.md\n"
    )
    assert find_missing(page, root) == [
        *("no.md", "docs/no.png", "no", "no.svg", "docs/other.md#no", "#no"),
        *("no-reference.md", "there.png#no", "docs/other.md#again-2", "/there.png"),
        *("docs/other.md#code", "../outside.md"),
    ]
