"""Image files of single digits, drawn in several ways."""

import numpy as np
import sklearn.datasets
from PIL import Image

KINDS = ["dark", "light", "transparent", "light-transparent", "faint", "deep"]


def digits():
    """Yield pictures of sample digits that tested, and their labels."""
    sample = sklearn.datasets.load_digits()
    for index in range(1500, 1530):
        yield np.uint8(sample.images[index] * 255 / 16), sample.target[index]


def draw(path, grey, size, kind):
    """Save a digit, off centre: dark on light, light on dark, or transparent."""
    large = Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC)
    image = np.pad(np.asarray(large), ((9, 40), (31, 5)))
    if kind == "dark":
        image = 255 - image
    elif kind == "transparent":
        image = np.stack([0 * image] * 3 + [image], axis=-1)
    elif kind == "light-transparent":
        image = np.stack([0 * image + 255] * 3 + [image], axis=-1)
    elif kind == "faint":
        image = 180 - image // 3
    elif kind == "deep":
        image = image.astype("uint16") * 257
    Image.fromarray(image).save(path)
