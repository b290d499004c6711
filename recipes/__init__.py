"""The article's two programs: ``python -m recipes.mnist`` and ``python -m recipes.imdb``."""

import importlib
import os
import signal
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # errors reach us as exceptions


def _import_quickly_and_quietly(name):
    """Import a module whose libraries write to standard error before they can be told not to.

    Keras would import two packages on the way, which takes more than a second, for what is not used here:
    its wrappers for scikit-learn and its gallery of images do not work in this process.
    """
    hidden = {
        package: None
        for package in ("sklearn", "matplotlib.pyplot")
        if package not in sys.modules
    }
    standard_error, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        sys.modules.update(hidden)  # Keras takes them for not installed
        importlib.import_module(name)
    finally:
        os.dup2(standard_error, 2)
        os.close(standard_error)
        os.close(nowhere)
        for package in hidden:
            sys.modules.pop(package, None)


# While ``python -m`` imports a program, Ctrl-C ends it without a traceback; `command_line.run` ends that.
if (
    sys.argv[:1] == ["-m"]
    and signal.getsignal(signal.SIGINT) is signal.default_int_handler
):
    signal.signal(signal.SIGINT, signal.SIG_DFL)
_import_quickly_and_quietly("tensorflow")
