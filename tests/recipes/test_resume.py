"""Which runs can be resumed, and what is said of the others."""

import dataclasses
import errno
import json
import os
import pathlib
import signal

import keras
import numpy as np
import pytest
from killable import modified, resume_again, stop_after_two_validations

from custom_layers import LAYERS
from recipes import mnist, resume
from recipes.run import environment, program
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
        run.make_folder("sample", "a kernel")
        os.utime(run.folder.manifest, (number, number))
        if number < 3:
            run.lock.close()
    begun[2].folder.metrics.write_text("{}")
    assert resume.main(["--runs", str(tmp_path)]) == 0
    assert f"Resuming {begun[1].folder}.\n" in capsys.readouterr().out
    assert json.loads(begun[1].folder.metrics.read_text())["steps"] == 1
    begun[3].lock.close()


def test_a_run_named_by_its_path_needs_no_folder_of_runs(run, monkeypatch):
    """That one may be out of reach."""
    monkeypatch.setattr(resume, "find_runs", None)
    assert resume.find(str(run), "runs").path == run.path


def test_what_is_no_run(tmp_path):
    assert_refused(tmp_path / "no", f"there is no run {tmp_path / 'no'}")
    assert_refused("nothing", "there is no run nothing")
    assert_refused(tmp_path, "is not a run that can be resumed: it has no config.json")


def assert_damaged(run, path):
    """Assert that resuming names the damaged file, and the model that is left."""
    assert_refused(run, f"{path} is damaged (")
    left = "): this run cannot be resumed; its best model so far is still there"
    assert_refused(run, f"{left}: {run.model}")
    keras.saving.load_model(run.model)


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
    assert_damaged(run, run.checkpoint)


def change_manifest(run, change):
    """Write what ``change`` makes of the manifest, a dict that it may change."""
    manifest = json.loads(run.manifest.read_text())
    run.manifest.write_text(json.dumps(change(manifest) or manifest))


@pytest.mark.parametrize(
    "text",
    {
        "cut": '{"recipe": "mnist", "da',
        "a list": "[]",
        "nothing": "null",
        "without its keys": "{}",
        "deep": '{"config":' * 100_000,
        "a deep list": "[" * 100_000,
        "not UTF-8": "\udcff",
    }.items(),
    ids=lambda damage: damage[0],
)
def test_a_damaged_manifest(text, run):
    run.manifest.write_bytes(text[1].encode("utf-8", "surrogateescape"))
    assert_damaged(run, run.manifest)


@pytest.mark.parametrize(
    ("key", "values"),
    {
        "recipe": ("mnits", 5, None, []),
        "data": ("nonsense", "auto", None, 1),
        "versions": ([], {"keras": 3}, None),
        "kernel": (5, []),
        "config": (None, [], {}, {"cell": "lstm"}, 5),
    }.items(),
)
def test_a_manifest_of_no_run(key, values, run):
    for value in values:
        change_manifest(
            run, lambda manifest, value=value: manifest.update({key: value})
        )
        assert_damaged(run, run.manifest)


@pytest.mark.parametrize(
    ("name", "values"),
    {
        "preset": ("nonsense", None, 5),
        "cell": ("nonsense", None, ["lstm"], 5),
        "units": (2.5, 0, -1, "4", None, True, [4], 10**30, float("nan")),
        "epochs": (20.5, -1, None, 10**30),
        "steps": (48.0, -1, "48", 10**30),
        "save_every": (None, -3, 3.0, 10**30),
        "batch": (2.5, 0, "128", 10**30),
        "seed": (1.5, -1, None, 2**32),
        "data": ("nonsense", None),
        "name": (5, "a/b", "..", "a\nb", "\x1b[2J", "x" * 101, "\udcff"),
        "runs": (5, "", None, "s3://bucket"),
        "logdir": (5, None, "gs://bucket/x", ["logs"]),
        "target": (None, "0", 2.0, float("nan")),
        "learning_rate": (0.0, float("nan"), float("inf"), 1e30, None),
        "distortion": (-1.0, 1e300, "1", None),
        "unknown": (1,),
    }.items(),
)
def test_a_choice_that_no_run_can_have(name, values, run):
    for value in values:
        change_manifest(
            run, lambda manifest, value=value: manifest["config"].update({name: value})
        )
        assert_damaged(run, run.manifest)


def test_a_choice_that_is_missing(run):
    change_manifest(run, lambda manifest: manifest["config"].pop("seed") and None)
    assert_damaged(run, run.manifest)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("units", 4, 5),
        ("seed", 1, 2),
        ("batch", 128, 100),
        ("learning_rate", 0.006, 0.1),
    ],
)
def test_a_choice_that_was_changed(name, old, new, run):
    change_manifest(run, lambda manifest: manifest["config"].update({name: new}))
    message = f"{run.manifest} was changed after the run began: {name} is {new} and was"
    assert_refused(run, f"{message} {old}; change it back, then make resume RUN={run}")
    change_manifest(run, lambda manifest: manifest["config"].update({name: old}))


