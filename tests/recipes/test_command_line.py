"""Flags: what is refused, in one line, and what --help explains."""

import dataclasses
import math
import resource
import subprocess
import sys

import keras
import pytest

from recipes import imdb, mnist, predict, resume, runs
from recipes.run.command_line import UserError, exit_with, expand, parse
from recipes.run.values import printable

PROGRAMS = {"mnist": mnist, "imdb": imdb}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("mnist --epochs 0", "--epochs and --steps are both 0"),
        (
            "mnist --cell clockwork --units 10",
            "--units 10 with --cell clockwork: units",
        ),
        ("mnist --batch 5000", "--batch must be at most the 1319 training examples"),
        ("imdb --words 30", "--words must be a multiple of 25, got 30"),
        (
            "mnist --devices 3",
            "--batch must be a multiple of the 3 --devices, got 128",
        ),
    ],
)
def test_wrong_values(command, message, tmp_path):
    recipe, *arguments = command.split()
    small = f"--data sample --cell simple-rnn --epochs 1 --runs {tmp_path}".split()
    with pytest.raises(UserError) as raised:
        PROGRAMS[recipe].main([*small, *arguments])
    assert message in str(raised.value)
    assert not list(tmp_path.iterdir())


LIMITS = {
    "units": (1, 10_000),
    "epochs": (0, 10_000),
    "steps": (0, 10**9),
    "save_every": (0, 10**9),
    "batch": (1, 10**6),
    "devices": (1, 64),
    "seed": (0, 2**32 - 1),
    "target": (0, 1),
    "learning_rate": (1e-9, 1000),
    "distortion": (0, 10),
    "vocabulary": (3, 10**6),
    "words": (1, 10_000),
    "embedding": (1, 10_000),
}


@pytest.mark.parametrize("recipe", PROGRAMS)
def test_every_number_has_limits_and_its_message_names_them(recipe, monkeypatch):
    """Nothing is loaded or trained before."""
    program = PROGRAMS[recipe].PROGRAM
    ran = []
    monkeypatch.setattr(
        type(program), "execute", lambda self, run, on_sample: ran.append(run)
    )
    for field in dataclasses.fields(program.config_class):
        if field.type is str:
            continue
        least, most = LIMITS[field.name]
        name = "--" + field.name.replace("_", "-")
        preset = "--preset classic --steps 9 --epochs 9".split()
        for good in (least, most):
            program.main([*preset, name, str(good)])
            assert getattr(ran.pop().config, field.name) == good
        wrong = [-1, 10**20, 10**400]
        if field.type is float:
            wrong = [-1.0, -1e-300, most + 1e-9, 1e300, math.inf, -math.inf, math.nan]
            limits = f"a number from {least:g} to {most:g}, got "
        else:
            wrong += [least - 1, most + 1]
            limits = f"an integer from {least:,} to {most:,}, got "
        for bad in wrong:
            with pytest.raises(UserError) as raised:
                program.main([*preset, f"{name}={bad}"])
            assert str(raised.value).startswith(f"{name} must be {limits}")
            assert len(str(raised.value)) < 200
    assert not ran


@pytest.mark.parametrize("recipe", PROGRAMS)
@pytest.mark.parametrize(
    "flag",
    [
        *("--name=..", "--name=a/b", "--name=/", "--name=.hidden", "--name=a\nb"),
        *("--name=\x1b[2Jx", "--name=a\udcffb", "--name=a\0b", "--name=a\u202eb"),
        *(f"--name={'x' * 101}", "--runs=", "--runs=gs://bucket/x", "--runs=a\udcff"),
        *("--logdir=gs://bucket/x", "--logdir=s3://b", "--logdir=file:///tmp/x"),
        *("--logdir=hdfs+x://a", "--logdir=a\nb", "--logdir=\x1b[2J"),
    ],
)
def test_names_that_cannot_be(recipe, flag, monkeypatch):
    monkeypatch.setattr(type(PROGRAMS[recipe].PROGRAM), "execute", None)
    with pytest.raises(UserError) as raised:
        PROGRAMS[recipe].main([flag])
    line = printable(str(raised.value))
    assert line.startswith(f"{flag.partition('=')[0]} must be ")
    assert line.isascii() and line.isprintable()


@pytest.mark.parametrize(
    "flag",
    [
        "--name=Größe 1",
        "--name=-",
        "--name=a:b",
        "--runs=/",
        "--runs=a b/c:d",
        "--logdir=",
    ],
)
def test_names_that_can_be(flag):
    name, _, value = flag[2:].partition("=")
    assert getattr(parse("", mnist.PRESETS, "", [flag]), name) == value
    mnist.PRESETS["modern"].check()


