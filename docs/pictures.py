"""Makes the pictures of runs that README.md and docs/ show.

``python docs/pictures.py`` trains the default programs on MNIST and on IMDB in
``build/pictures``, or in the folder that ``--runs`` names, and writes smaller copies of
their pictures to ``docs/images``. It resumes a run that was interrupted, and a finished
one is not trained again.
"""

import argparse
import pathlib
import subprocess
import sys

from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
NAME = "pictures"  # of the run of each program
#: Program -> its pictures that are shown.
SHOWN = {"mnist": ("gates", "curves", "confusion"), "imdb": ("gates", "curves")}
LARGEST = 150_000  # bytes of a picture


def train(recipe, runs):
    """Return the folder of the finished run of a program; train it if need be."""
    folder = runs / recipe / NAME
    if not (folder / "metrics.json").is_file():
        arguments = [recipe, f"--runs={runs}", f"--name={NAME}", "--data=full"]
        if folder.exists():
            arguments = ["resume", f"--run={folder}"]
        command = [sys.executable, "-m", "recipes", *arguments]
        if status := subprocess.run(command, cwd=ROOT).returncode:
            sys.exit(status)
    return folder


def copy(picture, path):
    """Write a picture with 256 colours, which takes a third of the bytes."""
    try:
        with Image.open(picture) as image:
            few = image.convert("RGB").quantize(256, dither=Image.Dither.NONE)
        few.save(path, optimize=True)
    except OSError as error:
        sys.exit(f"error: cannot copy {picture}: {error.strerror or error}")
    if (size := path.stat().st_size) > LARGEST:
        path.unlink()
        sys.exit(f"error: {path} would have {size:,} bytes; at most {LARGEST:,} may be")


def make(runs, folder):
    """Train where there is no finished run, and write all pictures into a folder."""
    for recipe, names in SHOWN.items():
        run = train(recipe, runs)
        for name in names:
            copy(run / f"{name}.png", folder / f"{name}-{recipe}.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--runs",
        type=pathlib.Path,
        default=ROOT / "build" / "pictures",
        help="folder of the runs (default: build/pictures)",
    )
    make(parser.parse_args().runs.absolute(), IMAGES)
