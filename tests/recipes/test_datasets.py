"""The data: samples, no network, and damaged prepared copies."""

import errno
import http.server
import json
import os
import pathlib
import shlex
import socket
import sys
import tempfile
import threading
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from recipes.data import datasets, tfds
from recipes.run.command_line import UserError

ROOT = pathlib.Path(__file__).parents[2]


def test_digits_are_laid_out_like_mnist():
    sample = datasets.load_mnist("sample")
    assert sample.source == "sample"
    images = np.concatenate([sample.train[0], sample.test[0]])
    labels = np.concatenate([sample.train[1], sample.test[1]])
    assert images.shape == (1797, 28, 28)
    assert images.dtype == "uint8"
    assert images.max() == 255
    assert not images[:, :4].any()
    assert not images[:, :, -4:].any()
    assert set(labels) == set(range(10))


def test_reviews_are_balanced_and_repeatable():
    one, two = datasets.load_imdb("sample"), datasets.load_imdb("sample")
    np.testing.assert_array_equal(one.train[0], two.train[0])
    assert np.mean(one.train[1]) == np.mean(one.test[1]) == 0.5
    assert not set(one.train[0]) >= set(one.test[0])


def test_only_word_order_tells_sample_reviews_apart():
    """A bag of words stays below 65 %, an LSTM exceeds 95 %."""
    sample = datasets.load_imdb("sample")
    (texts, labels), (test_texts, test_labels) = sample.train, sample.test
    counts = CountVectorizer(token_pattern=r"\S+", decode_error="strict")
    bag = LogisticRegression(max_iter=1000).fit(counts.fit_transform(texts), labels)
    assert bag.score(counts.transform(test_texts), test_labels) < 0.65

    keras.utils.set_random_seed(1)
    words = keras.layers.TextVectorization(output_sequence_length=70)
    words.adapt(tf.constant(texts))
    embedding = keras.layers.Embedding(200, 32, mask_zero=True)
    lstm = keras.layers.LSTM(32)
    model = keras.Sequential(
        [embedding, lstm, keras.layers.Dense(1, activation="sigmoid")]
    )
    optimizer = keras.optimizers.Adam(1e-2)
    model.compile(
        optimizer, "binary_crossentropy", metrics=["accuracy"], jit_compile=False
    )
    model.fit(words(tf.constant(texts)), labels, batch_size=64, epochs=4, verbose=0)
    accuracy = model.evaluate(
        words(tf.constant(test_texts)), test_labels, batch_size=500, verbose=0
    )[1]
    assert accuracy > 0.95


def test_auto_without_network_is_the_sample_and_says_so(no_network, capsys):
    sample = datasets.load_mnist("auto")
    assert sample.source == "sample"
    assert "do not compare" in sample.sample_warning
    assert f"No prepared mnist in {no_network}" in capsys.readouterr().out


def test_full_without_network_says_what_to_do(no_network):
    with pytest.raises(UserError, match="TFDS_DATA_DIR.*--data sample") as raised:
        datasets.load_imdb("full")
    assert str(no_network) in str(raised.value)
    assert "ai.stanford.edu" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_sample_never_asks_for_the_network(monkeypatch):
    def fail(*arguments, **options):
        raise AssertionError("asked for the network")

    monkeypatch.setattr(socket, "socket", fail)
    monkeypatch.setattr(socket, "getaddrinfo", fail)
    assert datasets.load_mnist("sample").source == "sample"
    assert datasets.load_imdb("sample").source == "sample"


def test_damaged_description_is_a_clear_error(no_network):
    folder = no_network / "mnist" / "3.0.1"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text("{ broken")
    (folder / "features.json").write_text("{}")
    with pytest.raises(
        UserError, match="mnist in .* is damaged .*delete that folder"
    ) as raised:
        datasets.load_mnist("auto")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("load", [datasets.load_mnist, datasets.load_imdb])
