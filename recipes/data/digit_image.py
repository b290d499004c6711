"""Makes any picture of one digit look as MNIST's do."""

import dataclasses
import os
import re
import stat
import warnings

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.measure import regionprops

from recipes.run.command_line import UserError

PIXELS = 2**20  # a larger picture is made smaller before a digit is looked for
FAINTEST = 0.1  # of the ink's strength: what is fainter is noise of the paper
SMALLEST = 0.04  # of the picture's extent: what is shorter is a speck, not a digit
NOISE = 6  # standard deviations of it: what is fainter is no ink
SOFTEST = 0.3  # of the ink's strength: a lower step at the rim is a shadow's
DARKEST = 0.02  # of white: paper that is darker counts as if it were as light as this
CONTRAST = 0.002  # of white: half a level of 8 bits
LEVEL = 0.02  # of the ink's strength: ink that differs by less is of one strength
LARGE = 100  # pixels of extent: smaller pictures are blurred too little to matter
SHORTEST = 5  # pixels of a digit in black and white
ROUGHEST = 0.4  # of neighbours in black and white: where more differ, that is noise
FRAME = 0.7  # of the outermost pixels: what holds more of them is no digit


def read_digit(path):
    """Return the digit in an image file as MNIST has it.

    As MNIST was made: the digit is cut out, its longer side scaled to 20 pixels, and
    its centre of mass put into the middle of 28×28. Dark on light and light on dark
    are alike. A frame, shadows, specks and noise of the paper do not count as ink.

    Args:
        path: A file in any format that Pillow reads, with at most
            ``PIL.Image.MAX_IMAGE_PIXELS`` pixels (89 million); it may be transparent.

    Returns:
        Array ``(28, 28)`` of float32 from 0, the paper, to 1, the ink.

    Raises:
        UserError: There is no such file, it is no image, has too many pixels, is
            animated, or shows no digit.
    """
    ink = find_ink(read_grey(path))
    if ink is None:
        raise UserError(f"the image {path} is blank: it must show one digit")
    return place(ink)


