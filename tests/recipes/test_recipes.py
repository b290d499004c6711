"""Both programs, on their samples: what they print, leave behind, and refuse."""

import csv
import dataclasses
import json
import os
import pathlib
import re
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from custom_layers import LAYERS
from recipes import (
    datasets,
    imdb,
    mnist,
    pictures,
    predict,
    report,
    resume,
    runs,
    training,
)
from recipes.command_line import UserError, run
from recipes.review_grammar import make_reviews
from recipes.training import total_steps

ROOT = pathlib.Path(__file__).parents[2]
PROGRAMS = {"mnist": mnist, "imdb": imdb}
# The cell that is traced fastest, where a test does not name another.
SMALL = {
    "mnist": "--data sample --cell simple-rnn --epochs 1 --units 16".split(),
    "imdb": "--data sample --cell simple-rnn --steps 3 --epochs 1 --units 8 --words 50".split(),
}
KEYS = {
    "test_accuracy", "validation_accuracy", "fit_seconds", "steps", "data", "cell", "preset",
    "parameters", "recurrent_kernel", "config", "versions", "device",
}  # fmt: skip


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Draw nothing, the pictures have tests of their own; and make a tenth of the reviews."""
    for name in ("draw_mnist", "draw_imdb"):
        monkeypatch.setattr(pictures, name, lambda *arguments: None)
    monkeypatch.setattr(
        datasets, "make_reviews", lambda n, seed: make_reviews(n // 10, seed)
    )


def train(recipe, runs, *arguments):
    """Run a program in this process; return its exit status and its metrics."""
    status = PROGRAMS[recipe].main(
        [*SMALL[recipe], "--runs", str(runs), "--name", "run", *arguments]
    )
    return status, json.loads((runs / recipe / "run" / "metrics.json").read_text())


@pytest.mark.parametrize("recipe", PROGRAMS)
@pytest.mark.parametrize("preset", ["classic", "modern"])
def test_a_run_leaves_what_it_should(recipe, preset, tmp_path, capsys):
    status, metrics = train(recipe, tmp_path, "--preset", preset)
    assert status == 0
    assert metrics.keys() >= KEYS
    assert ("test_accuracy_first_128" in metrics) == (
        recipe == "mnist" and preset == "classic"
    )
    assert metrics["data"] == "sample"
    assert metrics["preset"] == preset
    folder = tmp_path / recipe / "run"
    assert {path.name for path in folder.iterdir()} >= {
        "model.keras",
        "history.csv",
        "metrics.json",
    }
    assert not list(folder.glob("unfinished-*"))
    with open(folder / "history.csv") as file:
        rows = list(csv.DictReader(file))
    assert int(rows[-1]["step"]) == metrics["steps"]
    assert (
        max(float(row["val_accuracy"]) for row in rows)
        == metrics["validation_accuracy"]
    )

    printed = capsys.readouterr().out
    first = printed[: printed.index("Kernel:")]
    assert "WARNING: this is" in first
    for word in (
        "Device:",
        "backend tensorflow",
        "train",
        "validate",
        "test",
        "parameters",
    ):
        assert word in first
    assert printed.rstrip().endswith("do not compare with the real data's.")


LOAD = """
import sys, json, keras, numpy as np, tensorflow as tf, custom_layers
for path, x in json.load(sys.stdin):
    model = keras.saving.load_model(path)
    print(json.dumps(np.asarray(model.predict(tf.constant(x), verbose=0)).tolist()))
