"""Several devices that train one model have the losses of one device.

The devices are virtual ones on a CPU. One process computes all layers: it starts and
compiles for longer than it trains.
"""

import json
import os
import pathlib
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest

from custom_layers import LAYERS

BACKEND = keras.backend.backend()
HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
TOLERANCE = 1e-6  # relative
WAYS = {"tensorflow": ["mirrored"], "jax": ["data-4", "model-2", "model-4"]}

pytestmark = [
    pytest.mark.skipif(BACKEND not in WAYS, reason="Keras distributes no torch model"),
    pytest.mark.xdist_group("devices"),  # in one process of pytest: computed once
]


def start(*arguments, devices=1):
    """Start the program `on_devices`, on JAX with that many devices."""
    # XLA optimises nothing, which halves the time of compiling.
    flags = (
        f"--xla_force_host_platform_device_count={devices}",
        "--xla_backend_optimization_level=0",
    )
    return subprocess.Popen(
        [sys.executable, HERE / "on_devices.py", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": " ".join(flags)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(program):
    """Return the losses in the last line of a program: way → layer → losses."""
    printed, errors = program.communicate(timeout=300)
    assert program.returncode == 0, errors
    return json.loads(printed.splitlines()[-1])  # its libraries print, too


@pytest.fixture(scope="module")
def in_one_process():
    return finish(start(BACKEND, devices=4))


@pytest.fixture(scope="module")
def in_two_processes():
    """The losses of each."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    programs = [start("processes", address, str(number)) for number in (0, 1)]
    try:
        return [finish(program) for program in programs]
    finally:
        for program in programs:
            program.kill()
            program.communicate()


def difference(losses, expected):
    """Return the largest relative difference of losses from those on one device."""
    losses, expected = np.array(losses), np.array(expected)
    assert losses.shape == expected.shape and len(expected) > 4
    assert np.ptp(expected) > 0.1 and np.all(expected > 0.01)  # it learns something
    return np.max(np.abs(losses / expected - 1))


@pytest.mark.parametrize("way", WAYS.get(BACKEND, []))
@pytest.mark.parametrize("name", LAYERS)
def test_devices_have_the_losses_of_one(name, way, in_one_process):
    expected = in_one_process["one"][name]
    assert difference(in_one_process[way][name], expected) < TOLERANCE


@pytest.mark.skipif(BACKEND != "jax", reason="only JAX trains over processes")
@pytest.mark.parametrize("name", LAYERS)
def test_two_processes_have_the_losses_of_one(name, in_one_process, in_two_processes):
    expected = in_one_process["one"][name]
    for losses in in_two_processes:
        assert difference(losses["processes"][name], expected) < TOLERANCE


def test_a_planted_mistake_is_found(in_one_process, request):
    """On TensorFlow the second device computes something else; on JAX both processes
    read the same half of each batch."""
    found = [in_one_process]
    if BACKEND == "jax":
        found = request.getfixturevalue("in_two_processes")
    for losses in found:
        ((name, planted),) = losses["planted"].items()
        expected = in_one_process["one"][name]
        assert difference(planted, expected) > 1000 * TOLERANCE
