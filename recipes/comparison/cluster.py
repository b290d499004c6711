"""Runs trials on a cluster of machines, with Ray."""

import os
import socket

import custom_layers
import recipes
from recipes.comparison.trial import attempt
from recipes.run.command_line import UserError

RETRIES = 3  # of a trial whose machine or process was lost


def run_on_ray(trials):
    """Yield each trial that has ended, its result or None, and its error or None.

    They run on the cluster to which the environment's ``RAY_ADDRESS`` points, each on
    one of its cores. Its machines need what requirements.txt names, and Ray; they get
    this project's own code from here.

    Args:
        trials: List of `Trial`.

    Raises:
        UserError: Ray is not installed, or there is no cluster at that address.
    """
    try:
        import ray
    except ImportError as error:
        raise UserError(
            "RAY_ADDRESS is set, but Ray is not installed: "
            "pip install -r requirements-cluster.txt"
        ) from error
    if not trials:
        return
    address = os.environ["RAY_ADDRESS"]
    try:
        _reach(address)
        ray.init(
            runtime_env={"py_modules": [custom_layers, recipes]},
            log_to_driver=False,
            logging_level="ERROR",
        )
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            "RAY_ADDRESS must be the address of a Ray cluster, got "
            f"{address!r}: {reason}"
        ) from error
    try:
        # max_calls: a process of its own for each trial.
        remote = ray.remote(num_cpus=1, max_retries=RETRIES, max_calls=1)(attempt)
        waiting = {remote.remote(trial): trial for trial in trials}
        while waiting:
            (done,), _ = ray.wait(list(waiting))
            trial = waiting.pop(done)
            try:
                yield trial, *ray.get(done)
            except ray.exceptions.RayError as error:
                yield trial, None, str(error).strip().splitlines()[0]
    finally:
        ray.shutdown()


def _reach(address):
    """Raise OSError if nobody listens at an address with a port.

    Ray itself would try for minutes.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