"""


def test_saved_models_predict_in_another_process(tmp_path):
    """IMDB's take any text: an empty one, one without a known word, and one of very many words."""
    _, metrics = train("mnist", tmp_path, "--cell", "peephole")
    assert metrics["cell"] == "peephole"
    for preset in ("classic", "modern"):
        train("imdb", tmp_path / preset, "--preset", preset)
    images = np.random.default_rng(0).uniform(size=(3, 28, 28)).astype("float32")
    texts = [
        "",
        "zzz qqq",
        "the plot was superb , not dull .",
        "what a film " * 1000,
        "\n",
    ]
    paths = [
        str(tmp_path / run / "run" / "model.keras")
        for run in ("mnist", "classic/imdb", "modern/imdb")
    ]
    asked = json.dumps(list(zip(paths, (images.tolist(), texts, texts))))
    command = [sys.executable, "-c", LOAD]
    result = subprocess.run(
        command, cwd=ROOT, input=asked, text=True, capture_output=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    digits, *probabilities = [
        np.array(json.loads(line)) for line in result.stdout.splitlines()
    ]
    here = keras.saving.load_model(paths[0]).predict(images, verbose=0)
    np.testing.assert_allclose(digits, here, atol=1e-6)
    for of_texts in probabilities:
        assert of_texts.shape == (5, 1)
        assert np.all((of_texts > 0) & (of_texts < 1))


def test_tokenizer_keeps_the_last_words_and_pads_on_the_right():
    tokenizer = imdb.make_tokenizer([b"a b c d e f g h"], 20, 3)
    vocabulary = tokenizer.get_layer("vectorize").get_vocabulary()
    numbers = np.asarray(tokenizer(tf.constant(["a b c d e", "A, b!", "", "zzz"])))
    assert [[vocabulary[number] for number in row] for row in numbers] == [
        ["c", "d", "e"],
        ["a", "b", ""],
        ["[UNK]", "", ""],
        ["[UNK]", "", ""],
    ]


@pytest.mark.parametrize("program", [mnist, imdb, predict, resume, runs])
def test_python_m_runs_the_program(program):
    source = pathlib.Path(program.__file__).read_text()
    assert source.endswith('\n\n\nif __name__ == "__main__":\n    run(main)\n')


def test_fit_traces_the_training_step_once():
    model = mnist.make_classic(dataclasses.replace(mnist.PRESETS["classic"], units=2))
    images, labels = np.zeros((6, 28, 28), "float32"), np.zeros(6, "int32")
    training.create_variables(model, labels)
    traced, step = [], model.train_step
    model.train_step = lambda data: traced.append(1) or step(data)
    model.fit(images, labels, batch_size=2, verbose=0)
    assert len(traced) == 1


@pytest.mark.parametrize("recipe", PROGRAMS)
def test_same_seed_same_figures(recipe, tmp_path):
    figures = []
    for number, seed in enumerate(["5", "5", "6"]):
        _, metrics = train(recipe, tmp_path / str(number), "--seed", seed)
        with open(tmp_path / str(number) / recipe / "run" / "history.csv") as file:
            loss = [row["loss"] for row in csv.DictReader(file)]
        figures.append((loss, metrics["test_accuracy"], metrics["validation_accuracy"]))
    assert figures[0] == figures[1] != figures[2]


@pytest.mark.parametrize("cell", LAYERS)
def test_every_cell_learns_in_every_network(cell):
    """A step, operation by operation: tracing the graphs, which tests of the layers do, takes minutes."""
    rng = np.random.default_rng(0)
    images, digits = rng.random((4, 28, 28)), rng.integers(0, 10, 4)
    words, verdicts = rng.integers(1, 30, (4, 25)), rng.integers(0, 2, (4, 1))
    for program, changes, *data in (
        (mnist, {}, images, digits),
        (imdb, {"words": 25, "vocabulary": 30, "embedding": 4}, words, verdicts),
    ):
        for preset, config in program.PRESETS.items():
            config = dataclasses.replace(config, cell=cell, units=8, **changes)
            config.check()
            model = (
                program.make_classic(config)
                if preset == "classic"
                else program.make_modern(config, 2)
            )
            model.run_eagerly = True
            before = [weight.numpy() for weight in model.trainable_weights]
            model.optimizer.iterations.assign(1)  # the learning rate may start from 0
            assert np.isfinite(model.train_on_batch(*data, return_dict=True)["loss"])
            for weight, old in zip(model.trainable_weights, before):
                assert np.any(weight.numpy() != old), (preset, weight.path)


def test_minibatch_report_names_the_step(tmp_path, capsys):
    """Every ``save_every`` steps, and not after the shorter last epoch, whatever limits the run."""
    for number, limit in enumerate(
        (["--steps", "5"], ["--epochs", "1", "--batch", "264"])
    ):
        arguments = ["--preset", "classic", "--save-every", "2", *limit]
        _, metrics = train("mnist", tmp_path / str(number), *arguments)
        assert metrics["steps"] == 5
        assert re.findall(r"Iter (\d+):", capsys.readouterr().out) == ["2", "4"]


def test_target(tmp_path, capsys):
    status, metrics = train("mnist", tmp_path, "--target", "0.999", "--steps", "2")
    assert status == 1
    assert metrics["test_accuracy"] < 0.999
    assert "below the target 0.999" in capsys.readouterr().out


def test_mnist_sample_is_learnt(tmp_path):
    arguments = ["--cell", "lstm", "--epochs", "20", "--batch", "32", "--units", "32"]
    _, metrics = train("mnist", tmp_path, *arguments)
    assert metrics["validation_accuracy"] > 0.9  # 0.975 to 1.0 with the seeds 1 to 9


def test_a_run_never_uses_an_existing_folder(tmp_path):
    arguments = [*SMALL["mnist"], "--steps", "1", "--runs", str(tmp_path)]
    existing = tmp_path / "mnist" / "simple-rnn-modern-1"
    existing.mkdir(parents=True)
    mnist.main(arguments)
    assert not list(existing.iterdir())
    assert list((tmp_path / "mnist" / "simple-rnn-modern-1-2").glob("model.keras"))
    with pytest.raises(UserError, match="simple-rnn-modern-1 exists"):
        mnist.main([*arguments, "--name", "simple-rnn-modern-1"])


@pytest.mark.parametrize(
    ("recipe", "arguments", "message"),
    [
        ("mnist", ["--units", "0"], "--units must be at least 1, got 0"),
        ("mnist", ["--batch", "-1"], "--batch must be at least 1, got -1"),
        ("mnist", ["--epochs", "0"], "--epochs and --steps are both 0"),
        ("mnist", ["--target", "2"], "--target must be at most 1, got 2.0"),
        ("mnist", ["--target", "nan"], "--target must be at least 0.0, got nan"),
        ("mnist", ["--name", ".."], "--name must be the name of a folder"),
        (
            "mnist",
            ["--seed", "99999999999"],
            "--seed must be below 2**32, got 99999999999",
        ),
        (
            "mnist",
            ["--cell", "clockwork", "--units", "10"],
            "--units 10 with --cell clockwork: units",
        ),
        ("mnist", ["--name", "a/b"], "--name must be the name of a folder"),
        ("mnist", ["--distortion", "-1"], "--distortion must be at least 0, got -1.0"),
        ("mnist", ["--distortion", "inf"], "--distortion must be finite, got inf"),
        (
            "mnist",
            ["--units", "10000000"],
            "too little memory for these sizes: choose smaller ones",
        ),
        ("mnist", ["--learning-rate", "0"], "--learning-rate must be above 0, got 0.0"),
        (
            "mnist",
            ["--batch", "5000"],
            "--batch must be at most the 1318 training examples",
        ),
        ("imdb", ["--words", "30"], "--words must be a multiple of 25, got 30"),
        ("imdb", ["--vocabulary", "2"], "--vocabulary must be at least 3, got 2"),
    ],
)
def test_wrong_values(recipe, arguments, message, tmp_path):
    with pytest.raises(UserError) as raised:
        PROGRAMS[recipe].main([*SMALL[recipe], "--runs", str(tmp_path), *arguments])
    assert message in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_output_that_nobody_reads_is_no_traceback(tmp_path):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "recipes.runs", "--runs", tmp_path]
    result = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (result.returncode, result.stderr) == (141, "")


