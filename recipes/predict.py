"""Use a trained model: say which digit an image shows, or whether a review is good.

With an exported model, RUN=model.onnx, onnxruntime answers, in a second: Keras and
TensorFlow, which take ten to start, are imported only where a model needs them.
"""

import codecs
import contextlib
import errno
import io
import json
import os
import pathlib
import select
import stat
import sys
import tempfile
import warnings
import zipfile

import numpy as np

from recipes.onnx_model import OnnxModel
from recipes.run.command_line import Parser, UserError, exit_with, folder_name
from recipes.run.files import is_file
from recipes.run.folder import RunFolder, list_folders
from recipes.run.keras_settings import check_backend, check_keras_settings
from recipes.run.quiet import fast_and_quiet
from recipes.run.texts import decode, in_one_line, visible

LINE_LIMIT = 2**20  # bytes of a review
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # a disk, a quota, a limit
WAIT = 500  # milliseconds without a word while nobody writes to a named pipe


def find_model(recipe, runs, name):
    """Return the path of a run's model.

    Args:
        recipe: ``"mnist"`` or ``"imdb"``.
        runs: Folder of all runs.
        name: Name of the run, or path of its folder or model; empty: the newest
            finished run.

    Raises:
        UserError: There is none, or it cannot be seen.
    """
    parent = pathlib.Path(runs) / recipe
    for path in (
        RunFolder(parent / name).model,
        RunFolder(name).model,
        pathlib.Path(name),
    ):
        if name and is_file(path):
            return path
    try:
        folders = [RunFolder(path) for path in list_folders(parent)]
    except OSError as error:
        raise UserError(f"cannot read {parent}: {error.strerror}") from error
    trained = [folder for folder in folders if os.path.isfile(folder.model)]
    if name:
        known = ", ".join(sorted(folder.path.name for folder in trained))
        known = f"; there are {known}" if known else ""
        raise UserError(f"no run {name!r} with a model in {parent}{known}")
    finished = [folder for folder in trained if folder.is_finished]
    if not finished:
        raise UserError(
            f"no finished run in {parent}: train one with `make train-{recipe}`"
        )
    newest = max(
        finished, key=lambda folder: (folder.metrics.stat().st_mtime_ns, folder.path)
    )
    return newest.model


def load_model(recipe, path):
    """Load a recipe's model, a ``.keras`` or ``.onnx`` file.

    Raises:
        UserError: That fails, or the file holds no model of the recipe.
    """
    model, made_by = load(path)
    if made_by != recipe:
        made = f"made by the {made_by} recipe" if made_by else "made by neither recipe"
        raise UserError(f"{path} is not a model of the {recipe} recipe: it was {made}")
    return model


def load(path):
    """Return the model in a file, and the recipe that made it, or None.

    Raises:
        UserError: It cannot be read, or is no model.
    """
    try:
        open(path, "rb").close()  # an OSError after that is of a damaged file
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    is_onnx = pathlib.Path(path).suffix == ".onnx"
    if not is_onnx:
        import_keras()
    try:
        if is_onnx:
            model = OnnxModel(path)
            return model, model.recipe
        return load_keras(path)
    except UserError:
        raise
    except MemoryError as error:
        raise UserError(f"cannot read {path}: too little memory") from error
    except Exception as error:  # a damaged file can raise almost anything
        if getattr(error, "errno", None) in FULL:  # Keras unpacks files there
            raise UserError(
                f"cannot read {path}: {os.strerror(error.errno)} in the temporary "
                f"folder {tempfile.gettempdir()}"
            ) from error
        raise UserError(
            f"cannot load {path}, it is damaged or no model: {in_one_line(error)}"
        ) from error


def import_keras():
    """Import Keras, which takes seconds; raise UserError where it cannot be used."""
    check_keras_settings()
    quiet = contextlib.nullcontext() if "keras" in sys.modules else fast_and_quiet()
    with quiet:
        import keras

        import custom_layers  # noqa: F401 - registers the layers
    check_backend(keras.backend.backend())