def test_too_little_memory_is_one_line(tmp_path):
    """Each size is allowed; together they need 40 GB, and there are 34."""
    flags = "--data sample --vocabulary 1000000 --embedding 10000 --words 25".split()
    process = subprocess.run(
        [sys.executable, "-m", "recipes", "imdb", *flags, "--runs", str(tmp_path)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (2**35, 2**35)),
        capture_output=True,
        text=True,
        timeout=120,
    )
    line = "error: too little memory for these sizes: choose smaller ones\n"
    assert (process.returncode, process.stderr) == (2, line)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name", ["", "gs://bucket/runs", "a\nb", "a\udcff", "\x1b[2J"], ids=ascii
)
@pytest.mark.parametrize(
    "tool", [(runs,), (resume,), (predict, "mnist"), (predict, "imdb", "--text", "x")]
)
def test_folders_of_runs_that_cannot_be(tool, name):
    program, *arguments = tool
    with pytest.raises(UserError, match="argument --runs: it must be a folder of this"):
        program.main([*arguments, "--runs", name])


@pytest.mark.parametrize(
    ("program", "arguments", "message"),
    [
        (
            mnist,
            ["--cell", "no"],
            "argument --cell: invalid choice: 'no' (choose from ",
        ),
        (mnist, ["--epochs", "x"], "argument --epochs: invalid int value: 'x'"),
        (
            mnist,
            ["--units", "0"],
            "--units must be an integer from 1 to 10,000, got 0",
        ),
        (mnist, ["--\x1b[2J"], r"unrecognized arguments: --\x1b[2J"),
        (mnist, ["--name=\udcff"], "--name must be the name of a folder, not a path"),
        (resume, ["--run", "\x1b[2J"], r"there is no run \x1b[2J"),
        (runs, ["--runs", ""], "argument --runs: it must be a folder of this machine"),
        (mnist, ["--two\nlines"], "unrecognized arguments: --two lines"),
        (mnist, ["--args=--cell 'a"], 'ARGS: No closing quotation, got "--cell \'a"'),
        (imdb, ["--unit", "8"], "unrecognized arguments: --unit 8"),
        (imdb, ["--args=--unit 8"], "unrecognized arguments: --unit 8"),
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
        exit_with(program.main)
    assert exit.value.code == 2
    printed, line = capsys.readouterr()
    assert not printed
    assert line.startswith(f"error: {message}")
    assert line.endswith("\n") and line.count("\n") == 1


def test_args_are_split_as_a_shell_does_and_nothing_is_run(tmp_path):
    text = f"--name 'a b' --logdir \"c d\" $(touch {tmp_path}/ran) `x`;*"
    assert expand(["--seed=1", f"--args={text}"]) == [
        "--seed=1",
        *("--name", "a b", "--logdir", "c d"),
        *("$(touch", f"{tmp_path}/ran)", "`x`;*"),
    ]
    assert expand(["--args="]) == []
    assert expand(["--text=--args=x", "--name", "args"]) == [
        "--text=--args=x",
        "--name",
        "args",
    ]
    assert not list(tmp_path.iterdir())


def test_help_explains_every_flag(capsys):
    with pytest.raises(SystemExit) as exit:
        imdb.main(["--help"])
    assert not exit.value.code
    text = capsys.readouterr().out
    flags = [line.split()[0] for line in text.splitlines() if line.startswith("  --")]
    fields = dataclasses.fields(imdb.ImdbConfig)
    assert flags == ["--" + field.name.replace("_", "-") for field in fields]
    assert " ".join(text.split()).count("(default: ") == len(flags)
    assert "default: modern: 400; best: 400; classic: 80" in " ".join(text.split())


@pytest.mark.parametrize("program", [mnist, imdb])
def test_help_gives_accuracy_minutes_machine_and_command_of_every_preset(
    program, capsys
):
    with pytest.raises(SystemExit):
        program.main(["--help"])
    text = capsys.readouterr().out
    recipe = program.PROGRAM.recipe
    for preset in program.PRESETS:
        (row,) = [line for line in text.splitlines() if line.split()[:1] == [preset]]
        _, accuracy, percent, minutes, *command = row.split()
        assert 80 < float(accuracy) < 100 and percent == "%"
        assert 1 < float(minutes) < 60
        assert command[:2] == ["make", f"train-{recipe}"]
        assert command[2:] in ([], [f"PRESET={preset}"])
        assert bool(command[2:]) == (preset != next(iter(program.PRESETS)))
    words = " ".join(text.split())
    assert "on 2 cores of an AMD EPYC without a GPU" in words


@pytest.mark.parametrize(
    "call",
    [
        lambda: mnist.main(["--data", "sample"]),
        lambda: imdb.main(["--data", "sample"]),
        predict.import_keras,
    ],
)
def test_another_backend_is_a_clear_error(call, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    message = "must be tensorflow, got jax: set KERAS_BACKEND=tensorflow"
    with pytest.raises(UserError, match=message):
        call()
