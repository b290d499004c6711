"""The comparison on a real cluster of two nodes, of which one is killed midway."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from recipes import compare
from recipes.comparison.sweep import result_path
from recipes.comparison.trial import Trial, run
from recipes.run.command_line import UserError

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.xdist_group("comparison")

PORT = 6399
TINY = Trial("adding-50", "simple-rnn", 1, parameters=100, effort=0.05)
ROOT = pathlib.Path(__file__).parents[3]


def processes_of(node):
    """Return all processes in the session of a node: their titles by their numbers."""
    listed = subprocess.run(
        ["ps", "-e", "-o", "pid=,sid=,args="],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [line.split(maxsplit=2) for line in listed.stdout.splitlines()]
    return {int(pid): title for pid, session, title in rows if int(session) == node.pid}


def kill(node):
    """Kill a node and all that runs on it, as if its machine were switched off."""
    for pid in processes_of(node):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    node.wait()


@pytest.fixture
def nodes(tmp_path_factory, monkeypatch):
    """The head of a cluster and another node, of one core each."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # whatever token lies in ~/.ray
    folder = tmp_path_factory.mktemp("ray")
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": ""}
    environment["RAY_ENABLE_RECORD_ACTOR_TASK_LOGGING"] = "0"

    def start(*flags):
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block"]
        return subprocess.Popen(
            [*command, "--disable-usage-stats", *flags],
            env=environment,
            cwd=folder,  # a machine that does not have this project
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    started = [
        start("--head", f"--port={PORT}", "--num-cpus=1", "--include-dashboard=false")
    ]
    try:
        started.append(start(f"--address=127.0.0.1:{PORT}", "--num-cpus=1"))
        yield started
    finally:
        for node in started:
            kill(node)


def is_at_a_trial(node):
    """Return whether a process of a node computes a trial: Ray titles it so."""
    return "ray::attempt" in processes_of(node).values()


def test_a_lost_nodes_trials_are_tried_again(nodes, tmp_path):
    environment = os.environ | {
        "RAY_ADDRESS": f"127.0.0.1:{PORT}",
        "PYTHONPATH": str(ROOT),
    }
    wait_for_nodes(2)
    command = [sys.executable, "-m", "recipes", "compare", "--task", TINY.task]
    command += ["--cells", f"{TINY.cell},lstm", "--seeds", "2"]
    command += ["--parameters", "100", "--budget", "0.05", "--output", str(tmp_path)]
    sweep = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 240
    while not is_at_a_trial(nodes[1]):
        assert sweep.poll() is None and time.monotonic() < deadline, sweep.communicate()
        time.sleep(0.1)
    kill(nodes[1])
    _, error = sweep.communicate(timeout=300)
    assert sweep.returncode == 0, error
    results = json.loads((tmp_path / "results.json").read_text())
    assert len(results) == 4
    mine = run(TINY)
    theirs = json.loads(result_path(tmp_path, TINY).read_text())
    for result in (mine, theirs):
        result.pop("seconds")
    assert theirs == mine  # the same as on this machine


def wait_for_nodes(count):
    """Wait until a cluster has so many nodes."""
    code = (
        "import ray, time\n"
        "ray.init(logging_level='ERROR')\n"
        f"while sum(node['Alive'] for node in ray.nodes()) < {count}: time.sleep(0.2)"
    )
    environment = os.environ | {"RAY_ADDRESS": f"127.0.0.1:{PORT}"}
    for _ in range(60):
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode == 0:
            return
        time.sleep(1)
    pytest.fail(done.stderr)


def test_an_address_without_a_cluster_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    arguments = f"--task {TINY.task} --cells lstm --seeds 1 --output {tmp_path}".split()
    with pytest.raises(UserError, match="RAY_ADDRESS must be .* got '127.0.0.1:1'"):
        compare.main(arguments)


def test_ray_is_asked_for_where_it_is_absent(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "ray", None)
    arguments = f"--task {TINY.task} --cells lstm --seeds 1 --output {tmp_path}".split()
    with pytest.raises(UserError, match="pip install -r requirements-cluster.txt"):
        compare.main(arguments)
