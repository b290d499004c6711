"""Makes any picture of one digit look as MNIST's do."""

import numpy as np
from PIL import Image, ImageOps

from recipes.run.command_line import UserError

FAINTEST = 0.1  # of the ink's strength: what is fainter is noise of the paper


def read_digit(path):
    """Return the digit in an image file as MNIST has it: ``(28, 28)``, light on dark, from 0 to 1.

    As MNIST was made: the digit is cut out, its longer side scaled to 20 pixels, and its centre of mass
    put into the middle of 28×28. What differs from the level of the image's edge is ink, so dark on light
    and light on dark are alike.

    Args:
        path: A file in any format that Pillow reads, of any size; it may be transparent.

    Raises:
        UserError: There is no such file, it is no image, or the image is blank.
    """
    try:
        with Image.open(path) as image:
            grey = _grey(ImageOps.exif_transpose(image))
    except FileNotFoundError as error:
        raise UserError(f"no such image: {path}") from error
    except Exception as error:  # a damaged file can raise almost anything in Pillow
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"cannot read the image {path}: {reason}") from error
    edge = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    ink = np.abs(grey - np.median(edge))
    if ink.max() < 0.1:
        raise UserError(f"the image {path} is blank: it must show one digit")
    ink = ink / ink.max()
    ink[ink < FAINTEST] = 0
    rows, columns = (np.flatnonzero(ink.any(axis=axis)) for axis in (1, 0))
    return place(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


def _grey(image):
    """Return an image as an array ``(height, width)`` from 0 to 1."""
    if image.mode.startswith(("I", "F")):  # 16 bits or more: Pillow would cut them off
        values = np.asarray(image, "float64")
        if 0 <= values.min() and 255 < values.max() <= 65535:
            return values / 65535
        return (values - values.min()) / (np.ptp(values) or 1)
    values = np.asarray(image.convert("RGBA"), "float64") / 255
    grey, opacity = values[..., :3] @ (0.299, 0.587, 0.114), values[..., 3]
    ink = np.sum(grey * opacity) / (np.sum(opacity) or 1)
    paper = (
        1.0 if ink < 0.5 else 0.0
    )  # what shows through where the image is transparent
    return grey * opacity + paper * (1 - opacity)


def place(ink):
    """Scale a cut-out digit to 20 pixels and put it into 28×28 by its centre of mass."""
    scale = 20 / max(ink.shape)
    height, width = (max(1, round(side * scale)) for side in ink.shape)
    image = Image.fromarray(np.uint8(np.round(255 * ink)))
    small = np.asarray(
        image.resize((width, height), Image.Resampling.BICUBIC), "float32"
    )
    small = small / max(1.0, small.max())
    placed = np.zeros((28, 28), "float32")
    # In MNIST the centre of mass lies from 14 to 15, counted from the image's edge.
    top, left = (
        int(
            np.clip(
                np.ceil(14 - _centre(small.sum(axis=1 - axis))),
                0,
                28 - small.shape[axis],
            )
        )
        for axis in (0, 1)
    )
    placed[top : top + height, left : left + width] = small
    return placed


def _centre(weights):
    """Return the centre of mass of a row of pixels; the first pixel reaches from 0 to 1."""
    return float(np.sum((np.arange(len(weights)) + 0.5) * weights) / np.sum(weights))
