"""Both programs, on their samples: what they print, leave behind, and reach."""

import csv
import dataclasses
import json
import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
import pytest

from recipes import imdb, mnist, resume
from recipes.data.datasets import Dataset
from recipes.run.command_line import UserError
from recipes.run.config import PRESETS
from recipes.run.folder import RunFolder
from recipes.training import regions

pytestmark = pytest.mark.usefixtures("quick")

ROOT = pathlib.Path(__file__).parents[2]
PROGRAMS = {"mnist": mnist, "imdb": imdb}
# The cell that is traced fastest, where a test does not name another.
SMALL = {
    "mnist": "--data sample --cell simple-rnn --epochs 1 --units 16",
    "imdb": "--data sample --cell simple-rnn --steps 3 --epochs 1 --units 8 --words 50",
}
KEPT_BY_BEST = ("guesses.npz", "regions.npz")
KEYS = {
    "test_accuracy", "validation_accuracy", "fit_seconds", "steps", "data", "cell",
    "preset", "parameters", "recurrent_kernel", "config", "versions", "device",
}  # fmt: skip


def test_the_presets():
    assert all(tuple(program.PRESETS) == PRESETS for program in PROGRAMS.values())


def train(recipe, parent, flags=""):
    """Run a program in this process; return its status, metrics, and folder."""
    arguments = f"{SMALL[recipe]} {flags}".split()
    arguments += ["--runs", str(parent), "--name", "run"]
    status = PROGRAMS[recipe].main(arguments)
    folder = RunFolder(parent / recipe / "run")
    return status, json.loads(folder.metrics.read_text()), folder


def history(folder):
    """Return the rows of a run's history."""
    with open(folder.history) as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("recipe", PROGRAMS)
@pytest.mark.parametrize("preset", PRESETS)
def test_a_run_leaves_what_it_should(recipe, preset, tmp_path, capsys):
    status, metrics, folder = train(recipe, tmp_path, f"--preset {preset}")
    assert status == 0
    assert metrics.keys() >= KEYS
    is_the_article_s = recipe == "mnist" and preset == "classic"
    assert ("test_accuracy_first_128" in metrics) == is_the_article_s
    assert (metrics["data"], metrics["preset"]) == ("sample", preset)
    assert {path.name for path in folder.path.iterdir()} == {
        *("config.json", "history.csv", "metrics.json", "model.keras"),
        *(KEPT_BY_BEST if (recipe, preset) == ("imdb", "best") else []),
    }
    rows = history(folder)
    assert list(rows[0])[:2] == ["validation", "step"]
    numbers = [int(row["validation"]) for row in rows]
    assert numbers == list(range(1, len(rows) + 1))
    assert int(rows[-1]["step"]) == metrics["steps"]
    best = max(float(row["val_accuracy"]) for row in rows)
    assert best == metrics["validation_accuracy"]

    printed = capsys.readouterr().out
    first = printed[: printed.index("Kernel:")]
    assert "WARNING: this is" in first
    for words in ("backend tensorflow", "train", "validate", "test", "parameters"):
        assert words in first
    assert printed.rstrip().endswith("do not compare with the real data's.")


@pytest.mark.parametrize("stop", ["before", "after"])
def test_best_is_resumed_with_the_same_result(stop, tmp_path, monkeypatch, capsys):
    """Stopped before or after the guesses of the unlabelled reviews were written."""
    _, expected, _ = train("imdb", tmp_path, "--preset best")
    usual = imdb.fit if stop == "after" else imdb.predict

    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    name = usual.__name__
    monkeypatch.setattr(imdb, name, interrupt)
    flags = f"{SMALL['imdb']} --preset best --runs {tmp_path} --name stopped".split()
    assert imdb.main(flags) == 130
    folder = RunFolder(tmp_path / "imdb" / "stopped")
    assert folder.guesses.exists() == (stop == "after")
    monkeypatch.setattr(imdb, name, usual)
    capsys.readouterr()
    assert resume.main(["--run", str(folder)]) == 0
    trained_again = "labels the unlabelled" in capsys.readouterr().out
    assert trained_again == (stop == "before")
    metrics = json.loads(folder.metrics.read_text())
    for key in ("test_accuracy", "validation_accuracy", "steps"):
        assert metrics[key] == expected[key]
    losses = [history(RunFolder(tmp_path / "imdb" / run)) for run in ("run", "stopped")]
    assert losses[0][-1]["val_loss"] == losses[1][-1]["val_loss"]


