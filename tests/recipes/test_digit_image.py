"""Images of one digit, as people draw and photograph them, are read as MNIST's."""

import io
import itertools
import json
import os
import pathlib
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import sklearn.datasets
from PIL import ExifTags, Image, ImageDraw, ImageFilter, ImageFont

from recipes.data.digit_image import place, read_digit
from recipes.run.command_line import UserError

ROOT = pathlib.Path(__file__).parents[2]
SAMPLE = sklearn.datasets.load_digits()
# One of each digit; all of the sample's have soft, thick strokes.
DIGITS = [int(np.flatnonzero(SAMPLE.target == label)[3]) for label in range(10)]
FAINT = 0.101  # what is fainter than a tenth counts as paper


def coverage(index, height=190):
    """How much of each pixel is ink, from 0 to 1, of a large sample digit."""
    image = Image.fromarray(np.uint8(SAMPLE.images[index] * 255 / 16))
    image = image.resize((height, height), Image.Resampling.BICUBIC)
    soft = np.asarray(image) / 255
    return np.where(soft > 0.02, 1 / (1 + np.exp(8 - 16 * soft)), 0)


def cropped(index):
    """The same, without what is bare around it."""
    digit = coverage(index)
    rows, columns = (np.flatnonzero(digit.any(axis=axis)) for axis in (1, 0))
    return digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def page(index, shape=(300, 420), corner=(60, 110)):
    """A page with a digit on it: ink from 0 to 1."""
    ink, digit = np.zeros(shape), coverage(index)
    rows, columns = (
        slice(at, at + side) for at, side in zip(corner, digit.shape, strict=True)
    )
    ink[rows, columns] = digit
    return ink


def paint(ink, paper=0.9, pen=0.15):
    return paper + (pen - paper) * ink


def grey(values):
    return Image.fromarray(np.uint8(np.round(255 * np.clip(values, 0, 1))))


def framed(image, width, level=10):
    values = np.array(image)
    values[:width] = values[-width:] = level
    values[:, :width] = values[:, -width:] = level
    return Image.fromarray(values)


def slope(shape):
    """Light that fades to a third, from corner to corner."""
    rows, columns = (np.linspace(0, 1, side) for side in shape)
    return 1 - 0.65 * (rows[:, None] + columns) / 2


def distance(height, width):
    """The squared distance from the middle: 0.5 in the corners."""
    rows, columns = (np.linspace(-0.5, 0.5, side) for side in (height, width))
    return rows[:, None] ** 2 + columns**2


def cast_shadow(shape):
    """A shadow with an edge across the page."""
    rows, columns = (np.linspace(0, 1, side) for side in shape)
    return 1 - 0.45 / (1 + np.exp(-60 * (rows[:, None] + columns / 2 - 0.75)))


def speckled(ink, rng):
    image = grey(paint(ink))
    draw = ImageDraw.Draw(image)
    for row, column, radius in rng.uniform((0, 0, 0.5), (*ink.shape, 3), (30, 3)):
        draw.ellipse((column - radius, row - radius, column + radius, row + radius), 40)
    return image


def squared_paper(ink):
    lines = np.full(ink.shape, 0.9)
    lines[7::25] = lines[8::25] = 0.7
    lines[:, 5::25] = lines[:, 6::25] = 0.7
    return grey(np.minimum(paint(ink), lines))


def on_a_table(ink, rng):
    table = np.full((500, 700), 0.2)
    table[90:390, 140:560] = paint(ink)
    return grey(table + rng.normal(0, 0.02, table.shape))


def phone_photo(ink, rng):
    light = cast_shadow(ink.shape) * slope(ink.shape) ** 0.5
    image = grey(paint(ink) * light).filter(ImageFilter.GaussianBlur(1.5))
    values = np.asarray(image) / 255 + rng.normal(0, 0.03, ink.shape)
    stored = io.BytesIO()
    grey(values).save(stored, "JPEG", quality=60)
    return Image.open(stored)


def wide_framed(ink):
    wide = np.pad(ink[50:260], ((0, 0), (1200, 900)))
    return framed(grey(paint(wide)), 1, 0)