def read_grey(path):
    """Return an image file as grey values, float32, of at most `PIXELS` pixels.

    Little more memory is used than the decoded picture needs, and for a JPEG less.

    Raises:
        UserError: The file cannot be read.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe could wait for ever
            raise UserError(f"cannot read the image {path}: it is no regular file")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of small faults that Pillow mends
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return _shrunk(image, path)
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"no such image: {path}") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        size = re.search(r"\d+ pixels", str(error))
        raise UserError(
            f"the image {path} is too large: it has {size[0] if size else 'more'}, at "
            f"most {Image.MAX_IMAGE_PIXELS} pixels are allowed"
        ) from error
    except UnidentifiedImageError as error:
        raise UserError(
            f"cannot read the image {path}: it is in no format that Pillow knows, "
            "such as PNG or JPEG"
        ) from error
    except Exception as error:  # a damaged file can raise almost anything in Pillow
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        reason = reason or type(error).__name__
        raise UserError(f"cannot read the image {path}: {reason}") from error


def _shrunk(image, path):
    """Decode an open image, strip by strip; return its grey values, upright."""
    # A phone's JPEG may have a preview, and a PSD its layers, as further frames.
    if getattr(image, "is_animated", False) and image.format not in ("MPO", "PSD"):
        raise UserError(
            f"the image {path} has {image.n_frames} frames or pages: it must have one"
        )
    factor = max(1.0, np.sqrt(image.width * image.height / PIXELS))
    image.draft("L", [max(1, int(side / factor)) for side in image.size])
    image.load()
    factor = max(1, int(np.ceil(np.sqrt(image.width * image.height / PIXELS))))
    deep = image.mode.startswith(("I", "F"))  # 16 bits or more
    if deep:
        if image.mode == "I;16B":  # of which Pillow knows no extrema
            image = image.convert("I")
        low, high = image.getextrema()
        if 0 <= low and 255 < high <= 65535:
            low, high = 0, 65535
    transparent = image.has_transparency_data
    rows, strips = factor * max(1, PIXELS // (image.width * factor)), []
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        strip = image.crop((0, top, image.width, bottom))
        if deep:
            values = np.asarray(strip, "float64")
            if not np.isfinite(values).all():
                raise UserError(
                    f"the image {path} has pixels of inf or NaN: they must be finite"
                )
            values = (values - low) / ((high - low) or 1)
            strip = Image.fromarray(values.astype("float32"))
        else:
            strip = strip.convert("RGBA" if transparent else "L")
        strips.append(np.asarray(strip.reduce(factor), "float32"))
    values = np.concatenate(strips)
    if not deep:
        values /= 255
    if values.ndim == 3:
        values = _on_paper(values)
    small = Image.fromarray(values)
    orientation = ExifTags.Base.Orientation
    small.getexif()[orientation] = image.getexif().get(orientation, 1)
    return np.asarray(ImageOps.exif_transpose(small))


def _on_paper(values):
    """Return the grey values of RGBA on a paper that differs from the ink."""
    grey, opacity = values[..., :3] @ np.float32((0.299, 0.587, 0.114)), values[..., 3]
    ink = np.sum(grey * opacity) / (np.sum(opacity) or 1)
    paper = 1 if ink < 0.5 else 0
    return grey * opacity + paper * (1 - opacity)


def find_ink(grey):
    """Return the digit of a picture, cut out: ink from 0 to 1; None if there is none.

    Args:
        grey: Array ``(height, width)`` of float32 from 0, black, to 1, white.
    """
    grey = _without_frame(_with_margin(grey))
    digit = _best_digit(grey)
    if digit is None:
        return None
    sheet = _sheet(digit.mask)
    if sheet is not None:
        inner = find_ink(grey[sheet])
        if inner is not None:
            return inner
    return digit.cut_out()


def _with_margin(grey):
    """Put paper around a digit in black and white that fills its picture.

    It is the only part that reaches all four sides, and no frame. Which of the two
    the paper is could not be told from the edge.
    """
    levels = np.unique(grey)
    if len(levels) != 2:
        return grey
    reach = []
    for ink in levels:
        labels, _ = ndimage.label(grey == ink, np.ones((3, 3)))
        sides = [labels[0], labels[-1], labels[:, 0], labels[:, -1]]
        for label in set.intersection(*map(set, sides)) - {0}:
            share = np.mean(np.concatenate(sides) == label)
            reach.append((share, levels[levels != ink][0]))
    if len(reach) != 1 or reach[0][0] > FRAME:
        return grey
    return np.pad(grey, 1, constant_values=reach[0][1])


def _blurred(grey):
    """Take out the noise of a large picture; one of MNIST's size stays as it is."""
    return ndimage.gaussian_filter(grey, _blur(grey))


def _blur(grey):
    """Return the standard deviation, in pixels, that a picture is blurred with."""
    return _extent(grey) / 400


def _extent(grey):
    """Return the side of a square of a picture's area: it serves wide pictures too."""
    return float(np.sqrt(grey.size))


def _without_frame(grey):
    """Cut off strips along the sides that are unlike the paper inside, as scans have.

    A strip is followed by a line of bare paper, or of little ink where a digit touches
    it and the other side is bare. The bar of a 7 that fills its picture is no strip:
    its stem goes on to the other side.
    """
    blurred = _blurred(grey)
    strict, loose = [], []
    for turn in range(4):  # top, right, bottom, left
        side = np.rot90(blurred, turn)
        height, width = side.shape
        inner = side[:, int(0.15 * width) : width - int(0.15 * width)]
        paper, strip = np.median(inner, axis=0), np.median(inner[0])
        share = np.mean(np.abs(inner - strip) < np.abs(inner - paper), axis=1)
        likely = share[0] > 0.9 and (
            np.mean(np.abs(side - strip) < np.abs(side - np.median(paper))) < 0.4
        )
        for cuts, most in (strict, 0.3 if share[-1] <= 0.02 else 0.02), (loose, 0.3):
            bare = np.flatnonzero(share[: int(0.15 * height)] <= most)
            cut = bare[0] + int(_extent(grey) / 200) if len(bare) else 0
            cuts.append(min(cut, int(0.2 * height)) if likely else 0)
    # Where two sides are framed, the digit may touch the strip of another.
    cuts = loose if np.count_nonzero(strict) > 1 else strict
    top, right, bottom, left = cuts
    return grey[top : len(grey) - bottom, left : grey.shape[1] - right]


