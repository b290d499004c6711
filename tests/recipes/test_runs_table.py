"""The table of all runs."""

import dataclasses
import errno
import json
import os
import pathlib

import pytest

from recipes import mnist, resume, runs
from recipes.run.command_line import UserError
from recipes.run.folder import Run, RunFolder

TABLE = """\
recipe  data    cell         preset     accuracy  minutes  run
imdb    sample  lstm         classic      0.9000      1.5  runs/imdb/only
imdb                                     damaged           runs/imdb/odd
imdb                                     damaged           runs/imdb/torn
mnist   full    depth-gated  modern       0.9912      1.5  runs/mnist/better
mnist   full    lstm         modern       0.9900     12.6  runs/mnist/good
mnist                                    damaged           runs/mnist/broken
mnist   sample  lstm         classic  unfinished           runs/mnist/half
"""


def add(parent, name, metrics):
    """Add a finished run with this text, or these figures, as its metrics."""
    folder = RunFolder(parent / name)
    folder.path.mkdir(parents=True)
    if not isinstance(metrics, str):
        defaults = {"data": "full", "cell": "lstm", "preset": "modern"}
        metrics = json.dumps({**defaults, "fit_seconds": 90.0, **metrics})
    folder.metrics.write_text(metrics)


def test_no_run(tmp_path, capsys):
    assert runs.main(["--runs", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"There is no run in {tmp_path}.\n"


def test_the_best_of_each_recipe_comes_first(tmp_path, capsys):
    add(tmp_path, "mnist/good", {"test_accuracy": 0.99, "fit_seconds": 754.0})
    add(tmp_path, "mnist/better", {"test_accuracy": 0.9912, "cell": "depth-gated"})
    sample = {"data": "sample", "preset": "classic"}
    add(tmp_path, "imdb/only", {"test_accuracy": 0.9, **sample})
    add(tmp_path, "imdb/torn", '{"test_acc')
    add(tmp_path, "imdb/odd", "[]")
    config = mnist.PRESETS["classic"]
    for name in ("half", "broken"):
        config = dataclasses.replace(config, runs=str(tmp_path), name=name)
        run = Run("mnist", config)
        run.make_folder("sample", "a kernel")
        run.lock.close()
    run.folder.manifest.write_text("{")
    (tmp_path / "mnist" / "empty").mkdir()
    assert runs.main(["--runs", str(tmp_path)]) == 0
    assert capsys.readouterr().out.replace(str(tmp_path), "runs") == TABLE


def rows(parent, capsys):
    """Return state by name of run, as the table gives it."""
    assert runs.main(["--runs", str(parent)]) == 0
    printed = capsys.readouterr().out
    assert printed.isascii() and printed.replace("\n", "").isprintable()
    lines = printed.splitlines()[1:]
    assert all(str(parent) in line for line in lines)
    return {
        line.partition(str(parent))[2]: line.partition(str(parent))[0].split()
        for line in lines
    }


GOOD = {"test_accuracy": 0.5}
DAMAGED = {
    "deep": "[" * 100_000,
    "deeper": '{"test_accuracy":' * 100_000,
    "huge": json.dumps({**GOOD, "fit_seconds": 10**400}),
    "too many digits": '{"test_accuracy": ' + "1" * 5000 + "}",
    "nothing": "",
    "null": "null",
    "text": '"text"',
    "not UTF-8": "\udcff",
    "a cell that is 5": {**GOOD, "cell": 5},
    "a cell that is a list": {**GOOD, "cell": ["lstm"]},
    "escapes": {**GOOD, "cell": "\x1b[2J"},
    "line break": {**GOOD, "preset": "a\nb"},
    "a long cell": {**GOOD, "cell": "x" * 1000},
    "other data": {**GOOD, "data": "nonsense"},
    "NaN": {"test_accuracy": float("nan")},
    "above 1": {"test_accuracy": 1.5},
    "below 0": {"test_accuracy": -0.5},
    "a text as accuracy": {"test_accuracy": "0.5"},
    "endless": {**GOOD, "fit_seconds": float("inf")},
    "true": {"test_accuracy": True},
}


def test_a_damaged_run_hides_no_other(tmp_path, capsys):
    for name, metrics in DAMAGED.items():
        if isinstance(metrics, str):
            add(tmp_path, f"mnist/{name}", "")
            text = metrics.encode("utf-8", "surrogateescape")
            RunFolder(tmp_path / "mnist" / name).metrics.write_bytes(text)
        else:
            add(tmp_path, f"mnist/{name}", metrics)
    add(tmp_path, "mnist/good", GOOD)
    add(tmp_path, "imdb/good", GOOD)
    expected = {f"/mnist/{name}": ["mnist", "damaged"] for name in DAMAGED}
    good = ["full", "lstm", "modern", "0.5000", "1.5"]
    expected |= {f"/{recipe}/good": [recipe, *good] for recipe in ("mnist", "imdb")}
    assert rows(tmp_path, capsys) == expected


def test_a_damaged_unfinished_run_hides_no_other(tmp_path, capsys):
    add(tmp_path, "mnist/good", GOOD)
    for number, text in enumerate(
        ("", "[" * 100_000, "null", "{}", '{"config": 5}', '{"config": {"cell": 5}}')
    ):
        folder = RunFolder(tmp_path / "mnist" / f"half-{number}")
        folder.path.mkdir()
        folder.manifest.write_text(text)
    found = rows(tmp_path, capsys)
    assert found.pop("/mnist/good")[-2:] == ["0.5000", "1.5"]
    assert list(found.values()) == [["mnist", "damaged"]] * 6


def test_what_cannot_be_read_is_named_and_not_called_damaged(
    tmp_path, capsys, monkeypatch
):
    """A folder in place of the metrics, and files and folders without permission."""
    for name in ("good", "folder", "file", "run"):
        add(tmp_path, f"mnist/{name}", GOOD)
    add(tmp_path, "imdb/all", GOOD)
    (tmp_path / "mnist/folder/metrics.json").unlink()
    (tmp_path / "mnist/folder/metrics.json").mkdir()
    denied = ["mnist/file/metrics.json", "mnist/run/", "imdb"]
    denied = [f"{tmp_path}/{path}" for path in denied]
    deny(monkeypatch, lambda path: any(f"{path}/".startswith(at) for at in denied))
    found = rows(tmp_path, capsys)
    assert found.pop("/mnist/good")[-2:] == ["0.5000", "1.5"]
    assert sorted(found) == ["/imdb", "/mnist/file", "/mnist/folder", "/mnist/run"]
    assert {row[-1] for row in found.values()} == {"unreadable"}
    with pytest.raises(UserError, match="cannot read .*: Permission denied; nothing"):
        resume.main(["--runs", str(tmp_path)])
    deny(monkeypatch, lambda path: True)
    for program in (runs, resume):
        with pytest.raises(UserError, match=f"cannot read {tmp_path}: Permission den"):
            program.main(["--runs", str(tmp_path)])


def deny(monkeypatch, denied):
    """Refuse access to what is in a path for which ``denied`` is true.

    The superuser, who runs the tests in many containers, is refused nothing.
    """

    def guard(function):
        def guarded(path, *arguments, **options):
            if denied(path):
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return function(path, *arguments, **options)

        return guarded

    for name in ("iterdir", "stat", "read_bytes"):
        function = guard(getattr(pathlib.Path, name))
        monkeypatch.setattr(pathlib.Path, name, function)


@pytest.mark.skipif(not os.geteuid(), reason="the superuser may read everything")
def test_a_run_without_permission(tmp_path, capsys):
    for name in ("good", "bad"):
        add(tmp_path, f"mnist/{name}", GOOD)
    bad = tmp_path / "mnist/bad"
    bad.chmod(0)
    found = rows(tmp_path, capsys)
    bad.chmod(0o700)
    assert (found["/mnist/bad"], len(found)) == (["mnist", "unreadable"], 2)


def test_a_pipe_in_place_of_a_file(tmp_path, capsys):
    add(tmp_path, "mnist/good", GOOD)
    for name in ("metrics.json", "config.json"):
        run = tmp_path / "mnist" / f"pipe-{name}"
        run.mkdir()
        os.mkfifo(run / name)
    found = rows(tmp_path, capsys)
    assert len(found) == 3
    for name in ("metrics.json", "config.json"):
        assert found[f"/mnist/pipe-{name}"] == ["mnist", "unreadable"]


def test_names_of_old_folders_are_printed_with_escapes(tmp_path, capsys):
    for name in ("a\nb", "\x1b[2Jx", "a\udcffb", "\u202eabc"):
        add(tmp_path, f"mnist/{name}", GOOD)
    expected = [r"/mnist/\u202eabc", r"/mnist/\x1b[2Jx", r"/mnist/a\nb", r"a\udcffb"]
    found = rows(tmp_path, capsys)
    assert sorted(found) == [*expected[:3], f"/mnist/{expected[3]}"]