@pytest.mark.parametrize(
    ("program", "arguments", "message"),
    [
        (
            mnist,
            ["--cell", "nonsense"],
            "argument --cell: invalid choice: 'nonsense' (choose from ",
        ),
        (mnist, ["--epochs", "x"], "argument --epochs: invalid int value: 'x'"),
        (mnist, ["--units", "0"], "--units must be at least 1, got 0"),
        (mnist, ["--two\nlines"], "unrecognized arguments: --two lines"),
        (imdb, ["--unit", "8"], "unrecognized arguments: --unit 8"),
        (imdb, ["--name"], "argument --name: expected one argument"),
        (predict, [], "the following arguments are required: imdb|mnist"),
        (predict, ["digits"], "argument imdb|mnist: invalid choice: 'digits'"),
        (predict, ["mnist"], "no image is given: name one with IMAGE="),
        (predict, ["mnist", "--image", ""], "no image is given: name one with IMAGE="),
        (predict, ["imdb", "--text", "x", "--runs", "no/where"], "no finished run"),
        (predict, ["imdb", "--tex", "x"], "unrecognized arguments: --tex x"),
        (resume, ["junk"], "unrecognized arguments: junk"),
        (resume, ["--run", "no/where"], "there is no run no/where"),
        (runs, ["--speling"], "unrecognized arguments: --speling"),
    ],
)
def test_wrong_use_is_one_line_and_status_2(
    program, arguments, message, monkeypatch, capsys
):
    monkeypatch.setattr(sys, "argv", ["program", *arguments])
    with pytest.raises(SystemExit) as exit:
        run(program.main)
    assert exit.value.code == 2
    printed, line = capsys.readouterr()
    assert not printed
    assert (
        line.startswith(f"error: {message}")
        and line.count("\n") == 1
        and line.endswith("\n")
    )


