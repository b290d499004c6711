"""The data: samples, no network, and damaged prepared copies."""

import http.server
import json
import socket
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
