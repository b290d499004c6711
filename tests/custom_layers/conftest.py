"""What the tests of the cells share."""

import numpy as np
import pytest


@pytest.fixture
def rng():
    return np.random.default_rng(22)
