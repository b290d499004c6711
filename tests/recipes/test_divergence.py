"""Training that diverges ends at once, and leaves the last good model."""

import csv
import dataclasses
import json

import keras
import numpy as np
import pytest

from recipes import imdb, mnist, predict, resume, runs
from recipes.run import program
from recipes.run.command_line import UserError
from recipes.run.files import write_json
from recipes.run.folder import Run, RunFolder
from recipes.training import checkpoint
from recipes.training.fit import predict as predict_finite

pytestmark = pytest.mark.usefixtures("quick")

PROGRAMS = {"mnist": mnist.PROGRAM, "imdb": imdb.PROGRAM}
SMALL = {"data": "sample", "cell": "simple-rnn", "units": 4, "name": "run", "steps": 6}
SMALL |= {"save_every": 2}
READING = {"words": 25, "vocabulary": 200, "embedding": 4, "batch": 30}


def execute(recipe, parent, preset="modern", **choices):
    """Train, whatever the flags allow; return the exit status and the folder."""
    choices = {**SMALL, "runs": str(parent), **choices}
    if recipe == "imdb":
        choices |= READING
    config = dataclasses.replace(PROGRAMS[recipe].presets[preset], **choices)
    status = PROGRAMS[recipe].execute(Run(recipe, config))
    return status, RunFolder(parent / recipe / "run")


@pytest.fixture
def poison(monkeypatch):
    """A function that makes a weight a value after a step, when it is called."""

    def set_poison(step, value):
        count = checkpoint.BestAndCheckpoint.on_train_batch_end

        def on_train_batch_end(self, batch, logs=None):
            count(self, batch, logs)
            if self.step == step:
                *_, weight = self.model.trainable_variables
                weight.assign(np.full(weight.shape, value, "float32"))

        name = "on_train_batch_end"
        monkeypatch.setattr(checkpoint.BestAndCheckpoint, name, on_train_batch_end)

    return set_poison


def strict(path):
    """Read JSON as its standard has it, without NaN."""

    def refuse(constant):
        raise AssertionError(constant)

    return json.loads(path.read_text(), parse_constant=refuse)


def assert_diverged(found, capsys, what):
    """Assert that a run ended with one line, and that its folder says so."""
    status, folder = found
    assert status == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"error: training diverged: {what}")
    assert f"error: {folder.diverged.read_text()}" == lines[0] + "\n"
    assert not folder.is_finished
    assert not folder.checkpoint.exists()
    strict(folder.manifest)
    return lines[0]


@pytest.mark.parametrize("recipe", PROGRAMS)
@pytest.mark.parametrize("preset", ["classic", "modern"])
def test_a_learning_rate_that_is_too_large(recipe, preset, tmp_path, capsys):
    """No step is made after the loss says so; no validation, so no model is kept."""
    found = execute(recipe, tmp_path, preset, learning_rate=1e30, save_every=6)
    line = assert_diverged(found, capsys, "loss is ")
    assert "no validation was finite, so that no model is kept" in line
    assert "1e+30" in line
    assert not found[1].model.exists()
    assert not found[1].history.exists()


@pytest.mark.parametrize(
    ("recipe", "step", "value"),
    [("mnist", 3, np.nan), ("mnist", 4, np.inf), ("mnist", 4, 1e25), ("imdb", 4, 1e25)],
)
def test_the_best_model_before_that_is_kept(
    recipe, step, value, poison, tmp_path, capsys
):
    """Also if the weights are lost by the last step before a validation."""
    poison(step, value)
    found = execute(recipe, tmp_path, target=0.0)
    line = assert_diverged(found, capsys, "")
    _, folder = found
    assert f"the best model before that is kept: {folder.model}" in line
    weights = keras.saving.load_model(folder.model).get_weights()
    assert all(
        np.abs(weight).max() < 100 for weight in weights if weight.dtype == "float32"
    )
    with open(folder.history) as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["2"]
    assert float(rows[0]["val_loss"]) < 100


def test_a_weight_that_no_figure_shows(poison, tmp_path, capsys):
    """The bias of the best class may be infinite, and every figure finite."""
    figures = {"loss": 1.0, "val_loss": 1.0, "val_accuracy": 0.5}
    checkpoint.check_bounded(figures, [np.ones(3), np.zeros((0, 2))], 1)
    for value in (np.nan, -np.inf, np.inf, 2e19):
        with pytest.raises(FloatingPointError, match="a weight is .* after step 1,000"):
            checkpoint.check_bounded(figures, [np.ones(3), np.array([1, value])], 1000)
        with pytest.raises(FloatingPointError, match="^val_loss is .* after step 7"):
            checkpoint.check_bounded({"loss": 1.0, "val_loss": value}, [], 7)