def test_choices_without_effect_can_be_changed(run, tmp_path, monkeypatch):
    logdir = str(tmp_path / "logs")
    changes = {"name": "other", "runs": "elsewhere", "logdir": logdir, "target": 0.01}
    change_manifest(run, lambda manifest: manifest["config"].update(changes))
    stopped = reopen(run, resume.CONFIGS)
    stopped.lock.close()
    callback = checkpoint.BestAndCheckpoint(run, 48, None)
    callback.begun = checkpoint.decisive(run.read_manifest())
    with np.load(run.checkpoint) as arrays:
        begun = json.loads(str(arrays["progress"]))["begun"]
    callback.check_begun(begun)
    with pytest.raises(UserError, match="units is 4 and was 5"):
        callback.check_begun({**begun, "units": 5})
    with pytest.raises(ValueError, match="begun must be an object"):
        callback.check_begun([])


FAILURES = {
    "Permission denied": PermissionError(errno.EACCES, "Permission denied"),
    "Input/output error": OSError(errno.EIO, "Input/output error"),
    "too little memory": MemoryError(),
}


@pytest.mark.parametrize("name", ["config.json", "checkpoint.npz"])
@pytest.mark.parametrize("reason", FAILURES)
def test_what_cannot_be_read_is_not_called_damaged(name, reason, run, monkeypatch):
    """And the run goes on as soon as it can."""
    path, read_bytes = run.path / name, pathlib.Path.read_bytes

    def fail(file):
        if file == path:
            raise FAILURES[reason]
        return read_bytes(file)

    with monkeypatch.context() as patched:
        patched.setattr(pathlib.Path, "read_bytes", fail)
        how = f"nothing is lost: when that is solved, make resume RUN={run}"
        assert_refused(run, f"cannot read {path}: {reason}; {how}")


def test_a_folder_in_place_of_a_checkpoint(run):
    kept = run.checkpoint.read_bytes()
    run.checkpoint.unlink()
    run.checkpoint.mkdir()
    assert_refused(
        run, f"cannot read {run.checkpoint}: Is a directory; nothing is lost"
    )
    run.checkpoint.rmdir()
    run.checkpoint.write_bytes(kept)


def test_metrics_that_are_a_folder_do_not_cost_the_checkpoint(run):
    run.metrics.mkdir()
    stopped = reopen(run, resume.CONFIGS)
    stopped.lock.close()
    assert run.checkpoint.exists()
    run.metrics.rmdir()


def test_a_checkpoint_of_another_model(run):
    with np.load(run.checkpoint) as arrays:
        arrays = {**arrays, "state_0": np.zeros(3, "float32")}
    with open(run.checkpoint, "wb") as file:
        np.savez(file, **arrays)
    assert_damaged(run, run.checkpoint)


def test_a_checkpoint_of_an_earlier_release(run):
    """It called the intervals between validations epochs, and kept no choices."""
    with np.load(run.checkpoint) as arrays:
        arrays = dict(arrays)
    progress = json.loads(str(arrays["progress"]).replace('"validation":', '"epoch":'))
    progress.pop("begun")
    with open(run.checkpoint, "wb") as file:
        np.savez(file, **(arrays | {"progress": np.array(json.dumps(progress))}))
    assert_refused(run, "was written by an earlier release: this run cannot be resumed")
    assert_refused(run, f"its best model so far is still there: {run.model}")
    keras.saving.load_model(run.model)


def test_the_versions_that_a_run_began_with(run, monkeypatch, capsys):
    """Others are worth a line, and the run goes on."""
    began = json.loads(run.manifest.read_text())["versions"]
    assert began == environment.versions()
    assert {"python", "keras", "tensorflow", "numpy", "custom_layers"} <= began.keys()

    def interrupt(seed):
        raise KeyboardInterrupt

    monkeypatch.setattr(program, "set_up", interrupt)
    for changes, warning in (
        ({}, "\n"),
        (
            {"keras": "3.0.0", "custom_layers": "0.0.1"},
            f"WARNING: the run began with keras 3.0.0, now {began['keras']}; "
            f"custom_layers 0.0.1, now {began['custom_layers']}: "
            "its result may differ.\n\n",
        ),
    ):
        change_manifest(
            run, lambda manifest, new=changes: manifest["versions"].update(new)
        )
        assert resume.main(["--run", str(run)]) == 130
        printed = capsys.readouterr().out.partition("Interrupted")[0]
        assert printed == f"Resuming {run}.\n{warning}"


@pytest.mark.usefixtures("quick")
def test_the_kernel_that_a_run_began_with(run, monkeypatch, capsys):
    """Another one is worth a line, and the run goes on; 0.1.0 did not note it."""
    began = json.loads(run.manifest.read_text())["kernel"]

    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(mnist, "fit", interrupt)
    for changes, warning in (
        ({}, ""),
        ({"kernel": None}, ""),
        ({"kernel": "a GPU"}, "WARNING: the run began with a GPU: its result may "),
    ):
        change_manifest(run, lambda manifest, new=changes: manifest | new)
        assert resume.main(["--run", str(run)]) == 130
        printed = capsys.readouterr().out.split(f"\nKernel:  {began}\n")[1]
        assert printed.startswith(f"{warning}differ.\n" if warning else "\n")


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
