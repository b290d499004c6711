"""Checks the package that is installed, on the backend that KERAS_BACKEND names.

Run it as ``python -I tests/installed.py``: then the checkout is not on the path.
"""

import importlib.metadata
import pathlib
import sys

import keras
import numpy as np

import custom_layers

x = np.ones((2, 5, 3), "float32")
for name, make in custom_layers.LAYERS.items():
    outputs = make(4)(x)
    assert tuple(outputs.shape) == (2, 4), name
folder = pathlib.Path(custom_layers.__file__).parent
assert folder.is_relative_to(sys.prefix), folder
assert (folder / "py.typed").exists()
version = importlib.metadata.version("keras-gated-rnn")
assert version == custom_layers.__version__, version
print(f"{keras.backend.backend()}: {len(custom_layers.LAYERS)} layers of {version}")
