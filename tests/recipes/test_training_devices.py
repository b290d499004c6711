"""Training on several devices: as on one, and resumed with an unchanged result."""

import json
import signal

import numpy as np
import pytest
import tensorflow as tf
from digit_files import digits, draw
from killable import (
    SCENARIOS,
    assert_equal,
    folder_of,
    read,
    resume_again,
    start,
    stop_after_two_validations,
)

from recipes import export, mnist, predict
from recipes.run import devices, environment
from recipes.run.command_line import UserError
from recipes.training.batches import make_validation_batches

pytestmark = [
    pytest.mark.xdist_group("killable"),
    pytest.mark.usefixtures("fork_server"),
]


def figures(run):
    """Return the figures of each validation, without the seconds."""
    return np.array([list(map(float, row.values())) for row in run["history"]])


def test_two_devices_have_the_figures_of_one(never_stopped):
    """Without dropout, whose masks are others; also those of the validation, of 119
    images, and of the test, of 359."""
    names = ("mnist-one-device", "mnist-two-devices")
    one, two = (read(never_stopped[name]) for name in names)
    assert figures(one).shape == (16, 6)
    np.testing.assert_allclose(figures(two), figures(one), rtol=1e-6)
    assert two["metrics"]["test_accuracy"] == one["metrics"]["test_accuracy"]
    for a, b in zip(one["weights"], two["weights"], strict=True):
        assert np.max(np.abs(a - b)) < 1e-5
    assert one["metrics"]["config"]["devices"] == 1
    assert two["metrics"]["config"]["devices"] == 2
    assert two["metrics"]["device"].endswith(" cores as 2 virtual devices")


def test_a_killed_run_on_two_devices_is_resumed_with_the_same_result(
    never_stopped, tmp_path
):
    """With dropout."""
    scenario = "mnist-devices"
    trainer = start(scenario, tmp_path, ("kill", "checkpoint.npz", 7, "after"))
    assert trainer.wait() == -signal.SIGKILL, trainer.errors()
    assert resume_again(scenario, tmp_path).wait() == 0
    assert_equal(read(folder_of(scenario, tmp_path)), read(never_stopped[scenario]))


def test_other_programs_read_a_run_on_two_devices(never_stopped, tmp_path):
    """They compute on one device."""
    run = never_stopped["mnist-devices"]
    image = tmp_path / "digit.png"
    grey, _ = next(digits())
    draw(image, grey, (40, 40), "dark")
    assert predict.main(["mnist", "--image", str(image), "--run", str(run)]) == 0
    output = tmp_path / "model.onnx"
    assert export.main(["--run", str(run), "--output", str(output)]) == 0
    assert output.stat().st_size > 1000


def test_a_run_from_before_this_choice_is_resumed_on_one_device(
    never_stopped, tmp_path
):
    """Neither its manifest nor its checkpoint names the devices."""
    run = stop_after_two_validations(tmp_path)
    manifest = json.loads(run.manifest.read_text())
    assert manifest["config"].pop("devices") == 1
    run.manifest.write_text(json.dumps(manifest))
    with np.load(run.checkpoint) as arrays:
        arrays = dict(arrays)
    progress = json.loads(str(arrays["progress"]))
    assert progress["begun"].pop("devices") == 1
    arrays["progress"] = np.array(json.dumps(progress))
    with open(run.checkpoint, "wb") as file:
        np.savez(file, **arrays)
    scenario = "mnist-weight-drop"
    trainer = resume_again(scenario, tmp_path)
    assert trainer.wait() == 0, trainer.errors()
    assert_equal(read(run), read(never_stopped[scenario]))


def test_other_choices_must_be_in_a_manifest():
    config = dict(vars(mnist.PRESETS["modern"]))
    del config["devices"]
    assert mnist.MnistConfig.restore(config) == mnist.PRESETS["modern"]
    del config["units"]
    with pytest.raises(ValueError, match="config lacks or must not have units"):
        mnist.MnistConfig.restore(config)


def test_more_devices_than_there_are(monkeypatch):
    """TensorFlow has started here, and this machine may have no GPU."""
    tf.constant(0)
    gpus = [tf.config.PhysicalDevice("GPU:0", "GPU")]
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: gpus)
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: gpus * 2)
    devices.prepare(2)
    devices.prepare(1)
    message = "--devices must be at most 2, the number of GPUs that TensorFlow has here"
    with pytest.raises(UserError, match=f"{message}, got 4"):
        devices.prepare(4)


def test_as_many_devices_are_mirrored_as_asked_for(monkeypatch):
    existing = [tf.config.LogicalDevice(f"CPU:{n}", "CPU") for n in range(4)]
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: existing)
    asked = []

    class Strategy:
        def __init__(self, names):
            asked.append(names)

        def scope(self):
            return "scope"

    monkeypatch.setattr(tf.distribute, "MirroredStrategy", Strategy)
    monkeypatch.setattr(devices, "_mirrored", devices._mirrored.__wrapped__)
    monkeypatch.setattr(devices, "_kind", lambda: "CPU")
    assert devices.shared_by(3) == "scope"
    assert asked == [["CPU:0", "CPU:1", "CPU:2"]]


def test_the_name_of_the_device(monkeypatch):
    assert environment.device_name(1) == environment.device_name()
    gpus = [tf.config.PhysicalDevice("GPU:0", "GPU")] * 4
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: gpus)
    monkeypatch.setattr(
        tf.config.experimental, "get_device_details", lambda _: {"device_name": "X"}
    )
    assert environment.device_name() == "GPU: X"
    assert environment.device_name(2) == "GPU: 2 of X"


@pytest.mark.parametrize(("count", "first"), [(1, 500), (2, 500), (3, 498), (64, 448)])
def test_the_first_validation_batch_can_be_shared_evenly(count, first):
    data = {"x": np.arange(1001)}, np.arange(1001)
    labels = [labels for _, labels in make_validation_batches(data, count)]
    assert len(labels[0]) == first
    np.testing.assert_array_equal(np.concatenate(labels), np.arange(1001))


def test_there_are_scenarios_with_devices():
    assert sum("--devices 2" in command for command in SCENARIOS.values()) == 2