def load_keras(path):
    """Return Keras's model in a file, and the recipe that made it, or None."""
    import keras
    import tensorflow as tf

    if pathlib.Path(path).suffix == ".keras" and not zipfile.is_zipfile(path):
        raise ValueError("it is no whole zip archive, as .keras files are")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = keras.saving.load_model(path, compile=False)
            return model, recipe_of(model)
    except tf.errors.ResourceExhaustedError as error:
        raise MemoryError from error


def recipe_of(model):
    """Return the recipe that made a model of Keras's, or None."""
    if len(model.inputs) == 1 and len(model.outputs) == 1:
        if model.inputs[0].dtype == "string" and model.output_shape == (None, 1):
            return "imdb"
        if model.input_shape == (None, 28, 28) and model.output_shape == (None, 10):
            return "mnist"
    return None


def answer(model, path, inputs):
    """Return a model's probabilities for a batch of one.

    Raises:
        UserError: The model, which has the right shape, does not work.
    """
    try:
        (probabilities,) = np.asarray(model.predict_on_batch(inputs), "float64")
    except Exception as error:  # anything can be in a model that is no recipe's
        raise UserError(f"the model {path} fails: {in_one_line(error)}") from error
    if not np.all((probabilities >= 0) & (probabilities <= 1)):  # nor NaN
        raise UserError(
            f"the model {path} answers with {probabilities.tolist()}: "
            "probabilities lie between 0 and 1"
        )
    return probabilities.tolist()


def print_result(result, as_json):
    """Print one result at once."""
    if as_json:
        line = json.dumps(result, allow_nan=False)
    else:
        line = f"{result['label']} {result['probability']:.4f}"
        text = visible(" ".join(result.get("text", "").split()))
        line += f"  {text[:70]}…" if len(text) > 70 else f"  {text}" if text else ""
    print(line, flush=True)


def predict_mnist(options):
    """Say which digit an image shows; return the exit status."""
    if not options.image:
        raise UserError(
            "no image is given: name one with IMAGE=digit.png (make) or "
            "--image digit.png (python -m)"
        )
    from recipes.data.digit_image import read_digit  # its libraries take a second

    image = read_digit(options.image)
    path = find_model("mnist", options.runs, options.run)
    probabilities = answer(load_model("mnist", path), path, image[None])
    label = max(range(10), key=probabilities.__getitem__)
    result = {
        "label": label,
        "probability": probabilities[label],
        "probabilities": probabilities,
    }
    print_result(result, options.json)
    return 0


def predict_imdb(options):
    """Say of each text whether it is a good review; return the exit status.

    A line that is empty or too long costs a message on standard error and, at the end,
    status 2; the other lines are answered all the same. A few bytes that are no UTF-8
    cost a message alone.

    Raises:
        UserError: There is no text, or it is not UTF-8.
    """
    text = None if options.text is None else decode(options.text)
    if text is not None and not text.strip():
        raise UserError("the text is empty")
    path = find_model("imdb", options.runs, options.run)
    model = load_model("imdb", path)
    if text is not None:
        print_result(classify(model, path, text), options.json)
        return 0
    status, number = 0, 0
    for number, line in enumerate(read_lines(options.file), 1):
        text = line.decode("utf-8", "replace").strip()
        fault = None if text else "is empty"
        if len(line) > LINE_LIMIT and not line.endswith(b"\n"):
            fault = f"is longer than {LINE_LIMIT:,} bytes"
        if fault:
            status = 2
            print(f"error: line {number} {fault}", file=sys.stderr, flush=True)
            continue
        if check_encoding(line, f"line {number}"):
            warning = "is not all UTF-8; what is not is read as an unknown letter"
            print(f"warning: line {number} {warning}", file=sys.stderr, flush=True)
        result = {"line": number, **classify(model, path, text)}
        print_result(result, options.json)
    if not number:
        raise UserError("there is no review to read")
    return status


