"""Use a trained model: say which digit an image shows, or whether a review is good."""

import json
import math
import os
import pathlib
import sys
import warnings

import keras
import tensorflow as tf

import custom_layers  # noqa: F401 - registers the layers
from recipes.data.digit_image import read_digit
from recipes.run.command_line import Parser, UserError, exit_with
from recipes.run.environment import check_backend
from recipes.run.folder import RunFolder


def find_model(recipe, runs, name):
    """Return the path of a run's model.

    Args:
        recipe: ``"mnist"`` or ``"imdb"``.
        runs: Folder of all runs.
        name: Name of the run, or path of its folder or model; empty: the newest
            finished run.

    Raises:
        UserError: There is none.
    """
    parent = pathlib.Path(runs) / recipe
    trained = [
        folder for folder in map(RunFolder, parent.glob("*")) if folder.model.exists()
    ]
    if name:
        for path in (
            RunFolder(parent / name).model,
            RunFolder(name).model,
            pathlib.Path(name),
        ):
            if os.path.isfile(path):
                return path
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
    """Load a recipe's model; raise UserError if the file holds none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = keras.saving.load_model(path, compile=False)
            made_by = recipe_of(model)
    except Exception as error:  # a damaged file can raise almost anything in Keras
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"cannot load {path}, it is damaged or no model: {reason}"
        ) from error
    if made_by != recipe:
        made = f"made by the {made_by} recipe" if made_by else "made by neither recipe"
        raise UserError(f"{path} is not a model of the {recipe} recipe: it was {made}")
    return model


def recipe_of(model):
    """Return the recipe that made a model, or None."""
    if len(model.inputs) == 1 and len(model.outputs) == 1:
        if model.inputs[0].dtype == "string" and model.output_shape == (None, 1):
            return "imdb"
        if model.input_shape == (None, 28, 28) and model.output_shape == (None, 10):
            return "mnist"
    return None


def print_result(result, as_json):
    """Print one result at once; raise UserError if it is NaN."""
    if not math.isfinite(result["probability"]):
        raise UserError("the model answers NaN: its training has diverged")
    if as_json:
        line = json.dumps(result, ensure_ascii=False, allow_nan=False)
    else:
        line = f"{result['label']} {result['probability']:.4f}"
        text = " ".join(result.get("text", "").split())
        line += f"  {text[:70]}…" if len(text) > 70 else f"  {text}" if text else ""
    print(line, flush=True)


def predict_mnist(options):
    """Say which digit an image shows; return the exit status."""
    if not options.image:
        raise UserError(
            "no image is given: name one with IMAGE=digit.png (make) or "
            "--image digit.png (python -m)"
        )
    image = read_digit(options.image)
    model = load_model("mnist", find_model("mnist", options.runs, options.run))
    probabilities = model.predict_on_batch(image[None])[0].tolist()
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

    An empty line costs a message on standard error and, at the end, status 2; the other
    lines are answered all the same.
    """
    if options.text is not None and not options.text.strip():
        raise UserError("the text is empty")
    model = load_model("imdb", find_model("imdb", options.runs, options.run))
    if options.text is not None:
        print_result(classify(model, options.text), options.json)
        return 0
    status, number = 0, 0
    for number, line in enumerate(read_lines(options.file), 1):
        if line.strip():
            print_result(
                {"line": number, **classify(model, line.strip())}, options.json
            )
        else:
            print(f"error: line {number} is empty", file=sys.stderr, flush=True)
            status = 2
    if not number:
        raise UserError("there is no review to read")
    return status


def read_lines(path):
    """Yield the lines of a file, or of standard input (None, ``"-"``), as they come."""
    if path in (None, "-"):
        if sys.stdin is None:
            return
        if sys.stdin.isatty():
            print("Type one review a line; Ctrl-D ends.", file=sys.stderr, flush=True)
        for line in sys.stdin.buffer:
            yield line.decode("utf-8", "replace")
        return
    try:
        with open(path, "rb") as file:
            for line in file:
                yield line.decode("utf-8", "replace")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def classify(model, text):
    """Return label, probability of the label, both probabilities, and the text."""
    good = float(
        model.predict_on_batch(tf.constant([text.encode("utf-8", "replace")]))[0, 0]
    )
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
            "--run", default="", help="name or folder of the run (default: the newest)"
        )
        recipe.add_argument(
            "--runs", default="runs", help="folder of all runs (default: runs)"
        )
        recipe.add_argument(
            "--json", action="store_true", help="print JSON, one object a line"
        )
        recipe.set_defaults(predict=predict)
    options = parser.parse_args(arguments)
    check_backend()
    return options.predict(options)


if __name__ == "__main__":
    exit_with(main)
