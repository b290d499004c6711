"""Prediction with the models of finished runs."""

import errno
import io
import json
import os
import re
import resource
import signal
import tempfile
import threading
import tracemalloc
import zlib

import keras
import numpy as np
import pytest
from digit_files import KINDS, digits, draw
from PIL import Image

from recipes import predict
from recipes.data import digit_image
from recipes.data.digit_image import read_digit
from recipes.run.command_line import UserError
from recipes.run.folder import RunFolder

# In one process: the two runs are made once.
pytestmark = pytest.mark.xdist_group("finished-runs")


def test_digits_are_recognised(finished_runs, tmp_path, capsys):
    path = tmp_path / "digit.png"
    images, labels = [], []
    for number, (grey, label) in enumerate(digits()):
        size = (20 + 9 * number, 25 + 8 * number)
        draw(path, grey, size, KINDS[number % len(KINDS)])
        images.append(read_digit(path))
        labels.append(label)
    newest = predict.find_model("mnist", finished_runs, "")
    model = predict.load_model("mnist", newest)
    probabilities = model.predict(np.array(images), verbose=0)
    assert np.mean(probabilities.argmax(axis=1) == labels) > 0.6
    arguments = ["mnist", "--image", str(path), "--runs", str(finished_runs)]
    assert predict.main([*arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    np.testing.assert_allclose(result["probabilities"], probabilities[-1], atol=1e-5)
    assert result["label"] == probabilities[-1].argmax()
    assert result["probability"] == max(result["probabilities"])
    assert predict.main(arguments) == 0
    assert capsys.readouterr().out == f"{result['label']} {result['probability']:.4f}\n"


@pytest.fixture(params=["a file", "standard input"])
def give(request, tmp_path, monkeypatch):
    """A function that puts bytes there and returns the flags to read them."""

    def put(text):
        if request.param == "a file":
            (tmp_path / "reviews.txt").write_bytes(text)
            return ["--file", str(tmp_path / "reviews.txt")]
        monkeypatch.setattr("sys.stdin", standard_input(io.BytesIO(text)))
        return []

    return put


def standard_input(raw):
    return io.TextIOWrapper(io.BufferedReader(raw))


@pytest.fixture
def ask(finished_runs, capsys):
    """A function that asks for answers to reviews: status, results, standard error."""

    def main(flags):
        arguments = ["imdb", "--json", "--runs", str(finished_runs), *flags]
        status = predict.main(arguments)
        out, err = capsys.readouterr()
        return status, [json.loads(line) for line in out.splitlines()], err

    return main


def test_reviews_are_read_line_by_line(give, ask):
    status, results, err = ask(give(b"good film .\n\nit was dull\n\xc2\xa0\r\nbad"))
    assert status == 2
    assert [result["line"] for result in results] == [1, 3, 5]
    assert [result["text"] for result in results] == [
        "good film .",
        "it was dull",
        "bad",
    ]
    assert {result["label"] for result in results} <= {"good", "bad"}
    assert err == "error: line 2 is empty\nerror: line 4 is empty\n"


def test_a_byte_order_mark_is_no_text(give, ask):
    status, results, err = ask(give(b"\xef\xbb\xbfsuperb film\nsuperb film\n"))
    assert (status, err) == (0, "")
    first, second = results
    assert first == {**second, "line": 1}
    with pytest.raises(UserError, match="no review to read"):
        ask(give(b"\xef\xbb\xbf"))


def test_a_few_bytes_that_are_not_utf_8_are_an_unknown_letter(give, ask):
    status, results, err = ask(give(b"it was superb , a clich\xe9 or two\nsuperb\n"))
    assert status == 0
    assert results[0]["text"] == "it was superb , a clich\ufffd or two"
    assert len(results) == 2
    assert re.fullmatch("warning: line 1 is not all UTF-8.*\n", err)


@pytest.mark.parametrize(
    "text",
    [
        *("A film to see.\nTwice!\n".encode(name) for name in (
            "utf-16", "utf-16-le", "utf-16-be", "utf-32",
        )),
        "Отличный фильм\n".encode("cp1251"),
        "素晴らしい映画\n".encode("utf-16"),
        zlib.compress(bytes(range(256)) * 8),
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        b"%PDF-1.4\n%" + bytes(range(128, 256)) * 20,
    ],
)  # fmt: skip
def test_what_is_not_utf_8_is_refused_before_a_line_is_read(text, give):
    *_, path = give(text) or [None]
    with pytest.raises(UserError, match="must be text in UTF-8") as raised:
        next(predict.read_lines(path))
    assert "\n" not in str(raised.value)


def test_a_later_line_that_is_not_utf_8_ends_the_answers(give, ask, capsys):
    with pytest.raises(UserError, match="UTF-8.* line 2001 "):
        ask(give(b"superb film\n" * 2 + b"\n" * 1998 + bytes(range(128, 256)) + b"\na"))
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.parametrize("text", ["superb caf\udce9", "superb \ud83d film"])
def test_halves_of_letters_on_the_command_line(text, ask):
    """Bytes that are not UTF-8 come so from the shell."""
    status, [result], err = ask(["--text", text])
    assert (status, err) == (0, "")
    assert result["text"] == re.sub("[\ud800-\udfff]", "\ufffd", text)


def test_a_line_has_a_limit(give, ask, monkeypatch):
    monkeypatch.setattr(predict, "LINE_LIMIT", 12)
    text = b"superb films\nsuperb film\r\n" + 50 * b"superb " + b"\ndull\n" + 13 * b"a"
    status, results, err = ask(give(b"\xef\xbb\xbf" + text))
    assert status == 2
    assert [result["line"] for result in results] == [1, 2, 4]
    assert err == "".join(
        f"error: line {number} is longer than 12 bytes\n" for number in (3, 5)
    )


class Long(io.RawIOBase):
    """Bytes without a line break, then a short line."""

    def __init__(self, size, byte):
        self.left, self.byte = size, byte

    def readable(self):
        return True

    def readinto(self, buffer):
        if self.left <= 0:
            end, self.left = (b"\nfilm" if self.left == 0 else b""), -1
            buffer[: len(end)] = end
            return len(end)
        size = min(len(buffer), self.left)
        buffer[:size] = self.byte * size
        self.left -= size
        return size


def test_a_long_line_is_not_held_in_memory(monkeypatch):
    monkeypatch.setattr("sys.stdin", standard_input(Long(2**26, b"a")))
    tracemalloc.start()
    try:
        sizes = [len(line) for line in predict.read_lines("-")]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sizes == [predict.LINE_LIMIT + 1, 4]
    assert peak < 2**26 / 8


def test_endless_zeros_are_refused_at_once(monkeypatch):
    endless = Long(2**60, b"\0")
    monkeypatch.setattr("sys.stdin", standard_input(endless))
    with pytest.raises(UserError, match="standard input holds NUL bytes"):
        list(predict.read_lines(None))
    assert endless.left > 2**60 - 2**20


@pytest.fixture
def pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def write_later(pipe, seconds):
    """Return a thread that writes two lines to a pipe after some seconds."""
    timer = threading.Timer(seconds, pipe.write_bytes, [b"one\ntwo\n"])
    timer.start()
    return timer


def test_a_pipe_without_a_writer_is_waited_for_with_a_word(pipe, monkeypatch, capsys):
    monkeypatch.setattr(predict, "WAIT", 50)
    writer = write_later(pipe, 1)
    assert list(predict.read_lines(str(pipe))) == [b"one\n", b"two\n"]
    writer.join()
    assert capsys.readouterr().err == (
        f"Waiting for someone to write to the pipe {pipe} …\n"
    )


def test_a_pipe_with_a_writer_is_read_without_a_word(pipe, monkeypatch, capsys):
    monkeypatch.setattr(predict, "WAIT", 60_000)
    writer = write_later(pipe, 0)
    assert list(predict.read_lines(str(pipe))) == [b"one\n", b"two\n"]
    writer.join()
    assert capsys.readouterr().err == ""


def test_ctrl_c_ends_the_waiting_for_a_pipe(pipe, monkeypatch):
    monkeypatch.setattr(predict, "WAIT", 10)
    main = threading.main_thread().ident
    threading.Timer(0.5, signal.pthread_kill, [main, signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        list(predict.read_lines(str(pipe)))


def test_no_control_characters_of_a_review_are_printed(finished_runs, capsys):
    text = "superb \x1b[31mfilm\x9b1m \u202e \x07\x7f \xa0\u2028end"
    arguments = ["imdb", "--runs", str(finished_runs), "--text", text]
    assert predict.main(arguments) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.isprintable()
    assert line.endswith(r"superb \x1b[31mfilm\x9b1m \u202e \x07\x7f end")
    assert predict.main([*arguments, "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.isprintable() and line.isascii()
    assert json.loads(line)["text"] == text


def test_nobody_reads_the_answers(finished_runs, monkeypatch):
    """What starts the program makes status 141 of it."""

    def closed(*arguments, **options):
        raise BrokenPipeError

    monkeypatch.setattr("builtins.print", closed)
    with pytest.raises(BrokenPipeError):
        predict.main(["imdb", "--runs", str(finished_runs), "--text", "superb"])


def test_a_text_is_answered_in_a_line(finished_runs, capsys):
    arguments = ["imdb", "--runs", str(finished_runs), "--text", "-5 $tars"]
    assert predict.main(arguments) == 0
    assert re.fullmatch(r"(good|bad) [01]\.\d{4}  -5 \$tars\n", capsys.readouterr().out)


def test_the_newest_finished_run_is_the_default(tmp_path):
    for age, name in enumerate(["newest", "older", "unfinished"]):
        folder = RunFolder(tmp_path / "imdb" / name)
        folder.path.mkdir(parents=True)
        folder.model.touch()
        if name != "unfinished":
            folder.metrics.touch()
            os.utime(folder.metrics, (1e9 - age, 1e9 - age))
    os.utime(folder.model, (2e9, 2e9))
    for asked, found in (
        ("", "newest"),
        ("older", "older"),
        (str(folder.path), "unfinished"),
        (str(folder.model), "unfinished"),
    ):
        path = predict.find_model("imdb", tmp_path, asked)
        assert path == RunFolder(tmp_path / "imdb" / found).model


@pytest.mark.parametrize("error", [PermissionError, MemoryError])
def test_a_model_that_cannot_be_read_is_not_called_damaged(
    error, finished_runs, monkeypatch
):
    """Nor is it called missing, where its folder cannot be looked into."""
    arguments = ["mnist", "--image", "x.png", "--run", "run"]
    monkeypatch.setattr(digit_image, "read_digit", lambda path: None)
    model = RunFolder(finished_runs / "mnist/run").model
    reason = "too little memory"
    with monkeypatch.context() as patched:
        if error is MemoryError:
            patched.setattr(keras.saving, "load_model", failing(MemoryError()))
        else:
            reason = "Permission denied"
            denied = PermissionError(errno.EACCES, reason)
            patched.setattr(predict, "open", failing(denied), raising=False)
        assert_refused(arguments, f"^cannot read {model}: {reason}$", finished_runs)
    if error is PermissionError:
        monkeypatch.setattr(os, "stat", failing(denied))
        assert_refused(arguments, f"^cannot read {model}: {reason}$", finished_runs)
        monkeypatch.setattr(predict, "list_folders", failing(denied))
        parent = finished_runs / "mnist"
        assert_refused(
            arguments[:3], f"^cannot read {parent}: {reason}$", finished_runs
        )


def test_a_full_temporary_folder_is_no_damage(finished_runs, tmp_path, monkeypatch):
    """Keras unpacks a model of texts there. A limit on files acts as a full disk."""
    model = RunFolder(finished_runs / "imdb/run").model
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(UserError) as raised:
            predict.load(model)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    reason = f"File too large in the temporary folder {tmp_path}"
    assert str(raised.value) == f"cannot read {model}: {reason}"


def failing(error):
    """Return a function that raises ``error``, whatever it is called with."""

    def fail(*arguments, **options):
        raise error

    return fail


def assert_refused(arguments, message, runs):
    """Assert that predicting ends with one line that matches ``message``."""
    with pytest.raises(UserError, match=message) as raised:
        predict.main([*arguments, "--runs", str(runs)])
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ("nope", "no run 'nope' with a model in .*; there are run"),
        ("{runs}/mnist/run", "not a model of the imdb recipe: .* mnist recipe"),
        ("{here}/damaged.keras", "damaged or no model: it is no whole zip archive, as"),
        ("{here}/other.keras", "made by neither recipe"),
    ],
)
def test_models_that_cannot_be_used(run, message, finished_runs, tmp_path):
    whole = RunFolder(finished_runs / "imdb/run").model.read_bytes()
    (tmp_path / "damaged.keras").write_bytes(whole[:5000])
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    other.save(tmp_path / "other.keras")
    run = run.format(runs=finished_runs, here=tmp_path)
    arguments = ["imdb", "--text", "good", "--run", run]
    assert_refused(arguments, message, finished_runs)


@pytest.mark.parametrize(
    ("size", "bias", "message"),
    [
        (1, 0.0, "the model .*m.keras fails: "),  # it has no vector for the word
        (3, np.nan, "answers with .nan.: probabilities lie between 0 and 1"),
        (3, 7.0, "answers with .7.0.: probabilities lie"),
    ],
)
def test_models_of_the_right_shape_that_do_not_work(size, bias, message, tmp_path):
    text = keras.Input((), dtype="string")
    words = keras.layers.TextVectorization(vocabulary=["a"], output_sequence_length=1)
    vectors = keras.layers.Embedding(size, 1, embeddings_initializer="zeros")
    dense = keras.layers.Dense(1, bias_initializer=keras.initializers.Constant(bias))
    model = keras.Model(text, dense(vectors(words(text))[:, 0]))
    model.save(tmp_path / "m.keras")
    arguments = ["imdb", "--text", "a", "--run", str(tmp_path / "m.keras")]
    assert_refused(arguments, message, tmp_path)


def test_no_model_says_how_to_train_one(tmp_path):
    message = "no finished run in .*train one with `make train-imdb`"
    assert_refused(["imdb", "--text", "good"], message, tmp_path)


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("--text", " \n", "the text is empty"),
        ("--file", "{here}/no.txt", "cannot read .*no.txt: No such file"),
        ("--file", "no\x1b[31m.txt", r"cannot read no\\x1b\[31m.txt: No such file"),
        ("--file", "", "cannot read : No such file"),
        ("--file", "{here}", "cannot read .*: Is a directory"),
        ("--file", os.devnull, "there is no review to read"),
        ("--file", "/dev/full", "/dev/full holds NUL bytes"),
    ],
)
def test_texts_that_cannot_be_read(flag, value, message, finished_runs, tmp_path):
    arguments = ["imdb", flag, value.format(here=tmp_path)]
    assert_refused(arguments, message, finished_runs)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no.png", "no such image"),
        ("", "cannot read the image"),
        ("text.png", "cannot read the image"),
        ("cut.png", "cannot read the image"),
        ("blank.png", "is blank"),
        ("clear.png", "is blank"),
    ],
)
def test_images_that_cannot_be_read(name, message, finished_runs, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    Image.new("L", (30, 40), 255).save(tmp_path / "blank.png")
    Image.new("RGBA", (30, 40), 0).save(tmp_path / "clear.png")
    draw(tmp_path / "good.png", next(digits())[0], (40, 40), "dark")
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:300])
    arguments = ["mnist", "--image", str(tmp_path / name)]
    assert_refused(arguments, message, finished_runs)


def test_an_image_for_a_model_of_reviews(finished_runs, tmp_path):
    draw(tmp_path / "good.png", next(digits())[0], (40, 40), "dark")
    arguments = ["mnist", "--image", str(tmp_path / "good.png")]
    arguments += ["--run", str(finished_runs / "imdb/run")]
    assert_refused(arguments, "imdb recipe", finished_runs)
