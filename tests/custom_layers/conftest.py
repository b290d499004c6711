"""What the tests of the cells share."""

import os

import numpy as np
import pytest

if os.environ["KERAS_BACKEND"] != "tensorflow":
    collect_ignore = ["test_counted_work.py", "test_tensorflow_cpu.py"]


@pytest.fixture
def rng():
    return np.random.default_rng(22)


@pytest.fixture
def x(rng):
    """Sequences: batch, time, features."""
    return rng.uniform(-1, 1, (3, 10, 5)).astype("float32")
