"""Runs many trials, each in a process of its own; what is finished is not repeated."""

import concurrent.futures
import dataclasses
import json
import multiprocessing
import os
import signal
import threading
import traceback

from recipes.comparison.trial import Trial, run
from recipes.run.command_line import UserError
from recipes.run.files import read, write_json
from recipes.run.values import Allowed, check_entries

#: Starts processes that have imported TensorFlow already, and computed nothing.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["recipes.comparison.sweep"])

#: What the table needs of a result.
NEEDED = {
    "units": Allowed(int, least=1, most=10**9),
    "model_parameters": Allowed(int, least=1, most=10**12),
    "steps": Allowed(int, least=1, most=10**12),
    "figures": Allowed(dict),
    "solved": Allowed(bool, words="true or false"),
}


def result_path(folder, trial):
    """Return the file of a trial's result."""
    return folder / trial.task / f"{trial.cell}-{trial.seed}.json"


def parse_result(content):
    """Return the result that a file holds; raise ValueError if it is none."""
    result = json.loads(content)
    check_entries("it", result, NEEDED)
    return result


def read_result(folder, trial):
    """Return the result of a trial, None if it is not finished.

    Raises:
        UserError: The file holds the result of other choices, or is damaged.
    """
    path = result_path(folder, trial)
    try:
        result = read(path, parse_result)
    except FileNotFoundError:
        return None
    for name, value in dataclasses.asdict(trial).items():
        if result.get(name) != value:
            raise UserError(
                f"{path} has {name} {result.get(name)!r}, and not {value!r}: choose "
                "another folder with --output"
            )
    return result


def sweep(trials, folder, workers, report):
    """Run trials that have no result yet, and write their results.

    Args:
        trials: List of `Trial`.
        folder: Where the results are, a `pathlib.Path`.
        workers: How many run side by side.
        report: Called with each trial that has ended, and what was wrong, or None.

    Returns:
        The results of all trials that have one, in their order.
    """
    left = [trial for trial in trials if read_result(folder, trial) is None]
    for trial in left:
        result_path(folder, trial).parent.mkdir(parents=True, exist_ok=True)
    running = _Running()

    def carry_out(trial):
        result, error = running.run(trial)
        if result is not None:
            write_json(result_path(folder, trial), result)
        return error

    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        futures = {pool.submit(carry_out, trial): trial for trial in left}
        try:
            for future in concurrent.futures.as_completed(futures):
                report(futures[future], future.result())
        except BaseException:  # Ctrl-C, or a full disk
            pool.shutdown(wait=False, cancel_futures=True)
            running.stop()
            raise
    results = (read_result(folder, trial) for trial in trials)
    return [result for result in results if result is not None]


class _Running:
    """The processes that run now."""

    def __init__(self):
        self.processes, self.lock, self.stopped = set(), threading.Lock(), False

    def run(self, trial):
        """Run a trial in a new process; return its result, or None, and its error."""
        receive, send = FORKS.Pipe(duplex=False)
        process = FORKS.Process(target=_run, args=(trial, send), daemon=True)
        with self.lock:
            if self.stopped:
                return None, "it was stopped"
            process.start()
            self.processes.add(process)
        send.close()
        try:
            return receive.recv()
        except EOFError:
            process.join()
            return None, f"its process ended with status {process.exitcode}"
        finally:
            process.join()
            with self.lock:
                self.processes.discard(process)

    def stop(self):
        """End all processes, and begin no other."""
        with self.lock:
            self.stopped = True
            for process in self.processes:
                process.kill()


def _run(trial: Trial, send):
    """Send a trial's result, or None, and what was wrong, or None."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the sweep ends this process
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.set_visible_devices([], "GPU")
    try:
        outcome = run(trial), None
    except Exception as error:  # whatever it is, it costs this trial alone
        outcome = None, traceback.format_exception_only(error)[-1].strip()
    send.send(outcome)


def _end_with_parent():
    """End this process when that of the sweep has ended, even if it was killed."""
    multiprocessing.parent_process().join()
    os._exit(1)