PHOTOS = {
    "frame of one pixel": lambda ink, rng: framed(grey(paint(ink)), 1, 0),
    "frame of twelve pixels": lambda ink, rng: framed(grey(paint(ink)), 12),
    "black frame and pencil": lambda ink, rng: framed(grey(paint(ink, 0.9, 0.6)), 8, 0),
    "white frame, light on dark": lambda ink, rng: framed(grey(ink), 5, 255),
    "edge of a scanner": lambda ink, rng: grey(
        np.pad(paint(ink), ((0, 0), (25, 0)), constant_values=0.1)
    ),
    "wide with a frame": lambda ink, rng: wide_framed(ink),
    "fading light": lambda ink, rng: grey(paint(ink) * slope(ink.shape)),
    "fading light on chalk": lambda ink, rng: grey(
        paint(ink, 0.25, 0.95) * slope(ink.shape)
    ),
    "dark corners": lambda ink, rng: grey(
        paint(ink) * (1 - 0.9 * distance(*ink.shape))
    ),
    "white on black, faint": lambda ink, rng: grey(0.15 * ink),
    "shadow with an edge": lambda ink, rng: grey(paint(ink) * cast_shadow(ink.shape)),
    "noise": lambda ink, rng: grey(paint(ink) + rng.normal(0, 0.1, ink.shape)),
    "pencil, noise, fading light": lambda ink, rng: grey(
        paint(ink, 0.85, 0.6) * slope(ink.shape) + rng.normal(0, 0.02, ink.shape)
    ),
    "salt and pepper": lambda ink, rng: grey(
        np.where(
            rng.random(ink.shape) < 0.03, rng.integers(0, 2, ink.shape), paint(ink)
        )
    ),
    "specks": speckled,
    "16 bits of low contrast": lambda ink, rng: Image.fromarray(
        np.uint16(31000 - 500 * ink)
    ),
    "16 bits of low contrast, noise": lambda ink, rng: Image.fromarray(
        np.uint16(31000 - 500 * ink + rng.normal(0, 50, ink.shape))
    ),
    "8 bits of low contrast": lambda ink, rng: grey(paint(ink, 0.55, 0.5)),
    "blur": lambda ink, rng: grey(paint(ink)).filter(ImageFilter.GaussianBlur(3)),
    "squared paper": lambda ink, rng: squared_paper(ink),
    "sheet on a table": on_a_table,
    "phone": phone_photo,
}


def likeness(found, clean):
    """Correlation of two digits, which rounding may have put one pixel apart."""
    return max(
        np.corrcoef(np.roll(found, shift, (0, 1)).ravel(), clean.ravel())[0, 1]
        for shift in itertools.product((-1, 0, 1), repeat=2)
    )


def read(image, folder, name="digit.png"):
    image.save(folder / name)
    return read_digit(folder / name)


@pytest.mark.parametrize("kind", PHOTOS)
def test_a_photo_reads_as_the_clean_picture_does(kind, tmp_path):
    rng = np.random.default_rng(3)
    for index in DIGITS[::2]:
        clean = place(cropped(index))
        name = "digit.tif" if kind.startswith("16") else "digit.png"
        found = read(PHOTOS[kind](page(index), rng), tmp_path, name)
        assert found.shape == (28, 28) and found.dtype == np.float32
        assert found.min() == 0 and 0.8 < found.max() <= 1
        assert likeness(found, clean) > 0.9, index
        assert 0.75 < found.sum() / clean.sum() < 1.3, index


def test_a_clean_picture_is_the_digit_itself(tmp_path):
    for index in DIGITS:
        found = read(grey(paint(page(index))), tmp_path)
        assert likeness(found, place(cropped(index))) > 0.95


@pytest.mark.parametrize("index", DIGITS)
def test_a_digit_of_mnist_s_size_stays_as_it_is(index, tmp_path):
    digit = place(coverage(index))
    np.testing.assert_allclose(read(grey(digit), tmp_path), digit, atol=FAINT)


