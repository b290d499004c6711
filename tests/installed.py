"""Checks the package that is installed, on the backend that KERAS_BACKEND names.

Run it as ``python -I tests/installed.py``: then the checkout is not on the path.
"""

import importlib.metadata
import pathlib
import sys


def check():
    import keras
    import numpy as np

    import custom_layers

    outputs = custom_layers.PeepholeLSTM(4)(np.ones((2, 5, 3), "float32"))
    assert tuple(outputs.shape) == (2, 4), outputs.shape
    folder = pathlib.Path(custom_layers.__file__).parent
    assert folder.is_relative_to(sys.prefix), folder
    assert (folder / "py.typed").exists()
    version = importlib.metadata.version("keras-gated-rnn")
    assert version == custom_layers.__version__, version
    print(f"custom_layers {version} on {keras.backend.backend()}")


if __name__ == "__main__":  # pytest looks for doctests in this file, too
    check()
