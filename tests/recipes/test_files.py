"""Files: what cannot be read is told from what is damaged; nothing half is seen."""

import errno
import json
import os
import pathlib

import keras
import numpy as np
import pytest

from recipes.run.command_line import UserError
from recipes.run.files import (
    Damaged,
    Unreadable,
    atomic_write,
    read,
    save_model,
    write_csv,
    write_json,
    write_text,
)
from recipes.training.checkpoint import write_checkpoint


def failing(error):
    """Return a function that raises ``error``, whatever it is called with."""

    def fail(*arguments, **options):
        raise error

    return fail


def test_a_file_is_read(tmp_path):
    (tmp_path / "a").write_text("[1]")
    assert read(tmp_path / "a", json.loads) == [1]
    for missing in (tmp_path / "b", tmp_path / "a" / "b"):
        with pytest.raises(FileNotFoundError):
            read(missing, json.loads)


def test_pipes_and_devices_are_not_read(tmp_path):
    """A pipe without a writer would wait for ever, /dev/zero take all memory."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for path in (tmp_path / "pipe", tmp_path / "zero"):
        with pytest.raises(Unreadable, match="it is no regular file"):
            read(path, json.loads)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), "Permission denied"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files"),
        (MemoryError(), "too little memory"),
    ],
)
def test_what_cannot_be_read_is_not_called_damaged(
    error, reason, tmp_path, monkeypatch
):
    path = tmp_path / "a"
    path.write_text("[1]")
    monkeypatch.setattr(pathlib.Path, "read_bytes", failing(error))
    with pytest.raises(Unreadable) as raised:
        read(path, json.loads)
    assert str(raised.value) == f"cannot read {path}: {reason}"


def test_more_that_cannot_be_read(tmp_path):
    with pytest.raises(Unreadable, match="Is a directory"):
        read(tmp_path, json.loads)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(Unreadable, match="Too many levels of symbolic links"):
        read(tmp_path / "loop", json.loads)
    (tmp_path / "a").touch()
    with pytest.raises(Unreadable, match="a: too little memory"):
        read(tmp_path / "a", failing(MemoryError()))


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"\xff", b"[1", bytes(99), b"[" * 100_000, b'{"a":' * 100_000),
        b"1" * 5000,
    ],
    ids=lambda content: repr(content[:5]),
)
def test_what_is_damaged(content, tmp_path):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(Damaged) as raised:
        read(tmp_path / "a", json.loads)
    assert str(raised.value).startswith(f"{tmp_path / 'a'} is damaged (")
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 500


def test_an_error_for_the_user_goes_through(tmp_path):
    (tmp_path / "a").touch()
    with pytest.raises(UserError, match="^of an earlier release$"):
        read(tmp_path / "a", failing(UserError("of an earlier release")))
    with pytest.raises(Damaged, match="is damaged .*No space"):  # no error of reading
        read(tmp_path / "a", failing(OSError(errno.ENOSPC, "No space")))


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "metrics.json"
    write_json(path, {"a": 1})
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as unfinished:
        unfinished.write_text("{ half")
        raise KeyboardInterrupt
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_nothing(tmp_path):
    with pytest.raises(OSError), atomic_write(tmp_path / "a.txt") as unfinished:
        unfinished.write_text("half")
        raise OSError
    assert not list(tmp_path.iterdir())


def small_model():
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])


WRITERS = {
    "a.json": lambda path: write_json(path, [1]),
    "a.csv": lambda path: write_csv(path, [{"a": 1}]),
    "a.txt": lambda path: write_text(path, "é"),
    "a.npz": lambda path: write_checkpoint(path, {}, [np.ones(2)], [np.ones(2)]),
    "a.keras": lambda path: save_model(path, small_model()),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_planted_link_is_not_followed(name, tmp_path, monkeypatch):
    """Where a file of a known name would be written first, and under its last name."""
    folder, victim = tmp_path / "run", tmp_path / "victim"
    folder.mkdir()
    victim.write_text("mine")
    for planted in (name, f"unfinished-{name}", f"{name}.tmp", f".{name}"):
        (folder / planted).symlink_to(victim)
    seen, replace = [], os.replace

    def look(source, target):
        source = pathlib.Path(source)
        assert not source.is_symlink()
        assert source.parent.stat().st_mode & 0o777 == 0o700
        assert source.parent.parent == folder
        seen.append(source.parent)
        replace(source, target)

    monkeypatch.setattr(os, "replace", look)
    for _ in range(2):
        WRITERS[name](folder / name)
        assert victim.read_text() == "mine"
        assert (folder / name).is_file() and not (folder / name).is_symlink()
    assert seen[0] != seen[1]  # a name that nobody can foresee
    assert not list(folder.glob("unfinished-[!a]*"))
