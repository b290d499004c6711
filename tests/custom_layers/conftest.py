"""What the tests of the cells share."""

import os

import numpy as np
import pytest

from custom_layers.engine import dispatch

if os.environ["KERAS_BACKEND"] != "tensorflow":
    collect_ignore = [
        "test_counted_work.py",
        "test_native.py",
        "test_tensorflow_cpu.py",
    ]


@pytest.fixture
def rng():
    return np.random.default_rng(22)


@pytest.fixture
def halve_small_layers(monkeypatch):
    """Let layers of any size read a large batch as two halves."""
    monkeypatch.setattr(dispatch, "MIN_UNITS_TO_HALVE", 1)


@pytest.fixture
def x(rng):
    """Sequences: batch, time, features."""
    return rng.uniform(-1, 1, (3, 10, 5)).astype("float32")