def test_no_temporary_file_is_left(load, no_network, tmp_path, monkeypatch):
    """TFDS leaves a folder where it finds no prepared copy."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    load("auto")
    assert tempfile.gettempdir() == str(temporary)
    assert not list(temporary.iterdir())


def without_permission(monkeypatch, path):
    """Refuse access to a path, to the superuser, too."""
    stat = os.stat

    def guarded(file, *arguments, **options):
        if str(file).startswith(str(path)):
            raise PermissionError(errno.EACCES, "Permission denied", file)
        return stat(file, *arguments, **options)

    monkeypatch.setattr(os, "stat", guarded)


CANNOT_READ = (
    "cannot read the prepared mnist in {}: {}; it may be whole: solve that and run "
    "again, or set TFDS_DATA_DIR to another folder, or use --data sample"
)


@pytest.mark.parametrize("source", ["auto", "full"])
def test_a_folder_without_permission_is_no_missing_copy(
    source, no_network, monkeypatch
):
    """Nor is the sample used in its place."""
    folder = no_network / "mnist" / "3.0.1"
    folder.mkdir(parents=True)
    without_permission(monkeypatch, folder)
    monkeypatch.setattr(tfds.tfds, "builder", lambda *arguments, **options: builder)
    builder = FakeBuilder(None)
    builder.data_path = str(folder)
    with pytest.raises(UserError) as raised:
        datasets.load_mnist(source)
    assert str(raised.value) == CANNOT_READ.format(folder, "Permission denied")


REFUSED = {
    "Permission denied": [
        PermissionError(errno.EACCES, "Permission denied"),
        tf.errors.PermissionDeniedError(None, None, "{{node}} a/b; Permission denied"),
    ],
    "Input/output error": [
        OSError(errno.EIO, "Input/output error"),
        tf.errors.UnknownError(None, None, "a/b; Input/output error [Op:X] name: "),
    ],
    "Too many open files": [
        tf.errors.ResourceExhaustedError(None, None, "a/b; Too many open files"),
    ],
    "too little memory": [MemoryError()],
}


@pytest.mark.parametrize("reason", REFUSED)
def test_a_copy_that_cannot_be_read_is_not_called_damaged(
    reason, no_network, monkeypatch
):
    """Neither its description nor its examples; also where TFDS wraps the error."""
    wrapped = OSError("Could not read dataset info")
    wrapped.__cause__ = REFUSED[reason][0]

    for error in (*REFUSED[reason], wrapped):

        def fail(*arguments, error=error, **options):
            raise error

        with pytest.raises(UserError) as raised:
            tfds.read("mnist", FakeBuilder(fail))
        expected = CANNOT_READ.format(FakeBuilder.data_path, reason)
        assert str(raised.value) == expected
        monkeypatch.setattr(tfds.tfds, "builder", fail)
        with pytest.raises(UserError) as raised:
            datasets.load_mnist("auto")
        assert str(raised.value) == CANNOT_READ.format(no_network / "mnist", reason)


@pytest.mark.parametrize(
    "error",
    [
        tf.errors.DataLossError(None, None, "truncated record"),
        tf.errors.InvalidArgumentError(None, None, "cannot parse"),
        tf.errors.NotFoundError(None, None, "a/b; No such file or directory"),
        FileNotFoundError(errno.ENOENT, "No such file or directory"),
        ValueError("no such split"),
        OSError("no reason of the system"),
    ],
)
def test_what_was_read_and_is_wrong_is_damaged(error):
    def fail(split):
        raise error

    with pytest.raises(UserError, match="is damaged .*: delete that folder and run"):
        tfds.read("mnist", FakeBuilder(fail))


class FakeBuilder:
    """Stands for a prepared copy."""

    data_path = "somewhere/mnist/3.0.1"
    info = type("Info", (), {"version": "3.0.1"})

    def __init__(self, read):
        self.read = read

    def as_dataset(self, split, batch_size):
        return self.read(split)


def test_truncated_file_is_a_clear_error():
    def read(split):
        operation = "{{function_node __wrapped__DatasetToSingleElement_device_/CPU:0}}"
        raise tf.errors.DataLossError(
            None, None, f"{operation} truncated record at 1234 [Op:X] name:\nmore lines"
        )

    with pytest.raises(
        UserError, match="somewhere.* is damaged .truncated record at 1234.: delete"
    ):
        tfds.read("mnist", FakeBuilder(read))


def test_missing_examples_are_a_clear_error():
    def read(split):
        images = tf.zeros((7, 28, 28, 1), tf.uint8)
        return {"image": images, "label": tf.zeros(7, tf.int64)}

    with pytest.raises(UserError, match="train has 7 examples instead of 60000"):
        tfds.read("mnist", FakeBuilder(read))


class Refusing(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_error(403)

    def log_message(self, *arguments):
        """Write nothing."""


def test_a_host_that_refuses_answers(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = http.server.HTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.handle_request, daemon=True).start()
    assert tfds.is_reachable(f"http://127.0.0.1:{server.server_port}/x")
    server.server_close()
    assert not tfds.is_reachable(f"http://127.0.0.1:{server.server_port}/x")


def test_a_host_that_keeps_silent_does_not_answer(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(tfds, "PROBE_TIMEOUT", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        assert not tfds.is_reachable(f"http://127.0.0.1:{silent.getsockname()[1]}/x")
        assert time.monotonic() - started < 2


def test_what_speaks_no_http_does_not_answer(monkeypatch, capfd):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"garbage\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        assert not tfds.is_reachable(f"http://127.0.0.1:{server.getsockname()[1]}/x")
    assert not capfd.readouterr().err


def test_failed_download_is_one_line(monkeypatch, no_network):
    monkeypatch.setattr(tfds, "is_reachable", lambda url: True)
    program = "import sys; sys.exit('first line\\nConnectionError: gone')"
    monkeypatch.setattr(tfds.sys, "executable", str(no_network / "python"))
    (no_network / "python").write_text(
        f"#!/bin/sh\nexec python3 -c {json.dumps(program)}\n"
    )
    (no_network / "python").chmod(0o755)
    with pytest.raises(
        UserError, match="downloading mnist failed .ConnectionError: gone"
    ):
        datasets.load_mnist("auto")


def test_a_wrong_checksum_is_named(monkeypatch, no_network):
    """The error has five lines, and the last one names nothing."""
    path = f"{no_network}/downloads/x.tar.gz"
    message = (
        f"Artifact http://ai.stanford.edu/x.tar.gz, downloaded to {path}, has wrong "
        "checksum:\n* Expected: UrlInfo(size=80 MiB, checksum='c40f', filename='x')\n"
        "* Got: UrlInfo(size=7 bytes, checksum='beef', filename='x')\n"
        "To debug, see: https://example.org"
    )
    program = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from recipes.data import tfds
class Wrong(Exception): pass
def fail(): raise Wrong({message!r})
tfds.make_builder = lambda name: type("Builder", (), dict(download_and_prepare=fail))
sys.stderr.write("progress\\r 100 %\\n")
tfds.main(sys.argv[-1])
"""
    monkeypatch.setattr(tfds, "is_reachable", lambda url: True)
    (no_network / "program.py").write_text(program)
    (no_network / "python").write_text(
        f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {no_network}/program.py "$@"\n'
    )
    (no_network / "python").chmod(0o755)
    monkeypatch.setattr(tfds.sys, "executable", str(no_network / "python"))
    with pytest.raises(UserError) as raised:
        datasets.load_imdb("auto")
    line = str(raised.value)
    assert "\n" not in line and "progress" not in line
    assert line.startswith(
        "downloading imdb_reviews failed (Wrong: Artifact http://ai.stanford.edu/x.tar.gz"
    )
    for words in ("has wrong checksum", "Expected:", "'c40f'", "Got:", "'beef'"):
        assert words in line


def test_a_download_that_cannot_start_is_one_line(monkeypatch, no_network):
    monkeypatch.setattr(tfds, "is_reachable", lambda url: True)
    monkeypatch.setattr(tfds.sys, "executable", str(no_network / "none"))
    with pytest.raises(UserError, match="cannot start the download of mnist: No such"):
        datasets.load_mnist("full")


def test_after_a_download_the_copy_is_read_anew(monkeypatch, no_network):
    """The builder of before the download knows no splits."""
    builders = []
    monkeypatch.setattr(tfds, "is_reachable", lambda url: True)
    monkeypatch.setattr(
        tfds, "download", lambda name, builder: builders.append(builder)
    )

    def read(name, builder):
        builders.append(builder)
        return "read", "train", "test"

    monkeypatch.setattr(tfds, "read", read)
    loaded = datasets.load_mnist("auto")
    assert loaded == datasets.Dataset("full", "read", "train", "test")
    assert len(builders) == 2
    assert builders[0] is not builders[1]
