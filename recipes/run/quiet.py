"""Imports Keras and TensorFlow: faster, and without what they write."""

import contextlib
import faulthandler
import os
import sys

# Keras would import them, which takes more than a second.
SLOW = ("sklearn", "matplotlib.pyplot", "pandas")


@contextlib.contextmanager
def fast_and_quiet():
    """Import libraries that write to standard error before they can be told not to.

    Keras takes the packages `SLOW` for not installed: what it does with them, wrappers
    for scikit-learn and galleries of images, is not used. What was written is shown if
    the import fails; if it crashes in native code, Python's traceback of the crash.
    """
    import tempfile

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # errors become exceptions
    hidden = [name for name in SLOW if name not in sys.modules]
    restore = faulthandler.enable if faulthandler.is_enabled() else faulthandler.disable
    with (
        open(os.dup(2), "wb", 0) as standard_error,
        tempfile.TemporaryFile() as written,
    ):
        faulthandler.enable(standard_error)
        os.dup2(written.fileno(), 2)
        sys.modules.update(dict.fromkeys(hidden))
        try:
            yield
        except BaseException:
            written.seek(0)
            with contextlib.suppress(OSError):  # nobody reads it
                standard_error.write(written.read())
            raise
        finally:
            os.dup2(standard_error.fileno(), 2)
            restore()
            for name in hidden:
                del sys.modules[name]
