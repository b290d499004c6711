"""The clock of a Clockwork RNN, by itself."""

import keras
import numpy as np
import pytest

from custom_layers.cells.clockwork_rnn import Clock

PERIODS = (3, 256, 257, 3001, 70_000)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("t", [0, 1, 255, 256, 2998, 69_999, 3 * 256 * 257])
def test_it_tells_the_time_modulo_each_period(t, dtype):
    clock = Clock(PERIODS)
    digits = keras.ops.cast(clock.at(t)[None], dtype)
    for later in range(3):
        time = keras.ops.convert_to_numpy(clock.read(digits))
        np.testing.assert_array_equal(time, [[(t + later) % T for T in PERIODS]])
        digits = clock.tick(digits)
        assert keras.backend.standardize_dtype(digits.dtype) == dtype
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(keras.ops.cast(digits, "float32"))[0],
            clock.at(t + later + 1),
        )


def test_sequences_may_be_at_different_times():
    clock = Clock((2, 5))
    digits = np.stack([clock.at(t) for t in (0, 3, 4)])
    time = keras.ops.convert_to_numpy(clock.read(clock.tick(digits)))
    np.testing.assert_array_equal(time, [[1, 1], [0, 4], [1, 0]])


def test_one_digit_is_enough_up_to_256():
    assert Clock((1, 256)).size == 2
    assert Clock((1, 257)).size == 4
