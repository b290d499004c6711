"""Sphinx's settings for `make docs`: one site of README.md, docs/ and benchmarks/.

The project's folder is the source, so that links in its files work in the site as they
do in a checkout. Nothing is fetched, neither here nor by the pages.
"""

import inspect
import pathlib
import re
import shutil

import custom_layers

project = "Gated recurrent networks for Keras 3"
release = custom_layers.__version__
root_doc = "README"
include_patterns = ["*.md", "docs/*.md", "docs/comparison/*.md", "benchmarks/*.md"]
exclude_patterns = [".*", "build", "dist", "runs"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
autodoc_typehints = "none"  # the docstrings say it in words
default_role = "any"  # a `name` in a docstring must be documented
myst_enable_extensions = ["html_image"]
myst_heading_anchors = 3
napoleon_custom_sections = [
    ("Call arguments", "params_style"),
    ("Class attributes", "Attributes"),
]

html_theme = "furo"
html_title = project
html_copy_source = False
html_static_path = ["site.css"]
html_css_files = ["site.css"]

CONTENTS = """
```{toctree}
:hidden:

docs/cells
docs/conversion
docs/export
docs/training
docs/comparison
docs/comparison/results
docs/demo
docs/gpu
docs/scaling
docs/speed
docs/limits
docs/article
docs/api
benchmarks/README
benchmarks/NOTES
CONTRIBUTING
CHANGELOG
```
"""


def add_contents(app, docname, source):
    """Add the table of contents to the first page: GitHub would show it as code."""
    if docname == root_doc:
        source[0] += CONTENTS


def mark_code(app, what, name, thing, options, lines):
    """Let Sphinx know equations, which are indented, and examples, by their ``>>>``."""
    marked = []
    for before, line in zip([""] + lines, lines, strict=False):
        paragraph = next((it for it in reversed(marked) if it), "")
        if re.match(r"    \S", line) and not before and re.match(r"\S", paragraph):
            marked += ["::", ""]
        if line.startswith(">>>") and before.startswith("Example"):
            marked.append("")
        marked.append(line)
    lines[:] = marked


def show_arguments(app, what, name, thing, options, signature, returns):
    """Give a class the arguments of its cell; Keras would show ``**kwargs`` alone."""
    if what != "class":
        return None
    cell = getattr(thing, "cell_class", None) or thing
    _, *arguments = inspect.signature(cell.__init__).parameters.values()
    plain = [argument.replace(annotation=argument.empty) for argument in arguments]
    return str(inspect.Signature(plain)), None


def make_first_page(app, exception):
    """Let the site begin where web servers look, at ``index.html``."""
    if exception is None:
        site = pathlib.Path(app.outdir)
        shutil.copyfile(site / f"{root_doc}.html", site / "index.html")


def setup(app):
    """Connect the functions above."""
    app.connect("source-read", add_contents)
    app.connect("autodoc-process-docstring", mark_code, priority=400)
    app.connect("autodoc-process-signature", show_arguments)
    app.connect("build-finished", make_first_page)
