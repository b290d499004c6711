"""Flags: what is refused, in one line, and what --help explains."""

import dataclasses
import sys

import keras
import pytest

from recipes import imdb, mnist, predict, resume, runs
from recipes.run.command_line import UserError, exit_with, expand

PROGRAMS = {"mnist": mnist, "imdb": imdb}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("mnist --units 0", "--units must be at least 1, got 0"),
        ("mnist --batch -1", "--batch must be at least 1, got -1"),
        ("mnist --epochs 0", "--epochs and --steps are both 0"),
        ("mnist --target 2", "--target must be at most 1, got 2.0"),
        ("mnist --target nan", "--target must be at least 0.0, got nan"),
        ("mnist --name ..", "--name must be the name of a folder"),
        ("mnist --name a/b", "--name must be the name of a folder"),
        ("mnist --seed 99999999999", "--seed must be below 2**32, got 99999999999"),
        (
            "mnist --cell clockwork --units 10",
            "--units 10 with --cell clockwork: units",
        ),
        ("mnist --distortion -1", "--distortion must be at least 0, got -1.0"),
        ("mnist --distortion inf", "--distortion must be finite, got inf"),
        ("mnist --learning-rate 0", "--learning-rate must be above 0, got 0.0"),
        ("mnist --batch 5000", "--batch must be at most the 1318 training examples"),
        ("mnist --units 10000000", "too little memory for these sizes: choose smaller"),
        ("imdb --words 30", "--words must be a multiple of 25, got 30"),
        ("imdb --vocabulary 2", "--vocabulary must be at least 3, got 2"),
    ],
)
def test_wrong_values(command, message, tmp_path):
    recipe, *arguments = command.split()
    small = f"--data sample --cell simple-rnn --epochs 1 --runs {tmp_path}".split()
    with pytest.raises(UserError) as raised:
        PROGRAMS[recipe].main([*small, *arguments])
    assert message in str(raised.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("program", "arguments", "message"),
    [
        (
            mnist,
            ["--cell", "no"],
            "argument --cell: invalid choice: 'no' (choose from ",
        ),
        (mnist, ["--epochs", "x"], "argument --epochs: invalid int value: 'x'"),
        (mnist, ["--units", "0"], "--units must be at least 1, got 0"),
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
    assert "default: modern: 400; classic: 80" in " ".join(text.split())


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
        assert 1 < float(minutes) < 10
        assert command[:2] == ["make", f"train-{recipe}"]
        assert command[2:] in ([], [f"PRESET={preset}"])
        assert bool(command[2:]) == (preset != next(iter(program.PRESETS)))
    machine = "2 cores of an AMD EPYC (Zen 4) without a GPU"
    assert machine in " ".join(text.split())


@pytest.mark.parametrize(
    "call",
    [
        lambda: mnist.main(["--data", "sample"]),
        lambda: imdb.main(["--data", "sample"]),
        lambda: predict.main(["imdb", "--text", "x"]),
    ],
)
def test_another_backend_is_a_clear_error(call, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    message = "must be tensorflow, got jax: set KERAS_BACKEND=tensorflow"
    with pytest.raises(UserError, match=message):
        call()