def read_lines(path):
    """Yield the lines of a file, or of standard input (None, ``"-"``), as they come.

    Of a line only the first bytes are held, one more than `LINE_LIMIT`; a byte order
    mark at the beginning is dropped.

    Raises:
        UserError: The file cannot be read, or does not begin as UTF-8 does.
    """
    source = "standard input" if path in (None, "-") else visible(path)
    try:
        with open_reviews(path) as file:
            if path not in (None, "-"):
                wait_for_writer(file)
            check_encoding(file.peek(), source)
            if file.peek().startswith(codecs.BOM_UTF8):
                file.read(len(codecs.BOM_UTF8))
            while line := file.readline(LINE_LIMIT + 1):
                yield line
                while line and not line.endswith(b"\n"):
                    line = file.readline(LINE_LIMIT)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot read {source}: {reason}") from error


def open_reviews(path):
    """Return a file to read bytes of, or standard input; a pipe is not waited for."""
    if path in (None, "-"):
        if sys.stdin is None:
            return io.BufferedReader(io.BytesIO())
        if sys.stdin.isatty():
            print("Type one review a line; Ctrl-D ends.", file=sys.stderr, flush=True)
        return contextlib.nullcontext(sys.stdin.buffer)
    # To open a named pipe for blocking reads would wait for its writer.
    return open(
        path, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)
    )


def wait_for_writer(file):
    """Wait, not without a word, until somebody writes to a file that is a pipe."""
    if stat.S_ISFIFO(os.fstat(file.fileno()).st_mode):
        writer = select.poll()
        writer.register(file, select.POLLIN)
        if not writer.poll(WAIT):
            message = f"Waiting for someone to write to the pipe {visible(file.name)} …"
            print(message, file=sys.stderr, flush=True)
            writer.poll()
    os.set_blocking(file.fileno(), True)


def check_encoding(block, source):
    """Return whether a part of a text is not all UTF-8.

    Raises:
        UserError: It is no such text: it holds a NUL, or much that is not UTF-8.
    """
    text = block.decode("utf-8", "replace")
    invalid = text.count("\ufffd") - block.count("\ufffd".encode())
    expected = "reviews must be text in UTF-8, one a line: "
    if b"\0" in block:
        raise UserError(
            f"{expected}{source} holds NUL bytes, as UTF-16 and binary files do"
        )
    if invalid > max(1, len(text) // 10):
        raise UserError(f"{expected}more than a tenth of {source} is not")
    return invalid > 0


def as_batch(model, text):
    """Return a batch of one text for a model."""
    if isinstance(model, OnnxModel):
        return [text]
    import tensorflow as tf

    return tf.constant([text])


def classify(model, path, text):
    """Return label, probability of the label, both probabilities, and the text."""
    (good,) = answer(model, path, as_batch(model, text))
    probabilities = {"bad": 1 - good, "good": good}
    label = "good" if good > 0.5 else "bad"
    return {
        "label": label,
        "probability": probabilities[label],
        "probabilities": probabilities,
        "text": text,
    }


def main(arguments):
    """Read the command line and predict; return the exit status."""
    parser = Parser(prog="python -m recipes predict", description=__doc__)
    recipes = parser.add_subparsers(required=True, metavar="imdb|mnist")
    imdb = recipes.add_parser(
        "imdb", help="good or bad? Reads standard input if no text is given"
    )
    source = imdb.add_mutually_exclusive_group()
    source.add_argument("--text", help="one review")
    source.add_argument(
        "--file", help="a file of reviews, one a line; - is standard input"
    )
    mnist = recipes.add_parser("mnist", help="which digit is in an image?")
    mnist.add_argument("--image", help="an image of one digit, of any size")
    for recipe, predict in (imdb, predict_imdb), (mnist, predict_mnist):
        recipe.add_argument(
            "--run",
            default="",
            help="name or folder of the run, or an .onnx file (default: the newest)",
        )
        recipe.add_argument(
            "--runs",
            type=folder_name,
            default="runs",
            help="folder of all runs (default: runs)",
        )
        recipe.add_argument(
            "--json", action="store_true", help="print JSON, one object a line"
        )
        recipe.set_defaults(predict=predict)
    options = parser.parse_args(arguments)
    return options.predict(options)


if __name__ == "__main__":
    exit_with(main)
