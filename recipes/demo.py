"""A playground in the browser: draw a digit or type a review, and watch the network."""

import dataclasses
import html
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import threading

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from recipes.data.digit_image import read_digit
from recipes.pictures.figure import figure
from recipes.pictures.gates import draw_panel, gate_panels
from recipes.pictures.words import (
    BAD,
    GOOD,
    colour_words,
    draw_evidence,
    without_tags,
)
from recipes.predict import answer, load_model
from recipes.reading import (
    Reading,
    read_rows,
    read_words,
    split_words,
    trace_words,
    word_numbers,
)
from recipes.run.command_line import Parser, UserError, exit_with, folder_name
from recipes.run.folder import find_runs
from recipes.run.keras_settings import check_backend
from recipes.run.texts import decode, visible
from recipes.run.values import Allowed

HOST = "127.0.0.1"
PORT = Allowed(int, least=0, most=65535)
LONGEST = 2**20  # bytes of a review
NONE = "none"  # the second run that is none
ROWS = 28

#: The review that the page begins with.
EXAMPLE = "A warm and funny film. The story is slow at first, but the ending is superb."


def finished_runs(runs, recipe):
    """Return the paths of a recipe's finished runs, the one begun last first."""
    return [
        str(folder)
        for folder in find_runs(runs)
        if folder.recipe == recipe and folder.is_finished
    ]


class Models:
    """The models of runs: each is loaded once.

    Args:
        recipe: ``"mnist"`` or ``"imdb"``.
        runs: Folder of all runs.
    """

    def __init__(self, recipe, runs):
        self.recipe, self.runs = recipe, runs
        self._loaded, self._lock = {}, threading.Lock()

    def load(self, name):
        """Return the path and the model of a run, named by the path of its folder.

        Raises:
            UserError: There is no such run, or its model cannot be loaded.
        """
        if name not in finished_runs(self.runs, self.recipe):
            raise UserError(
                f"no finished run {name!r} of {self.recipe} in {self.runs}: "
                "reload the page to see those that are there"
            )
        path = pathlib.Path(name) / "model.keras"
        with self._lock:
            try:
                key = (name, path.stat().st_mtime_ns)
            except OSError as error:
                raise UserError(f"cannot read {path}: {error.strerror}") from error
            if key not in self._loaded:
                self._loaded[key] = load_model(self.recipe, path)
            return path, self._loaded[key]


@dataclasses.dataclass(frozen=True)
class DigitReading:
    """A drawn digit, read row by row by one run.

    Attributes:
        image: The digit as MNIST has it, ``(28, 28)`` from 0 to 1.
        probabilities: Of the ten classes after each row, ``(28, 10)``.
        layer: The recurrent layer.
        traces: Its gates and states, ``(28, units)`` each, by name.
    """

    image: np.ndarray
    probabilities: np.ndarray
    layer: object
    traces: dict


def digit_of(drawing):
    """Return the digit in a drawing as MNIST has it.

    Args:
        drawing: Array ``(height, width)`` of uint8, dark on light; None: nothing.

    Raises:
        UserError: Nothing is drawn.
    """
    if drawing is None or np.ptp(drawing) == 0:
        raise UserError("Nothing is drawn yet: draw one digit with the mouse.")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "drawing.png")
        Image.fromarray(np.asarray(drawing, "uint8")).save(path)
        try:
            return read_digit(path)
        except UserError as error:
            raise UserError("There is no digit in the drawing: draw it larger.") from (
                error
            )


def read_drawing(model, path, image):
    """Return the `DigitReading` of a digit.

    Raises:
        UserError: The model fails.
    """
    answer(model, path, image[None])
    layer, (by_row,), traces = read_rows(model, image[None])
    traces = {name: values[0] for name, values in traces.items()}
    return DigitReading(image, by_row, layer, traces)


def draw_rows(path, reading, row):
    """Draw the digit and the gates of a `DigitReading` up to a row, from 1 to 28."""
    panels = gate_panels(reading.traces)
    with figure(path, 2.6 + 2.4 * len(panels), 3.8) as drawn:
        digit, *rest = drawn.subplots(1, 1 + len(panels), sharey=True)
        shown = np.where(np.arange(ROWS)[:, None] < row, reading.image, 0)
        digit.imshow(reading.image, cmap="Greys", vmin=0, vmax=5, aspect="auto")
        digit.imshow(
            shown, cmap="Greys", vmin=0, vmax=1, aspect="auto", alpha=1.0 * (shown > 0)
        )
        digit.set(ylabel="row", xlabel="pixel", title=f"{row} of {ROWS} rows read")
        for axes, (title, names) in zip(rest, panels.items(), strict=True):
            until = {name: reading.traces[name][:row] for name in names}
            draw_panel(axes, reading.layer, until, names, upright=True)
            axes.set_title(title)
        for axes in (digit, *rest):
            axes.axhline(row - 0.5, color="#b23a00", linewidth=1)
            axes.set_ylim(ROWS - 0.5, -0.5)


def tokenizer_of(model):
    """Return the part of an IMDB model from texts to word numbers.

    Raises:
        UserError: It has none.
    """
    try:
        return model.get_layer("tokenizer")
    except ValueError as error:
        raise UserError("the model has no layer 'tokenizer'") from error


