"""Files: read whole, and written so that they appear only when they are complete."""

import contextlib
import csv
import errno
import json
import os
import pathlib
import re
import stat
import tempfile

from recipes.run.command_line import UserError


class Unreadable(UserError):
    """A file cannot be read now. It may be whole."""


class Damaged(UserError):
    """A file was read, and does not hold what it should."""


def read(path, parse):
    """Return what ``parse`` makes of the bytes of a file.

    Raises:
        FileNotFoundError: There is no such file.
        Unreadable: It cannot be read: permission, an I/O error, too little memory; or
            it is a pipe or a device, which could wait or go on for ever.
        Damaged: ``parse`` raised an error; a UserError goes through.
    """
    try:
        path = pathlib.Path(path)
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise Unreadable(f"cannot read {path}: it is no regular file")
        content = path.read_bytes()
        return _parse(path, content, parse)
    except MemoryError as error:
        raise Unreadable(f"cannot read {path}: too little memory") from error
    except NotADirectoryError as error:  # there is a file in place of its folder
        raise FileNotFoundError(*error.args) from error
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Unreadable(f"cannot read {path}: {error.strerror}") from error


def is_file(path):
    """Return whether there is a file; raise Unreadable if that cannot be seen."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise Unreadable(f"cannot read {path}: {error.strerror}") from error


def _parse(path, content, parse):
    try:
        return parse(content)
    except (MemoryError, UserError):
        raise
    except Exception as error:  # a damaged file can raise almost anything
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise Damaged(f"{path} is damaged ({reason})") from error


def tensorflow_reason(error):
    """Return why TensorFlow failed at a file, without path and names of operations.

    >>> tensorflow_reason("{{function_node X}} /a/b; Disk full\\n\\tFlushing. [Op:Y]")
    'Disk full'
    """
    text = re.sub(r"\{\{.*?\}\}|\[Op:.*", "", f"{error}\n").strip()
    return text.split("\n")[0].split("; ")[-1].strip()


def system_reason(error):
    """Return what the operating system said, by way of TensorFlow, or None.

    >>> system_reason("{{function_node X}} /a/b; No space left on device [Op:Y]")
    'No space left on device'
    """
    reason = tensorflow_reason(error)
    return reason if reason in map(os.strerror, errno.errorcode) else None


@contextlib.contextmanager
def atomic_write(path):
    """Write a file atomically: yield a path that is renamed to ``path`` on success.

    It lies in a new folder that nobody else can write in, so that no link planted there
    is followed.
    """
    with tempfile.TemporaryDirectory(
        prefix="unfinished-", dir=path.parent, ignore_cleanup_errors=True
    ) as folder:
        unfinished = pathlib.Path(folder) / path.name
        yield unfinished
        with open(unfinished, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)


def write_json(path, value):
    """Write a value as JSON, which has no NaN: raise ValueError if there is one."""
    with atomic_write(path) as unfinished:
        unfinished.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_csv(path, rows):
    """Write a list of dicts with equal keys as CSV."""
    with atomic_write(path) as unfinished, open(unfinished, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_text(path, text):
    """Write a text as UTF-8."""
    with atomic_write(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def save_model(path, model):
    """Save a Keras model."""
    with atomic_write(path) as unfinished:
        model.save(unfinished)
