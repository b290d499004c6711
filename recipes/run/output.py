"""Output that is closed, on a full disk, or read by nobody.

`runs`, `predict`, `resume` without a run to train, and ``--help`` exist to be read:
they end with one line on standard error and status 2, or, where a pipe's reader is
gone, silently with status 141, as if SIGPIPE had ended them. Training exists for what
it leaves in its folder: what it cannot print is dropped, it goes on to its end, and
its status is the one it would have had. So is what cannot be written to standard
error, by every program: there is no other place to say so.
"""

import contextlib
import errno
import io
import os
import sys


class OutputError(OSError):
    """Standard output cannot be written."""


class GuardedStream:
    """A text stream for which OSError is OutputError, or nothing.

    A letter that a terminal does not have becomes an escape.

    Args:
        stream: The stream.
        needed: Whether to raise OutputError; else what cannot be written is dropped.
    """

    def __init__(self, stream, needed):
        self.stream, self.needed, self.error = stream, needed, None
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

    def _attempt(self, method, *arguments):
        try:
            return method(*arguments)
        except OSError as error:
            if self.needed:
                self.error = OutputError(error.errno, error.strerror)
                discard(self.stream)
                raise self.error from error

    def write(self, text):
        """Write a text."""
        self._attempt(self.stream.write, text)
        return len(text)

    def flush(self):
        """Write what is buffered."""
        self._attempt(self.stream.flush)

    def close(self):
        """Write what is buffered; raise the OutputError that somebody ignored."""
        if self.needed:
            self.flush()
            if self.error:
                raise self.error
        else:
            try:
                self.stream.flush()
            except OSError:
                discard(self.stream)

    def __getattr__(self, name):
        return getattr(self.stream, name)


def discard(stream):
    """Let the null device take what a stream has buffered, and all that follows.

    Else Python tries once more when it exits, complains, and makes the status 120.
    """
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)
    stream.flush()


@contextlib.contextmanager
def guarded(name, needed):
    """Make ``sys.<name>`` a `GuardedStream`; at the end, write what it has buffered.

    Within another `guarded` of the same stream, this one alone counts.

    Raises:
        OutputError: It is needed and could not be written, even if whoever wrote
            ignored that, as argparse does. An exception in flight takes precedence.
    """
    before = getattr(sys, name)
    within = isinstance(before, GuardedStream)
    stream = GuardedStream(before.stream if within else before, needed)
    setattr(sys, name, stream)
    try:
        yield
    except BaseException as error:
        stream.needed &= isinstance(error, SystemExit)  # which follows --help
        raise
    finally:
        setattr(sys, name, before)
        stream.close()


def open_missing():
    """Open the null device in place of standard streams that were closed.

    Else the next file that is opened takes the number of one, and what a library writes
    to standard error goes into that file. The null device is opened for reading, so
    that writing fails as it does on a closed stream.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)  # takes the lowest free number, this one
            os.set_inheritable(number, True)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDONLY)
            setattr(sys, name, open(null, "w"))


def reason(error):
    """Say in one line why standard output cannot be written."""
    if error.errno == errno.EBADF:
        return "it is closed"
    return error.strerror or str(error)
