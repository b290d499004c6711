"""Image files of a digit become images as MNIST has them."""

import numpy as np
import pytest
from digit_files import KINDS, digits, draw

from recipes.data.digit_image import read_digit


@pytest.mark.parametrize("number", range(5))
def test_digits_look_the_same_however_they_are_drawn(number, tmp_path):
    grey, _ = list(digits())[number]
    images = []
    for kind in KINDS:
        draw(tmp_path / "digit.png", grey, (150, 131), kind)
        images.append(read_digit(tmp_path / "digit.png"))
    for image in images:
        assert image.shape == (28, 28) and image.dtype == np.float32
        assert image.min() == 0 and 0.9 < image.max() <= 1
        np.testing.assert_allclose(image, images[0], atol=0.08)
        for axis in (0, 1):
            profile = image.sum(axis=axis)
            centre = np.average(np.arange(28) + 0.5, weights=profile)
            assert 14 <= centre < 15
        inked = [np.flatnonzero(image.sum(axis=axis) > 0) for axis in (0, 1)]
        assert max(np.ptp(places) for places in inked) in (18, 19)