def drawn(index, size, kind):
    """A digit off centre, by the tools that draw digits."""
    image = Image.fromarray(np.uint8(SAMPLE.images[index] * 255 / 16))
    image = np.asarray(image.resize(size, Image.Resampling.BICUBIC))
    image = np.pad(image, ((9, 40), (31, 5)))
    if kind == "dark":
        image = 255 - image
    elif kind == "transparent":
        image = np.stack([0 * image] * 3 + [image], axis=-1)
    elif kind == "light and transparent":
        image = np.stack([0 * image + 255] * 3 + [image], axis=-1)
    elif kind == "faint":
        image = 180 - image // 3
    elif kind == "16 bits":
        image = image.astype("uint16") * 257
    elif kind == "16 bits, big end first":
        image = image.astype(">u2") * 257
        size = image.shape[::-1]
        return Image.frombytes("I;16B", size, image.astype(">u2").tobytes())
    elif kind == "float":
        image = image.astype("float32") * 3e30
    result = Image.fromarray(image)
    if kind in ("P", "CMYK"):
        result = result.convert(kind)
    if kind == "on its side":
        result = result.transpose(Image.Transpose.ROTATE_90)
        result.getexif()[ExifTags.Base.Orientation] = 6  # to be turned clockwise
    return result


DRAWN = ["dark", "light", "transparent", "light and transparent", "faint", "16 bits",
         "16 bits, big end first", "float", "P", "CMYK", "on its side"]  # fmt: skip


def test_digits_look_the_same_however_they_are_drawn(tmp_path):
    for index in range(1500, 1505):
        images = []
        for kind in DRAWN:
            image = drawn(index, (150, 131), kind)
            name = "digit.png"
            if kind in ("16 bits, big end first", "float", "CMYK"):
                name = "digit.tif"
            image.save(tmp_path / name, exif=image.getexif())
            images.append(read_digit(tmp_path / name))
        for image, kind in zip(images, DRAWN, strict=True):
            assert image.shape == (28, 28) and image.dtype == np.float32
            assert image.min() == 0 and 0.9 < image.max() <= 1
            np.testing.assert_allclose(image, images[0], atol=0.08, err_msg=kind)
            rows, columns = (
                np.flatnonzero(image.sum(axis=axis) > 0) for axis in (1, 0)
            )
            assert max(np.ptp(rows), np.ptp(columns)) in (18, 19)
            for axis in (0, 1):
                centre = np.average(np.arange(28) + 0.5, weights=image.sum(axis=axis))
                assert 14 <= centre < 15


@pytest.mark.parametrize("light", [False, True])
def test_a_digit_may_fill_its_picture(light, tmp_path):
    for index in DIGITS:
        digit = cropped(index)
        found = read(grey(digit if light else 1 - digit), tmp_path)
        assert likeness(found, place(digit)) > 0.95