def test_regions_are_resumed_after_the_last_whole_pass(tmp_path, monkeypatch, capsys):
    train("imdb", tmp_path, "--preset best")
    usual, passes = regions.RegionLearner.learn_pass, []

    def learn_pass(learner):
        passes.append(learner.done)
        if len(passes) == 3:
            raise KeyboardInterrupt
        return usual(learner)

    monkeypatch.setattr(regions.RegionLearner, "learn_pass", learn_pass)
    flags = f"{SMALL['imdb']} --preset best --runs {tmp_path} --name stopped".split()
    assert imdb.main(flags) == 130
    folder = RunFolder(tmp_path / "imdb" / "stopped")
    assert resume.main(["--run", str(folder)]) == 0
    assert passes == [0, 1, 2, *range(2, regions.PASSES)]
    one, other = (
        np.load(RunFolder(tmp_path / "imdb" / name).regions)
        for name in ("run", "stopped")
    )
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


@pytest.fixture
def before_training(tmp_path, monkeypatch):
    """The folder of a run of `best`, stopped when all before its training is done."""

    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(imdb, "fit", interrupt)
        flags = f"{SMALL['imdb']} --preset best --runs {tmp_path} --name stopped"
        assert imdb.main(flags.split()) == 130
    return RunFolder(tmp_path / "imdb" / "stopped")


def write(path, arrays):
    with open(path, "wb") as file:
        np.savez(file, **arrays)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("guesses", None),
        ("guesses", lambda it: {"guesses": np.full_like(it["guesses"], np.nan)}),
        ("guesses", lambda it: {"guesses": it["guesses"][1:]}),
        ("regions", None),
        ("regions", lambda it: {"done": np.array(99)}),
        ("regions", lambda it: {"inside": it["inside"][1:]}),
        ("regions", lambda it: {"around": np.full_like(it["around"], np.nan)}),
    ],
)
def test_a_damaged_phase_is_repeated(name, change, before_training, capsys):
    """With the same result, and a line."""
    path = getattr(before_training, name)
    whole = dict(np.load(path))
    if change is None:
        path.write_bytes(b"no arrays")
    else:
        write(path, whole | change(whole))
    capsys.readouterr()
    assert resume.main(["--run", str(before_training)]) == 0
    printed = capsys.readouterr().out
    assert re.search(
        rf"^WARNING: {path} is damaged \(.*\): computing it again\.$", printed, re.M
    )
    again = np.load(path)
    for array in whole:
        np.testing.assert_array_equal(again[array], whole[array])


@pytest.mark.parametrize("name", ["guesses", "regions"])
def test_a_phase_of_other_choices_is_refused(name, before_training):
    if name == "guesses":
        before_training.regions.unlink()
    text = before_training.manifest.read_text()
    before_training.manifest.write_text(text.replace('"seed": 1', '"seed": 2'))
    message = "was changed after the run began: seed is 2 and was 1; change it back"
    with pytest.raises(UserError, match=message):
        resume.main(["--run", str(before_training)])


def test_the_first_network_of_best_obeys_steps(tmp_path, monkeypatch):
    """It ends within a pass, when its learning rate has come to its end."""
    trained, usual = [], imdb.predict

    def predict(model, *arguments):
        trained.append(int(model.optimizer.iterations.numpy()))
        return usual(model, *arguments)

    monkeypatch.setattr(imdb, "predict", predict)
    train("imdb", tmp_path, "--preset best --batch 180 --epochs 2")  # of two
    assert trained[0] == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [("CUSTOM_LAYERS_NATIVE", "x"), ("CUSTOM_LAYERS_NATIVE_THREADS", "0")],
)
def test_a_bad_variable_of_the_kernel_is_named(name, value, tmp_path, monkeypatch):
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=f"^{name} must be .*, got '{value}'$"):
        train("mnist", tmp_path, "--cell peephole")
    assert not list(tmp_path.iterdir())


def choose(recipe, source, flags):
    """Return the configuration that a program trains with, on data from a source."""
    chosen = []

    def train(run, dataset):
        chosen.append(run.config)
        raise KeyboardInterrupt

    program = dataclasses.replace(
        PROGRAMS[recipe].PROGRAM,
        load=lambda _: Dataset(source, "data", (), ()),
        train=train,
    )
    program.main(flags)
    return vars(chosen.pop())


@pytest.mark.parametrize("recipe", PROGRAMS)
@pytest.mark.parametrize("preset", PRESETS)
def test_the_sample_has_settings_of_its_own(recipe, preset, capsys):
    program, flags = PROGRAMS[recipe].PROGRAM, ["--preset", preset]
    usual = vars(program.presets[preset])
    assert choose(recipe, "full", flags) == usual
    assert "Settings" not in capsys.readouterr().out
    assert choose(recipe, "sample", flags) == usual | program.sample[preset] != usual
    printed = capsys.readouterr().out
    for name, value in program.sample[preset].items():
        flag = "--" + name.replace("_", "-")
        assert f"{flag} {value}" in printed
        # A flag counts, even one that says what the preset says.
        given = choose(recipe, "sample", [*flags, flag, str(usual[name])])
        assert given[name] == usual[name]


