"""A run on the native kernel: it says so, and is resumed bit by bit."""

import keras
import numpy as np
import pytest

from custom_layers.engine.native import library
from recipes import mnist, resume
from recipes.run.folder import RunFolder
from recipes.training.checkpoint import BestAndCheckpoint

try:
    library.compiler()
except library.BuildError as problem:
    pytestmark = [pytest.mark.skip(reason=str(problem))]
else:
    pytestmark = [pytest.mark.xdist_group("native"), pytest.mark.usefixtures("quick")]


def test_a_run_on_the_native_kernel_is_resumed(
    native_cache, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(native_cache))
    monkeypatch.setenv("CUSTOM_LAYERS_NATIVE", "1")
    flags = "--data sample --cell coupled --units 20 --steps 9 --save-every 3"

    def train(name):
        arguments = [*flags.split(), "--runs", str(tmp_path), "--name", name]
        return mnist.main(arguments), RunFolder(tmp_path / "mnist" / name)

    status, whole = train("whole")
    assert status == 0
    assert "\nKernel:  the native kernel in training" in capsys.readouterr().out
    usual = BestAndCheckpoint.on_epoch_end

    def interrupt(callback, epoch, logs=None):
        usual(callback, epoch, logs)
        if epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(BestAndCheckpoint, "on_epoch_end", interrupt)
        status, stopped = train("stopped")
    assert status == 130
    assert resume.main(["--run", str(stopped)]) == 0
    assert "WARNING: the run began" not in capsys.readouterr().out
    weights = [
        keras.models.load_model(run.model).get_weights() for run in (whole, stopped)
    ]
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)

    with monkeypatch.context() as patch:
        patch.setattr(BestAndCheckpoint, "on_epoch_end", interrupt)
        _, again = train("again")
    monkeypatch.setenv("CUSTOM_LAYERS_NATIVE", "0")
    assert resume.main(["--run", str(again)]) == 0
    printed = capsys.readouterr().out
    assert "WARNING: the run began with the native kernel in training" in printed
