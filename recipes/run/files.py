"""Files that appear under their names only when they are complete."""

import contextlib
import csv
import json
import os


@contextlib.contextmanager
def atomic_write(path):
    """Write a file atomically: yield a path that is renamed to ``path`` on success."""
    unfinished = path.with_name(f"unfinished-{path.name}")
    try:
        yield unfinished
        with open(unfinished, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except Exception:  # a full disk, often: give the room back
        unfinished.unlink(missing_ok=True)
        raise


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