def black_and_white(label, size):
    """A digit of a font, cut out: True is ink."""
    image = Image.new("L", (3 * size, 3 * size), 255)
    font = ImageFont.load_default(size)
    ImageDraw.Draw(image).text((size, size), str(label), 0, font)
    ink = np.asarray(image) < 128
    rows, columns = (np.flatnonzero(ink.any(axis=axis)) for axis in (1, 0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


@pytest.mark.parametrize("size", [16, 20, 28, 40, 80])
def test_a_digit_may_be_black_and_white(size, tmp_path):
    """Without a grey pixel, with any margin or none."""
    for label in range(10):
        ink = black_and_white(label, size)
        for margin in (0, 1, 2, 5, 10, 20):
            picture = np.pad(ink, margin)
            for light in (True, False):
                found = read(Image.fromarray(picture == light), tmp_path)
                assert likeness(found, place(np.float32(ink))) > 0.95, (label, margin)


def test_a_black_and_white_digit_of_mnist_s_size(tmp_path):
    for index in DIGITS:
        digit = np.float32(place(coverage(index)) > 0.5)
        assert likeness(read(grey(digit), tmp_path), digit) > 0.85


def test_a_black_and_white_digit_may_have_specks_and_a_frame(tmp_path):
    for label in range(10):
        ink = np.pad(black_and_white(label, 40), 12)
        clean = place(np.float32(black_and_white(label, 40)))
        specks = np.array(ink)
        specks[[2, 5, -3, -7], [3, -4, 2, -2]] = True
        frame = np.pad(ink, 1, constant_values=True)
        for picture in specks, frame:
            found = read(Image.fromarray(~picture), tmp_path)
            assert likeness(found, clean) > 0.95, label


@pytest.mark.parametrize("turns", range(4))
def test_a_digit_may_touch_a_strip_at_the_side(turns, tmp_path):
    """As scanners leave it; or a frame. Its stroke may, not a whole foot."""
    for index in DIGITS[:9:3]:
        digit = np.rot90(cropped(index), -turns)
        ink = np.pad(digit, ((0, 60), (50, 90)))
        strip = np.pad(paint(ink), ((14, 0), (0, 0)), constant_values=0.1)
        frame = np.pad(strip, ((0, 14), (14, 14)), constant_values=0.1)
        for picture in strip, frame:
            found = read(grey(np.rot90(picture, turns)), tmp_path)
            assert likeness(found, place(cropped(index))) > 0.9, index


@pytest.mark.parametrize("width", [3, 8, 40])
def test_strokes_may_be_thin_or_thick(width, tmp_path):
    image = Image.new("L", (400, 400), 230)
    points = [(120, 90), (270, 90), (170, 310)]
    ImageDraw.Draw(image).line(points, 30, width, joint="curve")
    found = read(image, tmp_path)
    assert found.max() > 0.3
    # A 7: ink in the bar and along the stem, none in the lower right.
    assert found[4:9, 8:20].max(axis=0).min() > 0.1
    assert found[20:, 20:].max() == 0


def test_a_digit_may_have_parts_and_company(tmp_path):
    """The bar of a 5 belongs to it; a speck and a line far away do not."""
    image = Image.new("L", (500, 400), 230)
    draw = ImageDraw.Draw(image)
    draw.line([(130, 120), (130, 190)], 30, 18)
    draw.arc((110, 170, 230, 320), -120, 130, 30, 18)
    draw.line([(152, 112), (230, 112)], 30, 18)  # the bar touches nothing
    clean = read(image, tmp_path)
    assert clean[4:7, 14:19].max() > 0.9 and clean[20:24, 9:19].max() > 0.9
    draw.ellipse((300, 60, 308, 68), 30)
    draw.line([(420, 350), (480, 350)], 60, 4)
    np.testing.assert_allclose(read(image, tmp_path), clean, atol=0.05)


def test_a_phone_s_picture_with_a_preview_is_read(tmp_path):
    image = grey(paint(page(DIGITS[7])))
    image.save(
        tmp_path / "digit.mpo", save_all=True, append_images=[image.resize((40, 30))]
    )
    with Image.open(tmp_path / "digit.mpo") as photo:
        assert photo.n_frames == 2
    found, clean = read_digit(tmp_path / "digit.mpo"), read(image, tmp_path)
    np.testing.assert_allclose(found, clean, atol=0.1)


@pytest.mark.skipif(
    not os.path.exists("/proc/self/clear_refs"), reason="only Linux tells the peak"
)
def test_large_pictures_need_little_memory_and_time(tmp_path):
    """Measured in a process of its own, beyond what it has before."""
    photo = grey(paint(page(DIGITS[5])) * slope((300, 420)))
    clean = read(photo, tmp_path)
    middle, large = (
        photo.resize(size, Image.Resampling.NEAREST)
        for size in [(4200, 3000), (8400, 6000)]
    )
    middle.convert("RGB").save(tmp_path / "12.jpg")
    large.convert("RGB").save(tmp_path / "50.jpg")
    large.save(tmp_path / "50.png", compress_level=1)
    deep = Image.fromarray(np.asarray(middle).astype("uint16") * 257)
    deep.save(tmp_path / "16.png", compress_level=1)
    names = ["12.jpg", "50.jpg", "16.png", "50.png"]
    program = textwrap.dedent(
        """
        import json, pathlib, re, sys, time
        from recipes.data.digit_image import read_digit
        def megabytes(kind):
            status = pathlib.Path("/proc/self/status").read_text()
            return int(re.search(kind + r":\\s+(\\d+) kB", status)[1]) / 1024
        read_digit(sys.argv[1])  # the first call imports more
        results = []
        for path in sys.argv[2:]:
            pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak is now
            before, start = megabytes("VmRSS"), time.process_time()
            image = read_digit(path)
            seconds = time.process_time() - start
            results.append([seconds, megabytes("VmHWM") - before, image.tolist()])
        print(json.dumps(results))
        """
    )
    paths = [str(tmp_path / name) for name in ["digit.png", *names]]
    command = [sys.executable, "-c", program, *paths]
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    for name, (seconds, megabytes, image) in zip(
        names, json.loads(result.stdout), strict=True
    ):
        assert seconds < 5, name
        assert megabytes < 100 + (50 if name == "50.png" else 0), name
        assert likeness(np.array(image), clean) > 0.95, name


def blank(kind):
    rng = np.random.default_rng(1)
    values = {
        "white": np.ones((30, 40)),
        "fading": 0.9 * slope((300, 400)),
        "shadow": 0.9 * cast_shadow((300, 400)),
        "dark corners": 0.9 * (1 - 0.9 * distance(300, 400)),
        "noise": 0.9 + rng.normal(0, 0.05, (300, 400)),
        "small noise": 0.8 + rng.normal(0, 0.05, (28, 28)),
        "black": np.zeros((28, 28)),
        "few black specks": rng.random((60, 60)) > 0.01,
        "black specks": rng.random((28, 28)) > 0.1,
        "white specks": rng.random((40, 40)) > 0.9,
        "black and white noise": rng.random((28, 28)) > 0.5,
        "black shadow": cast_shadow((60, 80)) > 0.8,
    }
    return grey(values[kind])


@pytest.mark.parametrize(
    "kind",
    ["white", "fading", "shadow", "dark corners", "noise", "small noise", "black",
     "few black specks", "black specks", "white specks", "black and white noise",
     "black shadow"],
)  # fmt: skip
def test_a_blank_picture_is_refused(kind, tmp_path):
    with pytest.raises(UserError, match=r"digit\.png is blank: it must show one digit"):
        read(blank(kind), tmp_path)


def spoil(folder, name):
    """Write a file that is no picture of a digit; return its path."""
    path, good = folder / name, grey(paint(page(DIGITS[2])))
    if name == "text.png":
        path.write_text("no image")
    elif name == "empty.png":
        path.touch()
    elif name == "cut.png":
        good.save(path)
        path.write_bytes(path.read_bytes()[:300])
    elif name == "clear.png":
        Image.new("RGBA", (30, 40), 0).save(path)
    elif name in ("moving.gif", "pages.tif"):
        good.save(path, save_all=True, append_images=[good.rotate(9), good])
    elif name in ("inf.tif", "nan.tif"):
        values = np.float32(good)
        values[3, 5] = float(name[:3])
        Image.fromarray(values).save(path)
    elif name in ("large.png", "bomb.png"):
        side = 9500 if name == "large.png" else 20000
        Image.new("1", (side, side)).save(path)
    elif name == "pipe":
        os.mkfifo(path)
    elif name == "folder":
        path.mkdir()
    return path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.png", "no such image: "),
        ("text.png", "no format that Pillow knows, such as PNG or JPEG"),
        ("empty.png", "no format that Pillow knows"),
        ("cut.png", "cannot read the image "),
        ("clear.png", "is blank"),
        ("moving.gif", "has 3 frames or pages: it must have one"),
        ("pages.tif", "has 3 frames or pages: it must have one"),
        ("inf.tif", "has pixels of inf or NaN: they must be finite"),
        ("nan.tif", "has pixels of inf or NaN: they must be finite"),
        ("large.png", "has 90250000 pixels, at most 89478485 pixels are allowed"),
        ("bomb.png", "has 400000000 pixels, at most 89478485 pixels are allowed"),
        ("pipe", "is no regular file"),  # nobody writes: it must not wait
        ("folder", "is no regular file"),
    ],
)
def test_what_is_no_picture_is_refused_in_one_line(name, message, tmp_path):
    path = spoil(tmp_path, name)
    with pytest.raises(UserError) as raised:
        read_digit(path)
    assert message in str(raised.value)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("path", ["/dev/full", "/dev/zero"])
def test_a_device_is_no_picture(path):
    with pytest.raises(UserError, match=f"{path}: it is no regular file"):
        read_digit(path)