def _best_digit(grey):
    """Return what looks most like a digit, or None."""
    blurred = _blurred(grey)
    edge = np.concatenate([blurred[0], blurred[-1], blurred[:, 0], blurred[:, -1]])
    paper = np.median(edge)
    contrast = np.abs(blurred - paper).max()
    if contrast < CONTRAST:
        return None
    edge = ndimage.gaussian_filter1d(edge, _extent(grey) / 200)
    bare = np.mean(np.abs(edge - paper) < 0.05 * contrast)
    even = None
    if bare > 0.3:
        white = max(blurred.max(), DARKEST)
        even = _find(
            np.abs(grey - paper) / white, np.abs(blurred - paper) / white, even=True
        )
        clean = np.mean(np.abs(blurred - paper) < 0.05 * contrast) > 0.4
        if even is not None and not even.at_edge() and bare > 0.55 and clean:
            return even
        if len(np.unique(grey)) == 2 and _extent(grey) < LARGE:
            return even  # there is no shadow in black and white
    # What stands out from the edge may also be a shadow.
    darkest, lightest = _paper(blurred)
    level = np.median(blurred / lightest)
    dark = _find(level - grey / lightest, level - blurred / lightest)
    level = np.median((blurred - darkest) / lightest)
    light = _find(
        (grey - darkest) / lightest - level, (blurred - darkest) / lightest - level
    )
    uneven = max(filter(None, [dark, light]), key=Digit.rank, default=None)
    if even is None or uneven is None:
        return even or uneven
    return even if even.score > (0.5 if bare > 0.55 else 1) * uneven.score else uneven


def _paper(grey):
    """Return dark paper, without light ink, and light paper, without dark ink.

    Ink is what is thinner than a window.
    """
    window = [min(side, int(0.4 * _extent(grey))) | 1 for side in grey.shape]
    margin = [
        (min(wide, side - 1),) * 2
        for wide, side in zip(window, grey.shape, strict=True)
    ]
    inside = tuple(
        slice(before, before + side)
        for (before, _), side in zip(margin, grey.shape, strict=True)
    )
    # Light that fades or grows towards an edge goes on beyond it; ink does not.
    mirrored = np.pad(grey, margin, "reflect")
    continued = np.pad(grey, margin, "reflect", reflect_type="odd")
    dark = ndimage.grey_opening(np.maximum(mirrored, continued), window)[inside]
    light = ndimage.grey_closing(np.minimum(mirrored, continued), window)[inside]
    return dark, np.maximum(light, DARKEST)


def _find(ink, blurred, even=False):
    """Return the part of the ink that looks most like a digit, or None."""
    blurred = np.maximum(blurred, 0)
    near = 2 * max(1, round(_extent(ink) / 100)) + 1
    steps = ndimage.maximum_filter(blurred, near)
    steps -= ndimage.minimum_filter(blurred, near)
    noise = np.median(np.abs(blurred - np.median(blurred)))
    faintest = max(CONTRAST, min(4 * noise, blurred.max() / 4))
    values = blurred[blurred > faintest]
    digits = []
    # The strongest ink may be a frame or a blot, the faintest a shadow: try all.
    for _ in range(3):
        if len(values) < 2:
            break
        flat = _is_level(values)  # as in black and white
        threshold = (faintest + values.min()) / 2 if flat else threshold_otsu(values)
        digit = _longest(ink, blurred, steps, threshold, even)
        if flat and not digits and digit is not None and digit.is_speck():
            digit = None
        digits.append(digit)
        if len(digits) == 1 and not even:
            strong = values[values > threshold]
            if len(strong) > 1 and not _is_level(strong):
                digits.append(
                    _longest(ink, blurred, steps, threshold_otsu(strong), even)
                )
        values = values[values < threshold]
    return max(filter(None, digits), key=Digit.rank, default=None)


