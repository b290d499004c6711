"""The Makefile: a variable reaches the program as it is, and is never run."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
TARGETS = {
    "train-mnist": "CELL PRESET EPOCHS UNITS BATCH SEED DATA NAME ARGS",
    "train-imdb": "CELL PRESET EPOCHS UNITS BATCH SEED DATA NAME ARGS",
    "resume": "RUN ARGS",
    "runs": "ARGS",
    "predict-mnist": "IMAGE RUN ARGS",
    "predict-imdb": "TEXT FILE RUN ARGS",
    "export": "RUN FORMAT ARGS",
    "bench": "ARGS",
    "compare": "TASK CELLS SEEDS BUDGET WORKERS ARGS",
}
VALUES = [
    "",
    "plain",
    "two words  and more",
    "it's",
    'a "quotation"',
    "$(shell touch ran)",
    "${shell touch ran}",
    "$(error hi)",
    "$(warning hi)$(info hi)",
    "$(eval all: ; touch ran)",
    "$(touch ran)",
    "`touch ran`",
    "; touch ran",
    "&& touch ran",
    "| touch ran",
    "> ran",
    "x & touch ran &",
    "a # comment",
    "$",
    "$$",
    "$$HOME $HOME ${HOME}",
    "$(NAME)$(CELL)$(ARGS)$(TEXT)",
    "$(",
    "${",
    "$(shell",
    ")",
    "two\nlines",
    "a\n\ttouch ran",
    "a\nall: ; touch ran",
    "$(shell touch ran)\n$(shell touch ran)",
    "back\\slash \\\\ \\n",
    "ends with \\",
    "*",
    "~",
    "? [a-z]* {a,b}",
    "!history",
    "--help",
    "-n",
    "@x +y",
    "%",
    "a=b := c",
    "CELL=x",
    ":= x",
    "é ü ß 中 😀",
    "tab\there",
    "endef",
    "\x1b[31m",
    "' ; touch ran ; '",
    '" ; touch ran ; "',
    "'$(shell touch ran)'",
    '"$(shell touch ran)"',
    "x" * 5000,
]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with the Makefile and a Python that prints its arguments."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copy(ROOT / "Makefile", folder)
    python = folder / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(
        f"#!{sys.executable} -S\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n"
    )
    python.chmod(0o755)
    for name in ("requirements", "requirements-dev", "requirements-export"):
        (folder / f"{name}.txt").touch()
    for name in ("ready", "ready-native", "ready-dev", "ready-export"):
        (folder / ".venv" / name).touch()
    return folder


def make(folder, *arguments, **environment):
    """Call make; return the result."""
    inherited = {
        name: value for name, value in os.environ.items() if "MAKE" not in name
    }
    inherited.pop("MFLAGS", None)
    return subprocess.run(
        ["make", "-s", *arguments],
        cwd=folder,
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def arguments_of(result):
    """Return the arguments of the first program that make started."""
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    return json.loads(result.stdout.splitlines()[0])[2:]


def expected(target, values):
    """Return what a program shall get: its words, and its flags, sorted."""
    before = {
        "train-mnist": ["mnist"],
        "train-imdb": ["imdb"],
        "predict-mnist": ["predict", "mnist"],
        "predict-imdb": ["predict", "imdb"],
        "bench": [],
    }.get(target, [target])
    given = [f"--{name.lower()}={value}" for name, value in values.items()]
    return before, sorted(given)


@pytest.mark.parametrize("target", TARGETS)
def test_a_variable_that_a_target_does_not_take_is_an_error(target, project):
    other = "CELL" if target == "compare" else "CELLS"
    result = make(project, target, f"{other}=$(shell touch ran)")
    assert (result.returncode, result.stdout) == (2, "")
    words = f"{target} takes no {other}, but {TARGETS[target]}"
    assert f"*** {words}.  Stop." in result.stderr
    assert not (project / "ran").exists()


@pytest.mark.parametrize("target", TARGETS)
def test_variables_reach_the_program_as_they_are(target, project):
    """Every value in every variable: each time other values stand in the others."""
    names = TARGETS[target].split()
    for first in range(len(VALUES)):
        values = {
            name: VALUES[(first + 7 * number) % len(VALUES)]
            for number, name in enumerate(names)
        }
        assignments = [f"{name}={value}" for name, value in values.items()]
        arguments = arguments_of(make(project, target, *assignments))
        before, given = expected(target, values)
        assert arguments[: len(before)] == before
        assert sorted(arguments[len(before) :]) == given
    assert not (project / "ran").exists()


@pytest.mark.parametrize("value", [value for value in VALUES if "$" in value])
def test_a_misspelt_variable_is_an_error_and_not_run(value, project):
    result = make(project, "runs", f"NAEM={value}")
    assert (result.returncode, result.stdout) == (2, "")
    assert "runs takes no NAEM, but ARGS.  Stop." in result.stderr
    assert not (project / "ran").exists()


def test_variables_of_the_environment_do_not_count(project):
    """Many systems set NAME."""
    environment = dict.fromkeys(" ".join(TARGETS.values()).split(), "desktop")
    for target in TARGETS:
        before, _ = expected(target, {})
        assert arguments_of(make(project, target, **environment)) == before


def test_help_names_every_target_and_variable(project):
    text = make(project).stdout
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    assert set(targets) > set(TARGETS)
    assert set(targets) <= {line.split()[0] for line in text.splitlines()}
    for name in " ".join(TARGETS.values()).split():
        assert re.search(rf"\b{name}\b", text)


def test_a_python_of_another_version_is_one_line(project, tmp_path):
    """Also one that is no Python, and none at all; the environment is not touched."""
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text())
    (tmp_path / "requirements.txt").touch()
    for version in ("3.9.18", "3.14.0", "2.7.18"):
        python = tmp_path / f"python{version}"
        python.write_text(
            f"#!{sys.executable}\nimport sys\n"
            f"sys.version_info = ({version.replace('.', ', ')})\n"
            "assert sys.argv[1] == '-c', 'it would make the environment'\n"
            "exec(sys.argv[2])\n"
        )
        python.chmod(0o755)
        result = make(tmp_path, "setup", f"PYTHON={python}")
        assert result.returncode == 2
        line, *_ = result.stderr.splitlines()
        assert line == (
            f"error: PYTHON must name a Python from 3.10 to 3.13, got '{python}'"
        )
        assert not (tmp_path / ".venv").exists()
    for name in ("no/python", "/bin/false", ""):
        result = make(tmp_path, "setup", f"PYTHON={name}")
        assert result.stderr.startswith("error: PYTHON must name a Python from 3.10")
        assert "Traceback" not in result.stderr
        assert not (tmp_path / ".venv").exists()
