"""Data sets from TensorFlow Datasets: a prepared copy, or a download.

``python -m recipes.data.tfds mnist`` downloads and prepares one data set.
"""

import contextlib
import http.client
import os
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request

import tensorflow as tf
import tensorflow_datasets as tfds

from recipes.run.command_line import UserError
from recipes.run.files import tensorflow_reason

PROBE_TIMEOUT = (
    5  # seconds that a host may take to answer before we call it unreachable
)
DOWNLOAD_TIMEOUT = 1800  # seconds to download and prepare a data set
SIZES = {
    "mnist": {"train": 60_000, "test": 10_000},
    "imdb_reviews": {"train": 25_000, "test": 25_000, "unsupervised": 50_000},
}
#: What TensorFlow raises where the system refuses to read a file.
REFUSALS = (
    tf.errors.AbortedError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.PermissionDeniedError,
    tf.errors.ResourceExhaustedError,
    tf.errors.UnavailableError,
    tf.errors.UnknownError,
)
INPUTS = {"mnist": "image", "imdb_reviews": "text"}


def load(name, needed):
    """Return a data set's description, training and test split; None without network.

    Args:
        name: Name in TensorFlow Datasets.
        needed: Raise an error where there is neither a prepared copy nor a network.

    Raises:
        UserError: The prepared copy cannot be read or is damaged, the download fails,
            or, if ``needed``, there is no network.
    """
    builder = prepare(name, needed)
    return None if builder is None else read(name, builder)


def load_unlabelled(name):
    """Return the inputs of a prepared data set's unlabelled split.

    Raises: See `load`.
    """
    return read_split(name, prepare(name, needed=True), "unsupervised")[0]


def prepare(name, needed):
    """Return a data set's builder, with a prepared copy; None without network.

    Arguments and errors are those of `load`.
    """
    builder = make_builder(name)
    if not is_prepared(name, builder.data_path):
        unreachable = first_unreachable(builder)
        if unreachable is None:
            download(name, builder)
            builder = make_builder(name)  # which now finds the copy
        elif needed:
            raise UserError(
                f"no prepared {name} in {builder.data_path}, and {unreachable}: "
                "set TFDS_DATA_DIR to a folder that holds a prepared copy, or connect "
                "to the network, or use the sample with --data sample"
            )
        else:
            print(f"No prepared {name} in {builder.data_path}, and {unreachable}.")
            return None
    return builder


def make_builder(name):
    """Return the builder for the folder in ``TFDS_DATA_DIR``, or for TFDS's default."""
    folder = os.path.expanduser(os.environ.get("TFDS_DATA_DIR", "")) or None
    try:
        with removed_temporary_files():
            return tfds.builder(name, data_dir=folder)
    except Exception as error:  # TFDS parses a prepared copy: anything can be raised
        path = os.path.join(folder or "~/tensorflow_datasets", name)
        raise UserError(unusable(name, path, error)) from error


@contextlib.contextmanager
def removed_temporary_files():
    """Remove, at the end, the temporary files that were made.

    TFDS leaves an empty folder for each data set of which it finds no prepared copy.
    """
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder
        try:
            yield
        finally:
            tempfile.tempdir = before


def is_prepared(name, folder):
    """Return whether there is a prepared copy, whole or not, in a folder.

    Raises:
        UserError: It cannot be seen.
    """
    try:
        os.stat(os.path.join(folder, "dataset_info.json"))
    except (FileNotFoundError, NotADirectoryError):
        return os.path.isdir(folder)
    except OSError as error:
        raise UserError(unusable(name, folder, error)) from error
    return True


def read(name, builder):
    """Return a prepared data set's description, training and test split."""
    train, test = (read_split(name, builder, split) for split in ("train", "test"))
    description = (
        f"{name} of TensorFlow Datasets, {builder.info.version}, in {builder.data_path}"
    )
    return description, train, test


def read_split(name, builder, split):
    """Return inputs and labels of a split of a prepared data set."""
    try:
        examples = tfds.as_numpy(builder.as_dataset(split=split, batch_size=-1))
        inputs, labels = examples[INPUTS[name]], examples["label"].astype("int32")
    except Exception as error:  # a damaged file can raise almost anything
        raise UserError(unusable(name, builder.data_path, error)) from error
    size = SIZES[name][split]
    if len(labels) != size:
        error = ValueError(f"{split} has {len(labels)} examples instead of {size}")
        raise UserError(unusable(name, builder.data_path, error))
    return inputs[..., 0] if name == "mnist" else inputs, labels


def unusable(name, folder, error):
    """Say in one line why a prepared copy cannot be used, and what to do.

    What cannot be read now may be whole: only what was read and is wrong is damaged.
    """
    if refusal := find_refusal(error):
        return (
            f"cannot read the prepared {name} in {folder}: {refusal}; it may be whole: "
            "solve that and run again, or set TFDS_DATA_DIR to another folder, "
            "or use --data sample"
        )
    reason = tensorflow_reason(error) or type(error).__name__
    return (
        f"the prepared {name} in {folder} is damaged ({reason[:200].strip()}): "
        "delete that folder and run again, or use --data sample"
    )


def find_refusal(error):
    """Return why a file could not be read, None if it was read or is not there.

    TFDS wraps errors in its own.
    """
    if isinstance(error, MemoryError):
        return "too little memory"
    if isinstance(error, REFUSALS):
        return tensorflow_reason(error)
    gone = isinstance(error, (FileNotFoundError, NotADirectoryError))
    if isinstance(error, OSError) and error.strerror and not gone:
        return error.strerror
    within = error.__cause__ or error.__context__
    return None if within is None else find_refusal(within)


def first_unreachable(builder):
    """Return None if every host to download from answers, else which does not."""
    urls = {url.split("/")[2]: url for url in builder.url_infos}
    for host, url in urls.items():
        if not is_reachable(url):
            return f"{host} does not answer within {PROBE_TIMEOUT} seconds"
    return None


def is_reachable(url):
    """Return whether a host answers within `PROBE_TIMEOUT`, name look-up included."""
    answered = []

    def ask():
        request = urllib.request.Request(url, method="HEAD")
        try:
            urllib.request.urlopen(request, timeout=PROBE_TIMEOUT).close()
        except urllib.error.HTTPError:
            answered.append(True)  # if only with a refusal
        except (OSError, http.client.HTTPException):  # the latter: it speaks no HTTP
            return
        else:
            answered.append(True)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PROBE_TIMEOUT)
    return bool(answered)


def download(name, builder):
    """Download and prepare a data set in a process that can be stopped."""
    minutes = DOWNLOAD_TIMEOUT // 60
    print(f"Downloading {name} to {builder.data_path} (at most {minutes} minutes) …")
    command = [sys.executable, "-m", "recipes.data.tfds", name]
    try:
        finished = subprocess.run(
            command, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"downloading {name} took more than {minutes} minutes: try again, "
            "or use --data sample"
        ) from error
    except OSError as error:
        raise UserError(
            f"cannot start the download of {name}: {error.strerror}"
        ) from error
    if finished.returncode:
        reason = (finished.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(
            f"downloading {name} failed ({reason}): try again, or --data sample"
        )


def main(name):
    """Download and prepare a data set; say in one last line why that fails."""
    try:
        make_builder(name).download_and_prepare()
    except Exception as error:  # of the network, the disk, or the data
        reason = " ".join(str(error).split())
        sys.exit(f"{type(error).__name__}: {reason}"[:600])


if __name__ == "__main__":
    main(sys.argv[1])