def _is_level(values):
    """Say whether ink is of one strength, but for what blurring makes of its edges."""
    return np.ptp(values) < max(CONTRAST / 10, LEVEL * values.max())


def _longest(ink, blurred, steps, threshold, even):
    """Return the connected part of the ink that looks most like a digit, or None."""
    inked = blurred > threshold
    labels, _ = ndimage.label(inked, np.ones((3, 3)))
    rim = inked & ~ndimage.binary_erosion(inked, border_value=1)
    specks = SMALLEST * _extent(ink)
    parts = [part for part in regionprops(labels) if _side(part) >= specks / 5]
    best = None
    for part in parts:
        edge = part.image & rim[part.slice]
        if _side(part) < specks or edge.sum() <= _on_border(part, ink.shape):
            continue
        step = np.quantile(steps[part.slice][edge], 0.2)
        strength = np.quantile(blurred[part.slice][part.image], 0.9)
        softest = 0 if even else SOFTEST * strength
        depth = ndimage.distance_transform_edt(np.pad(part.image, 1))
        stroke = 4 * depth[depth > 0].mean()  # a bar's mean depth is a quarter
        length = part.area / stroke
        digit = Digit(
            ink=ink,
            blurred=blurred,
            part=part,
            threshold=threshold,
            score=length * min(length / stroke, 4) * step**2,
            reach=None if even else stroke / 2,
        )
        if step < (2 * softest if digit.at_edge() else softest):
            continue
        best = digit if best is None else max(best, digit, key=Digit.rank)
    if best is None or best.is_noise():
        return None
    near = [part.label for part in parts if _belongs(part, best.part)]
    best.mask = np.isin(labels, near)
    return best


def _side(part):
    """Return the longer side of a part's box."""
    return max(side.stop - side.start for side in part.slice)


def _on_border(part, shape):
    """Return how many pixels of a part's outline are on the picture's border."""
    rows, columns = part.slice
    return (
        (rows.start == 0) * part.image[0].sum()
        + (rows.stop == shape[0]) * part.image[-1].sum()
        + (columns.start == 0) * part.image[:, 0].sum()
        + (columns.stop == shape[1]) * part.image[:, -1].sum()
    )


def _belongs(part, main):
    """Say whether a part is the digit or, as the bar of a 5 may be, near and large."""
    if part.area < 0.04 * main.area or _side(part) > _side(main):
        return part is main
    gaps = [
        max(its.start - whole.stop, whole.start - its.stop)
        for its, whole in zip(part.slice, main.slice, strict=True)
    ]
    return max(gaps) <= 0.15 * _side(main)


