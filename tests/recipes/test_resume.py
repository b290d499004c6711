"""Which runs can be resumed, and what is said of the others."""

import dataclasses
import json
import os
import signal

import keras
import numpy as np
import pytest
from killable import modified, resume_again, stop_after_two_validations

from custom_layers import LAYERS
from recipes import mnist, resume
from recipes.run.command_line import UserError
from recipes.run.folder import Run, reopen
from recipes.training import checkpoint

pytestmark = [
    pytest.mark.xdist_group("killable"),
    pytest.mark.usefixtures("fork_server"),
]


def assert_refused(run, message):
    """Assert that resuming a run ends with one line that holds ``message``."""
    with pytest.raises(UserError) as raised:
        resume.main(["--run", str(run)])
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.fixture(scope="module")
def stopped(fork_server, tmp_path_factory):
    """A run killed after two validations, with its manifest and checkpoint."""
    run = stop_after_two_validations(tmp_path_factory.mktemp("stopped"))
    return run, run.manifest.read_bytes(), run.checkpoint.read_bytes()


@pytest.fixture
def run(stopped):
    """The same, and as it was when the test began."""
    run, manifest, progress = stopped
    yield run
    run.manifest.write_bytes(manifest)
    run.checkpoint.write_bytes(progress)


def test_a_finished_run_stays_as_it_is(never_stopped, capsys):
    run = never_stopped["mnist-weight-drop"]

    def files():
        return {
            path: (path.read_bytes(), modified(path)) for path in run.path.iterdir()
        }

    before = files()
    assert resume.main(["--run", str(run)]) == 0
    printed = capsys.readouterr().out
    assert printed == f"The run {run} is finished: there is nothing to do.\n"
    assert files() == before


def test_only_one_process_works_on_a_run(tmp_path):
    run = stop_after_two_validations(tmp_path)
    before = modified(run.checkpoint)
    trap = ("stop", "checkpoint.npz", 1, "after")
    trainer = resume_again("mnist-weight-drop", tmp_path, trap)
    trainer.wait_for(lambda: modified(run.checkpoint) != before)
    assert_refused(run, f"another process is working on {run}")
    with pytest.raises(UserError, match="there is no run in .* to resume"):
        resume.main(["--runs", str(tmp_path)])
    assert trainer.kill() == -signal.SIGKILL
    stopped = reopen(run, resume.CONFIGS)  # the lock died with the process
    assert (stopped.recipe, stopped.source, stopped.folder) == ("mnist", "sample", run)
    stopped.lock.close()


@pytest.mark.usefixtures("quick")
def test_the_last_unfinished_run_is_the_default(tmp_path, capsys):
    config = dataclasses.replace(
        mnist.PRESETS["modern"], data="sample", units=4, steps=1, runs=str(tmp_path)
    )
    begun = [Run("mnist", config) for _ in range(4)]
    for number, run in enumerate(begun):
        run.make_folder("sample")
        os.utime(run.folder.manifest, (number, number))
        if number < 3:
            run.lock.close()
    begun[2].folder.metrics.write_text("{}")
    assert resume.main(["--runs", str(tmp_path)]) == 0
    assert f"Resuming {begun[1].folder}.\n" in capsys.readouterr().out
    assert json.loads(begun[1].folder.metrics.read_text())["steps"] == 1
    begun[3].lock.close()


def test_what_is_no_run(tmp_path):
    assert_refused(tmp_path / "no", f"there is no run {tmp_path / 'no'}")
    assert_refused("nothing", "there is no run nothing")
    assert_refused(tmp_path, "is not a run that can be resumed: it has no config.json")


@pytest.mark.parametrize(
    "damage",
    {
        "zeros": lambda data: bytes(100),
        "empty": lambda data: b"",
        "cut at its end": lambda data: data[:-100],
        "cut in the middle": lambda data: data[: len(data) // 2],
        "a text": lambda data: b"no checkpoint",
        "zeros in the middle": lambda data: data[:2000] + bytes(64) + data[2064:],
    }.items(),
    ids=lambda damage: damage[0],
)
def test_a_damaged_checkpoint(damage, run):
    run.checkpoint.write_bytes(damage[1](run.checkpoint.read_bytes()))
    assert_refused(run, f"{run.checkpoint} is damaged: this run cannot be resumed")


@pytest.mark.parametrize(
    "damage",
    {
        "cut": lambda text: text[:50],
        "a list": lambda text: "[]",
        "without its keys": lambda text: "{}",
        "another recipe": lambda text: text.replace("mnist", "mnits"),
        "another flag": lambda text: text.replace("units", "unit"),
        "a wrong value": lambda text: text.replace('"units": 4', '"units": 0'),
    }.items(),
    ids=lambda damage: damage[0],
)
def test_a_damaged_manifest(damage, run):
    run.manifest.write_text(damage[1](run.manifest.read_text()))
    assert_refused(run, f"{run.manifest} is damaged: this run cannot be resumed")


def test_a_checkpoint_of_another_model(run):
    text = run.manifest.read_text()
    run.manifest.write_text(text.replace('"units": 4', '"units": 5'))
    assert_refused(run, "is of another model: this run cannot be resumed")


def test_a_checkpoint_of_an_earlier_release(run):
    """It called the intervals between validations epochs."""
    with np.load(run.checkpoint) as arrays:
        arrays = dict(arrays)
    progress = str(arrays["progress"]).replace('"validation":', '"epoch":')
    with open(run.checkpoint, "wb") as file:
        np.savez(file, **(arrays | {"progress": np.array(progress)}))
    assert_refused(run, "was written by an earlier release: this run cannot be resumed")
    assert_refused(run, f"its best model so far is {run.model}")
    keras.saving.load_model(run.model)


def test_real_data_that_are_gone(run, no_network):
    text = run.manifest.read_text()
    run.manifest.write_text(text.replace('"data": "sample"', '"data": "full"', 1))
    assert_refused(run, f"no prepared mnist in {no_network}")


@pytest.mark.parametrize("cell", ["depth-gated", "weight-drop", "lstm"])
def test_dropout_continues_with_the_same_seeds(cell):
    """Also those of levels and of dropped weights, which no saved model holds."""
    rates = {"dropout": 0.3}
    if cell != "weight-drop":
        rates["recurrent_dropout"] = 0.3

    def make():
        inputs = keras.Input((3, 2))
        outputs = LAYERS[cell](3, **rates)(inputs)
        model = keras.Model(inputs, keras.layers.Dense(1)(outputs))
        model.compile("adam", "mse", run_eagerly=True)
        return model

    def train(model):
        model.reset_metrics()
        batch = np.ones((4, 3, 2)), np.ones((4, 1))
        return [float(model.train_on_batch(*batch)) for _ in range(3)]

    first, second = make(), make()
    train(first)
    second.optimizer.build(second.trainable_variables)
    checkpoint.set_state(second, checkpoint.get_state(first))
    assert train(first) == train(second)
