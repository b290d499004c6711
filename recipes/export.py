"""Write the model of a run in another format: ONNX, SavedModel or LiteRT.

    format        file                  what reads it
    onnx          model.onnx            onnxruntime; `recipes predict --run model.onnx`
    savedmodel    model.savedmodel/     TensorFlow: tf.saved_model.load
    litert        model.tflite          LiteRT (TensorFlow Lite), one example at a time

The file is put next to the model. ONNX has no texts: a model that reads them takes the
numbers of their words there, and model.vocabulary.txt, next to it, has the words in
order.
"""

import os
import pathlib
import shutil
import tempfile
import warnings

from custom_layers import to_onnx
from recipes.predict import find_model, load
from recipes.run.command_line import Parser, UserError, exit_with, folder_name
from recipes.run.files import atomic_write, system_reason, write_text
from recipes.run.folder import RunFolder
from recipes.run.texts import in_one_line

RECIPES = ("mnist", "imdb")
SUFFIXES = {"onnx": ".onnx", "savedmodel": ".savedmodel", "litert": ".tflite"}


def find_any_model(runs, name):
    """Return the path of a run's model, of whichever recipe.

    Args:
        runs: Folder of all runs.
        name: Name of the run, or path of its folder or model; empty: the newest
            finished run.

    Raises:
        UserError: There is none, or there are two.
    """
    found, errors = set(), []
    for recipe in RECIPES:
        try:
            found.add(find_model(recipe, runs, name))
        except UserError as error:
            errors.append(str(error))
    if not found:
        raise UserError("; ".join(errors))
    if len(found) == 1:
        return found.pop()
    if name:
        paths = " and ".join(sorted(str(path.parent) for path in found))
        raise UserError(f"there are two runs {name!r}: name one by its path, {paths}")
    return max(
        found, key=lambda path: RunFolder(path.parent).metrics.stat().st_mtime_ns
    )


def export_onnx(model, path):
    """Write a model as ONNX, and the words that it knows; return what was written."""
    with atomic_write(path) as unfinished:
        to_onnx(model, unfinished)
        vocabulary = read_vocabulary(unfinished)
        if vocabulary is None:
            return [path]
        words = path.with_suffix(".vocabulary.txt")
        write_text(words, vocabulary + "\n")
        return [path, words]


def read_vocabulary(path):
    """Return the words in the metadata of an ONNX file, one a line, or None."""
    import onnx

    metadata = onnx.load(path, load_external_data=False).metadata_props
    return {entry.key: entry.value for entry in metadata}.get("vocabulary")


def export_savedmodel(model, path):
    """Write a model as TensorFlow's SavedModel, a folder; return what was written."""
    if path.exists() and not (path / "saved_model.pb").exists():
        raise UserError(f"{path} is in the way: it is no SavedModel")
    with tempfile.TemporaryDirectory(
        prefix="unfinished-", dir=path.parent, ignore_cleanup_errors=True
    ) as folder:
        unfinished = pathlib.Path(folder) / path.name
        model.export(unfinished, format="tf_saved_model", verbose=False)
        if path.exists():
            shutil.move(path, pathlib.Path(folder) / "old")
        os.replace(unfinished, path)
    return [path]


def export_litert(model, path):
    """Write a model as LiteRT's; return what was written.

    It reads a batch of one: with a batch of any size, its loops over time would need
    operators of TensorFlow, which LiteRT does not have without an extension.
    """
    import tensorflow as tf

    for tensor in model.inputs:
        if tensor.dtype == "string":
            raise UserError(
                "LiteRT has no operators that read texts: --format onnx, which takes "
                "the numbers of words, and --format savedmodel can hold this model"
            )
        if None in tensor.shape[1:]:
            raise UserError(
                "LiteRT needs sequences of a fixed length, but the input "
                f"{tensor.name} has the shape {tensor.shape}"
            )
    signature = [
        tf.TensorSpec((1, *tensor.shape[1:]), tensor.dtype, name=tensor.name)
        for tensor in model.inputs
    ]
    with atomic_write(path) as unfinished:
        model.export(
            unfinished,
            format="litert",
            verbose=False,
            input_signature=signature if len(signature) == 1 else [signature],
            target_spec={"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]},
        )
    return [path]


WRITERS = {
    "onnx": export_onnx,
    "savedmodel": export_savedmodel,
    "litert": export_litert,
}


def export(model, source, format, path):
    """Write a model in a format; return the paths of what was written.

    Args:
        model: The model.
        source: Where it comes from, for messages.
        format: One of `WRITERS`.
        path: The file, or with ``"savedmodel"`` the folder.

    Raises:
        UserError: The format cannot hold the model, a package is missing, or the file
            cannot be written.
    """
    if path.suffix != SUFFIXES[format]:
        raise UserError(
            f"--output must end with {SUFFIXES[format]} for --format {format}, "
            f"got {path}"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return WRITERS[format](model, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    except ImportError as error:
        raise UserError(
            f"{in_one_line(error)}; `make .venv/ready-export` installs it"
        ) from error
    except MemoryError as error:
        raise UserError(f"cannot export {source}: too little memory") from error
    except UserError as error:
        raise UserError(f"cannot export {source} as {format}: {error}") from error
    except Exception as error:  # converters raise almost anything
        reason = system_reason(error)
        if reason is not None:
            if "unfinished-" not in str(error):  # LiteRT is made of a SavedModel there
                reason += f" in the temporary folder {tempfile.gettempdir()}"
            raise UserError(f"cannot write {path}: {reason}") from error
        raise UserError(
            f"cannot export {source} as {format}: {in_one_line(error)}"
        ) from error


def main(arguments):
    """Read the command line and export; return the exit status."""
    parser = Parser(prog="python -m recipes export", description=__doc__)
    parser.add_argument(
        "--format",
        choices=WRITERS,
        default="onnx",
        help="the format to write (default: onnx)",
    )
    parser.add_argument(
        "--run",
        default="",
        help="name or folder of the run, or its model (default: the newest)",
    )
    parser.add_argument(
        "--runs",
        type=folder_name,
        default="runs",
        help="folder of all runs (default: runs)",
    )
    parser.add_argument(
        "--output", default="", help="what to write (default: next to the model)"
    )
    options = parser.parse_args(arguments)
    source = find_any_model(options.runs, options.run)
    if source.suffix != ".keras":
        raise UserError(f"{source} is no model of Keras: its name must end with .keras")
    path = source.with_suffix(SUFFIXES[options.format])
    path = pathlib.Path(options.output or path)
    model, _ = load(source)
    for written in export(model, source, options.format, path):
        print(f"Written: {written}")
    return 0


if __name__ == "__main__":
    exit_with(main)
