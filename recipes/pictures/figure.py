"""Figures that are drawn without a display and saved whole."""

import contextlib
import sys
import warnings

import matplotlib
from matplotlib.figure import Figure

from recipes.run.files import atomic_write

TRAIN, VALIDATION, KEPT = "#1f77b4", "#d95f02", "#555555"
STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,  # $ is a dollar
}


@contextlib.contextmanager
def figure(path, width, height):
    """Yield a figure to draw in, then save it.

    Args:
        path: The file.
        width: Hundreds of pixels.
        height: Hundreds of pixels.
    """
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # A letter that the font lacks is drawn as a box.
        warnings.filterwarnings("ignore", message="Glyph")
        drawn = Figure(figsize=(width, height), dpi=100, layout="constrained")
        yield drawn
        with atomic_write(path) as unfinished:
            drawn.savefig(unfinished)


@contextlib.contextmanager
def skip_failed_picture(*paths):
    """Turn an error into a warning: a picture must not cost a trained model."""
    try:
        yield
    except OSError:
        raise  # a full disk, say: the run can be resumed later, and draws then
    except Exception as error:  # whatever it is, the run continues
        names = " and ".join(path.name for path in paths)
        reason = " ".join(str(error).split())[:200]
        print(f"WARNING: no {names}: {type(error).__name__}: {reason}", file=sys.stderr)