def test_a_first_network_that_diverges_ends_the_run(tmp_path, capsys, monkeypatch):
    """In the preset best, before it has labelled anything."""

    def make_loss(**options):
        return lambda labels, probabilities: np.nan * keras.ops.mean(probabilities)

    monkeypatch.setattr(keras.losses, "BinaryCrossentropy", make_loss)
    monkeypatch.setattr(imdb, "PASSES", 1)
    found = execute("imdb", tmp_path, "best")
    assert_diverged(found, capsys, "loss is nan after step 1;")
    assert not found[1].guesses.exists()


def test_what_is_said_of_a_diverged_run(poison, tmp_path, capsys):
    """It is no unfinished run, and `predict` takes it only if it is named."""
    poison(3, np.nan)
    _, folder = execute("mnist", tmp_path)
    capsys.readouterr()
    assert runs.main(["--runs", str(tmp_path)]) == 0
    _, row = capsys.readouterr().out.splitlines()
    assert row.split() == "mnist sample simple-rnn modern diverged".split() + [
        str(folder)
    ]
    with pytest.raises(UserError, match="no run in .* to resume"):
        resume.main(["--runs", str(tmp_path)])
    for _ in range(2):  # and the lock is free again
        with pytest.raises(UserError, match=f"^the training of {folder} diverged"):
            resume.main(["--run", str(folder)])
    with pytest.raises(UserError, match="no finished run"):
        predict.find_model("mnist", tmp_path, "")
    assert predict.find_model("mnist", tmp_path, "run") == folder.model


def test_resuming_repeats_the_end_of_a_run_killed_before_it_was_marked(
    poison, tmp_path, capsys, monkeypatch
):
    poison(5, np.nan)
    with monkeypatch.context() as patch:
        patch.setattr(program, "end_diverged", lambda run, error: None)
        _, folder = execute("mnist", tmp_path)
    assert folder.checkpoint.exists()
    capsys.readouterr()
    found = resume.main(["--run", str(folder)]), folder
    assert_diverged(found, capsys, "loss is nan after step 6")


def test_answers_that_are_nan_miss_every_target(monkeypatch, tmp_path, capsys):
    """Finite weights may overflow on test data alone."""
    monkeypatch.setattr(
        keras.Model, "predict", lambda *args, **options: np.full((4, 10), np.nan)
    )
    found = execute("mnist", tmp_path)
    assert_diverged(found, capsys, "the model gives NaN for some inputs")
    assert found[1].model.exists()


def test_finite_answers_are_those_of_the_model(rng):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    inputs = rng.normal(size=(7, 3))
    expected = model.predict(inputs, verbose=0)
    np.testing.assert_array_equal(predict_finite(model, inputs), expected)


def test_a_disk_that_is_full_then(poison, tmp_path, monkeypatch):
    def full(path, text):
        raise OSError(28, "No space left on device")

    poison(3, np.nan)
    monkeypatch.setattr(program, "write_text", full)
    with pytest.raises(UserError, match="No space left on device; when that is solved"):
        execute("mnist", tmp_path)


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_predict_with_a_model_that_answers_nan(as_json, tmp_path, finished_runs):
    """Such models may be left from before training was watched."""
    model = keras.saving.load_model(RunFolder(finished_runs / "imdb/run").model)
    for weight in model.weights:
        if weight.dtype == "float32":
            weight.assign(np.full(weight.shape, np.nan))
    model.save(tmp_path / "nan.keras")
    arguments = ["imdb", "--text", "good", "--run", str(tmp_path / "nan.keras")]
    with pytest.raises(UserError, match="nan|NaN"):
        predict.main([*arguments, *as_json])


def test_no_nan_is_written_as_json(tmp_path):
    for value in (np.nan, np.inf):
        with pytest.raises(ValueError):
            write_json(tmp_path / "x.json", {"accuracy": float(value)})
        with pytest.raises(ValueError):
            checkpoint.write_checkpoint(tmp_path / "x.npz", {"best": value}, [], [])
    assert not list(tmp_path.iterdir())