@dataclasses.dataclass
class Digit:
    """A part of a picture that may be the digit.

    Attributes:
        ink: The picture's ink, from 0; ``blurred``: the same without its noise.
        part: The largest connected part (scikit-image's region properties).
        threshold: What the blurred ink is above there.
        score: How much it looks like a digit: long, thin, and with a step at its rim.
        reach: How far fainter ink around it may be the digit's, in pixels; None: as
            far as it goes.
        mask: The connected part and those that belong to it.
    """

    ink: np.ndarray
    blurred: np.ndarray
    part: object
    threshold: float
    score: float
    reach: float | None
    mask: np.ndarray | None = None

    def at_edge(self):
        """Say whether it reaches an edge of the picture, as a frame or shadow does."""
        top, left, bottom, right = self.part.bbox
        height, width = self.ink.shape
        return min(top, left) == 0 or bottom == height or right == width

    def rank(self):
        """Return the score, but less for what reaches the edge."""
        return self.score * (0.1 if self.at_edge() else 1)

    def is_noise(self):
        """Say whether the ink is not much stronger than the paper's noise."""
        box = self.part.slice
        change = np.abs(np.diff(self.ink[box], axis=0))
        # The steps between neighbours have √2 times the noise's deviation; a quarter
        # of them are below 0.319 times that. Most steps may be a small digit's edges.
        noise = np.quantile(change, 0.25) / (0.319 * np.sqrt(2)) if change.size else 0
        noise *= min(1, 1 / (2 * np.sqrt(np.pi) * _blur(self.ink)))  # after blurring
        strength = np.quantile(self.blurred[box][self.part.image], 0.9)
        return strength < NOISE * noise

    def is_speck(self):
        """Say whether it is one of many specks, or too small to be a digit.

        That is for ink of one strength, whose noise is as strong as a digit's ink.
        """
        inked = self.blurred > self.threshold
        changes = [np.mean(np.diff(inked, axis=axis)) for axis in (0, 1)]
        return (
            _side(self.part) < SHORTEST
            or self.mask.sum() < inked.sum() / 2
            or np.mean(changes) > ROUGHEST
        )

    def cut_out(self):
        """Return the digit's ink, from 0 to 1, cut out at its edges."""
        blurred, core = self.blurred, self.mask
        strength = np.quantile(blurred[core], 0.9)
        allowed = np.ones_like(core)
        if self.reach is not None:  # a shadow may touch the strokes
            core = core & (blurred > 0.55 * strength)
            allowed = ndimage.distance_transform_edt(~core) <= self.reach + 1
        near = max(1, round(_extent(blurred) / 100))
        bare = blurred[~ndimage.binary_dilation(core, iterations=near)]
        noise = np.quantile(bare, 0.95) if bare.size else 0
        # The strokes have soft edges and faint ends.
        faintest = min(max(FAINTEST * strength, noise), self.threshold)
        for lowest in np.linspace(faintest, self.threshold, 5):
            whole = ndimage.binary_propagation(
                core, mask=core | (allowed & (blurred >= lowest))
            )
            if not _at_edge(whole) or self.at_edge():
                break
        black = blurred[core].max()
        if _extent(blurred) >= LARGE:  # it may have noise
            black = np.quantile(blurred[core], 0.9)
        ink = np.where(whole, np.clip(self.ink / black, 0, 1), 0)
        ink[ink < FAINTEST] = 0
        rows, columns = _box(ink > 0)
        return ink[rows, columns]


def _box(mask):
    """Return the slices of rows and columns that hold a mask."""
    return ndimage.find_objects(mask.view("uint8"))[0]


def _at_edge(mask):
    """Say whether a mask touches an edge of its picture."""
    return mask[[0, -1]].any() or mask[:, [0, -1]].any()


def _sheet(mask):
    """Return the slices inside a mask that looks like a sheet of paper, or None."""
    region = regionprops(ndimage.binary_fill_holes(mask).astype("uint8"))[0]
    if region.area < 0.88 * region.area_bbox or min(region.image.shape) < 20:
        return None
    top, left, bottom, right = region.bbox
    rows, columns = (bottom - top) // 20, (right - left) // 20
    return (
        slice(top + rows, bottom - rows),
        slice(left + columns, right - columns),
    )


def place(ink):
    """Scale a cut-out digit to 20 pixels, put it into 28×28 by its centre of mass."""
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
    """Return the centre of mass of a row of pixels; the first reaches from 0 to 1."""
    return float(np.sum((np.arange(len(weights)) + 0.5) * weights) / np.sum(weights))