def read_review(model, path, text):
    """Return the `Reading` of a review, the recurrent layer, and its traces.

    Of a long review the last words are read, as many as the network keeps.

    Raises:
        UserError: The text is empty, too long, or has no word, or the model fails.
    """
    text = decode(text or "")
    if len(text.encode()) > LONGEST:
        raise UserError(
            f"The review is too long: at most {LONGEST:,} bytes are read, "
            f"it has {len(text.encode()):,}."
        )
    words = split_words(text)
    if not words:
        raise UserError("There is no word to read yet: type a review.")
    tokenizer = tokenizer_of(model)
    words = words[-word_numbers(tokenizer.output).shape[1] :]
    answer(model, path, tf.constant([" ".join(words)]))

    def read(begun):
        return model.predict(begun, batch_size=64, verbose=0)

    said, evidence = read_words(read, tokenizer, words)
    label = "good" if said[-1] > 0.5 else "bad"
    network = next(
        layer
        for layer in model.layers
        if isinstance(layer, keras.Model) and layer is not tokenizer
    )
    layer, traces = trace_words(network, tokenizer, words)
    return Reading(0, label, words, said, evidence), layer, traces


def words_as_html(reading):
    """Return the verdict and the coloured words of a `Reading` as HTML."""
    colours, _ = colour_words(reading)
    said, spans = reading.probabilities, []
    steps = zip(reading.words, colours, said[:-1], said[1:], strict=True)
    for word, (rgb, strength), before, after in steps:
        css = ", ".join(map(str, rgb))
        spans.append(
            f'<span style="background: rgba({css}, {strength:.2f}); padding: 2px 3px; '
            f'border-radius: 4px" title="{before:.3f} → {after:.3f}">'
            f"{html.escape(visible(without_tags(word)))}</span>"
        )
    good, bad = (f"rgba({', '.join(map(str, rgb))}, 0.5)" for rgb in (GOOD, BAD))
    return (
        f'<p style="font-size: 1.2em"><b>{reading.label}</b>: probability of good '
        f"{said[-1]:.3f}</p>"
        f'<p style="line-height: 1.9">{" ".join(spans)}</p>'
        f'<p><span style="background: {good}">&nbsp;towards good&nbsp;</span> '
        f'<span style="background: {bad}">&nbsp;towards bad&nbsp;</span></p>'
    )


def draw_review(path, reading, layer, traces):
    """Draw the probability after each word of a `Reading`, and the gates."""
    panels = gate_panels(traces)
    count = len(reading.words)
    has_evidence = reading.evidence is not None
    rows = 1 + has_evidence + len(panels)
    with figure(path, 6.5, 1.9 * rows) as drawn:
        said, *rest = drawn.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]
        said.axhline(0.5, color="#555555", linestyle=":")
        said.plot(np.arange(count + 1), reading.probabilities, color="#1f77b4")
        said.set(ylim=(0, 1), ylabel="probability\nof good")
        said.grid(alpha=0.3)
        if has_evidence:
            draw_evidence(rest[0], reading.evidence)
        panels_axes = rest[has_evidence:]
        for axes, (title, names) in zip(panels_axes, panels.items(), strict=True):
            draw_panel(axes, layer, traces, names, upright=False)
            axes.set_title(title, fontsize=10, loc="left")
        (rest or [said])[-1].set(xlabel="words read", xlim=(0, count + 0.5))


def drawn(draw, *arguments):
    """Return what a function draws into a file, as an array."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "drawn.png"
        draw(path, *arguments)
        return np.asarray(Image.open(path).convert("RGB"))


def train_on_sample(recipe, runs):
    """Train a run on the sample; yield the share that is done, and a line about it.

    Raises:
        UserError: Training failed.
    """
    command = [sys.executable, "-m", "recipes", recipe, "--data", "sample"]
    with subprocess.Popen(
        [*command, "--runs", runs],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        encoding="utf-8",
        errors="replace",
    ) as process:
        last = ""
        try:
            for line in process.stdout:  # a \r is a line end, too
                line = line.strip()
                last = line or last
                if epoch := re.fullmatch(r"Epoch (\d+)/(\d+)", line):
                    done, total = map(int, epoch.groups())
                    yield (done - 1) / total, f"pass {done} of {total} over the sample"
            if process.wait() != 0:
                raise UserError(f"Training failed: {visible(last)}")
        finally:
            process.terminate()


def check_port(port):
    """Raise UserError unless a port is allowed and free."""
    try:
        PORT.check("--port", port)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return probe.getsockname()[1]
    except ValueError as error:
        raise UserError(str(error)) from error
    except OSError as error:
        raise UserError(
            f"cannot use port {port} of {HOST}: {error.strerror}; "
            "choose another with --port"
        ) from error


def main(arguments):
    """Serve the page until Ctrl-C; return the exit status."""
    parser = Parser(prog="python -m recipes demo", description=__doc__)
    parser.add_argument(
        "--port",
        type=int,
        default=7860,
        help="port of 127.0.0.1, 0 for any free one (default: 7860)",
    )
    parser.add_argument(
        "--runs",
        type=folder_name,
        default="runs",
        help="folder of all runs (default: 'runs')",
    )
    options = parser.parse_args(arguments)
    check_backend(keras.backend.backend())
    port = check_port(options.port)
    find_runs(options.runs)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise UserError(f"{error}: `make demo` installs what the page needs") from error
    from recipes.demo_page import serve

    return serve(options.runs, HOST, port)


if __name__ == "__main__":
    exit_with(main)
