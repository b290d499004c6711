"""Runs trials on this machine, each in a process of its own."""

import concurrent.futures
import multiprocessing
import multiprocessing.forkserver
import os
import signal
import threading

from recipes.comparison.trial import attempt

#: Starts processes that have imported TensorFlow already, and computed nothing.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["recipes.comparison.server"])


def run_here(trials, workers):
    """Yield each trial that has ended, its result or None, and its error or None.

    A pool of processes would break as a whole when one of them is killed. So a pool of
    threads starts them, one for each trial.

    Args:
        trials: List of `Trial`.
        workers: How many run side by side.
    """
    _start_server()
    running = _Running()
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        futures = {pool.submit(running.run, trial): trial for trial in trials}
        try:
            for future in concurrent.futures.as_completed(futures):
                yield futures[future], *future.result()
        finally:  # after Ctrl-C, say; else there is nothing left
            pool.shutdown(wait=False, cancel_futures=True)
            running.stop()


def _start_server():
    """Start the server of `FORKS`, which Ctrl-C is to leave alone."""
    usual = signal.signal(signal.SIGINT, signal.SIG_IGN)  # it inherits that
    try:
        multiprocessing.forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, usual)


class _Running:
    """The processes that run now."""

    def __init__(self):
        self.processes, self.lock, self.stopped = set(), threading.Lock(), False

    def run(self, trial):
        """Run a trial in a new process; return its result and its error."""
        receive, send = FORKS.Pipe(duplex=False)
        process = FORKS.Process(target=_run, args=(trial, send), daemon=True)
        with self.lock:
            if self.stopped:
                return None, "it was stopped"
            try:
                process.start()
            except OSError as error:
                return None, f"no process could be started: {error.strerror or error}"
            self.processes.add(process)
        send.close()
        try:
            return receive.recv()
        except (EOFError, OSError):  # nothing came, or not all
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


def _run(trial, send):
    """Send what `attempt` returns."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the sweep ends this process
    threading.Thread(target=_end_with_parent, daemon=True).start()
    send.send(attempt(trial))


def _end_with_parent():
    """End this process when that of the sweep has ended, even if it was killed."""
    multiprocessing.parent_process().join()
    os._exit(1)