def test_nothing_else_is_on_standard_error(tmp_path):
    """What the libraries would write there included."""
    environment = {
        **os.environ,
        "TFDS_DATA_DIR": str(tmp_path),
        "https_proxy": "http://127.0.0.1:9",
    }
    command = [sys.executable, "-m", "recipes.mnist", "--data", "full"]
    result = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 2
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1


IMPORTED = """
import sys, recipes
assert sys.modules["tensorflow"] and sys.modules["keras"]
print(sorted({"sklearn", "matplotlib.pyplot"} & set(sys.modules)))
import matplotlib.pyplot
"""


def test_programs_start_without_packages_that_they_do_not_use():
    """Keras would import them; whoever needs them can import them afterwards."""
    result = subprocess.run(
        [sys.executable, "-c", IMPORTED], cwd=ROOT, capture_output=True, text=True
    )
    assert (result.returncode, result.stdout) == (0, "[]\n"), result.stderr


INTERRUPT = "import os, signal; os.kill(os.getpid(), signal.SIGINT)\n"
RUN = (
    "from recipes.command_line import run\nimport sys\ndef main(_):\n  {}\nrun(main)\n"
)

START = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.{})
os.execv(sys.executable, [sys.executable, "-m", "recipes.mnist"])
"""


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize(
    ("when", "status"),
    [("tensorflow", -signal.SIGINT), ("keras", -signal.SIGINT), ("main", 130)],
)
def test_ctrl_c_from_the_first_import_on(when, status, ignored, tmp_path):
    """In place of the libraries are modules that interrupt. Where Ctrl-C is ignored, it stays so."""
    (tmp_path / "tensorflow.py").write_text(INTERRUPT if when == "tensorflow" else "")
    main = INTERRUPT.strip() if when == "main" else "pass"
    (tmp_path / "keras.py").write_text(
        (INTERRUPT if when == "keras" else "") + RUN.format(main)
    )
    result = subprocess.run(
        [sys.executable, "-c", START.format("SIG_IGN" if ignored else "SIG_DFL")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.stderr == ""
    assert result.returncode == (0 if ignored else status)


@pytest.mark.parametrize(
    "call",
    [
        lambda runs: train("mnist", runs),
        lambda runs: train("imdb", runs),
        lambda runs: predict.main(["imdb", "--text", "x", "--runs", str(runs)]),
    ],
)
def test_another_backend_is_a_clear_error(call, tmp_path, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(
        UserError, match="must be tensorflow, got jax: set KERAS_BACKEND=tensorflow"
    ):
        call(tmp_path)


def test_help_explains_every_flag(capsys):
    with pytest.raises(SystemExit) as exit:
        imdb.main(["--help"])
    assert not exit.value.code
    text = capsys.readouterr().out
    flags = [line.split()[0] for line in text.splitlines() if line.startswith("  --")]
    fields = dataclasses.fields(imdb.ImdbConfig)
    assert flags == ["--" + field.name.replace("_", "-") for field in fields]
    assert " ".join(text.split()).count("(default: ") == len(flags)
    assert "default: modern: 400; classic: 80" in " ".join(text.split())


def test_total_steps():
    config = mnist.PRESETS["classic"]
    assert total_steps(config, 55_000) == 10_000
    assert total_steps(mnist.PRESETS["modern"], 55_000) == 8600


def test_classic_is_the_article_s_program():
    config = mnist.PRESETS["classic"]
    assert (config.units, config.batch, config.learning_rate) == (128, 128, 0.001)
    model = mnist.make_classic(config)
    lstm, dense = model.layers[1:]
    np.testing.assert_array_equal(
        np.array(lstm.get_weights()[2]), np.repeat([0, 1, 0, 0], 128)
    )
    kernel, bias = dense.get_weights()
    assert abs(np.std(kernel) - 1) < 0.1
    assert np.std(bias) > 0.3
    assert type(model.optimizer) is keras.optimizers.SGD


def test_killed_while_writing_leaves_no_half_file(tmp_path):
    path = tmp_path / "metrics.json"
    report.write_json(path, {"a": 1})
    with pytest.raises(KeyboardInterrupt), report.complete_file(path) as unfinished:
        unfinished.write_text("{ half")
        raise KeyboardInterrupt
    assert json.loads(path.read_text()) == {"a": 1}