def test_reviews_of_a_film_stay_together(tmp_path, monkeypatch):
    """The last groups validate; the others are weighed, each with its own group."""
    seen = {}

    def group(texts):
        seen["texts"] = list(texts)
        return np.arange(len(texts))[::-1] // 4  # the first texts are the last groups

    def weigh(layer, words, labels, groups):
        seen.update(words=words, labels=labels, groups=groups)
        raise KeyboardInterrupt

    monkeypatch.setattr(imdb, "group_by_film", group)
    monkeypatch.setattr(imdb, "fit_evidence", weigh)
    data = imdb.load_imdb("sample").train
    flags = f"{SMALL['imdb']} --runs {tmp_path}".split()
    assert imdb.main(flags) == 130
    count, held_out = len(seen["texts"]), len(seen["texts"]) // 10
    assert len(seen["words"]) == count - held_out
    np.testing.assert_array_equal(seen["labels"], data[1][held_out:])
    expected = np.arange(count)[::-1] // 4
    np.testing.assert_array_equal(seen["groups"], expected[held_out:])


def test_a_validation_is_no_epoch(tmp_path):
    """Five of the 11 steps of an epoch lie between two validations."""
    flags = "--batch 128 --save-every 5 --epochs 1"
    _, metrics, folder = train("mnist", tmp_path, flags)
    assert metrics["steps"] == 11
    numbers = [(row["validation"], row["step"]) for row in history(folder)]
    assert numbers == [("1", "5"), ("2", "10"), ("3", "11")]


LOAD = """
import sys, json, keras, numpy as np, tensorflow as tf, custom_layers
for path, x in json.load(sys.stdin):
    model = keras.saving.load_model(path)
    print(json.dumps(np.asarray(model.predict(tf.constant(x), verbose=0)).tolist()))
"""


def test_saved_models_predict_in_another_process(tmp_path, rng):
    """IMDB's take any text: empty, without a known word, of very many words."""
    _, metrics, digits = train("mnist", tmp_path, "--cell peephole")
    assert metrics["cell"] == "peephole"
    images = rng.uniform(size=(3, 28, 28)).astype("float32")
    asked = [(str(digits.model), images.tolist())]
    texts = ["", "zzz qqq", "the plot was superb .", "what a film " * 1000, "\n"]
    for preset in PRESETS:
        _, _, reviews = train("imdb", tmp_path / preset, f"--preset {preset}")
        asked.append((str(reviews.model), texts))
    result = subprocess.run(
        [sys.executable, "-c", LOAD],
        cwd=ROOT,
        input=json.dumps(asked),
        text=True,
        capture_output=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    of_images, *of_texts = map(json.loads, result.stdout.splitlines())
    here = keras.saving.load_model(digits.model).predict(images, verbose=0)
    np.testing.assert_allclose(of_images, here, atol=1e-6)
    for probabilities in map(np.array, of_texts):
        assert probabilities.shape == (5, 1)
        assert np.all((probabilities > 0) & (probabilities < 1))


@pytest.mark.parametrize("recipe", PROGRAMS)
def test_same_seed_same_figures(recipe, tmp_path):
    figures = []
    for number, seed in enumerate((5, 5, 6)):
        parent = tmp_path / str(number)
        _, metrics, folder = train(recipe, parent, f"--seed {seed}")
        losses = [row["loss"] for row in history(folder)]
        figures.append(
            (losses, metrics["test_accuracy"], metrics["validation_accuracy"])
        )
    assert figures[0] == figures[1] != figures[2]


@pytest.mark.parametrize("limit", ["--steps 5", "--epochs 1 --batch 264"])
def test_minibatch_report_names_the_step(limit, tmp_path, capsys):
    """Every ``save_every`` steps, and not after the shorter last interval."""
    flags = f"--preset classic --save-every 2 {limit}"
    _, metrics, _ = train("mnist", tmp_path, flags)
    assert metrics["steps"] == 5
    assert re.findall(r"Iter (\d+):", capsys.readouterr().out) == ["2", "4"]


def test_below_the_target_the_status_is_1(tmp_path, capsys):
    status, metrics, _ = train("mnist", tmp_path, "--target 0.999 --steps 2")
    assert status == 1
    assert metrics["test_accuracy"] < 0.999
    assert "below the target 0.999" in capsys.readouterr().out


def test_the_default_program_learns_the_sample_of_digits(tmp_path):
    usual = mnist.PRESETS["modern"]
    epochs = mnist.SAMPLE["modern"]["epochs"]
    flags = f"--cell {usual.cell} --epochs {epochs} --units {usual.units}"
    _, metrics, _ = train("mnist", tmp_path, flags)
    assert metrics["test_accuracy"] > 0.95
