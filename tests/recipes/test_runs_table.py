"""The table of all runs."""

import dataclasses
import json

from recipes import mnist, runs
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
        metrics = json.dumps({**defaults, "fit_seconds": 90, **metrics})
    folder.metrics.write_text(metrics)


def test_no_run(tmp_path, capsys):
    assert runs.main(["--runs", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"There is no run in {tmp_path}.\n"


def test_the_best_of_each_recipe_comes_first(tmp_path, capsys):
    add(tmp_path, "mnist/good", {"test_accuracy": 0.99, "fit_seconds": 754})
    add(tmp_path, "mnist/better", {"test_accuracy": 0.9912, "cell": "depth-gated"})
    sample = {"data": "sample", "preset": "classic"}
    add(tmp_path, "imdb/only", {"test_accuracy": 0.9, **sample})
    add(tmp_path, "imdb/torn", '{"test_acc')
    add(tmp_path, "imdb/odd", "[]")
    config = mnist.PRESETS["classic"]
    for name in ("half", "broken"):
        config = dataclasses.replace(config, runs=str(tmp_path), name=name)
        run = Run("mnist", config)
        run.make_folder("sample")
        run.lock.close()
    run.folder.manifest.write_text("{")
    (tmp_path / "mnist" / "empty").mkdir()
    assert runs.main(["--runs", str(tmp_path)]) == 0
    assert capsys.readouterr().out.replace(str(tmp_path), "runs") == TABLE
