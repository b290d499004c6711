"""How a program starts and ends: fast, quiet and interruptible; and what imports do."""

import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time

import pytest

from recipes.__main__ import PROGRAMS
from recipes.run.command_line import UserError, exit_with
from recipes.run.keras_settings import check_keras_settings

ROOT = pathlib.Path(__file__).parents[2]
PARTS = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "recipes").rglob("*.py")
)


def python(*arguments, path="", **options):
    """Run Python in the project's folder, with ``path`` before it on its path."""
    options = {"cwd": ROOT, "capture_output": True, "timeout": 120} | options
    options["env"] = {**os.environ, "PYTHONPATH": str(path)} | options.get("env", {})
    return subprocess.run([sys.executable, *map(str, arguments)], text=True, **options)


def make_program(folder, source):
    """Make a package `recipes` in which the program mnist is something else."""
    package = folder / "recipes"
    package.mkdir()
    for name in ("__init__.py", "__main__.py", "run"):
        (package / name).symlink_to(ROOT / "recipes" / name)
    (package / "mnist.py").write_text(source)


IMPORT = """
import importlib, os, signal, sys
def state():
    file = os.fstat(2)
    return signal.getsignal(signal.SIGINT), file.st_dev, file.st_ino
before = state()
for part in sys.argv[1:]:
    importlib.import_module(part)
assert state() == before
assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "1"
for name in ("sklearn", "matplotlib.pyplot"):
    assert sys.modules.get(name, name) is not None, name
import matplotlib.pyplot, sklearn
"""


@pytest.mark.parametrize(
    "parts",
    [["recipes.mnist"], ["recipes.training.batches"], PARTS],
    ids=["a program", "a part", "all parts"],
)
def test_importing_changes_nothing(parts):
    """Neither the handler of Ctrl-C, nor standard error, nor what can be imported."""
    assert len(PARTS) > 20
    result = python("-c", IMPORT, *parts, env={"TF_CPP_MIN_LOG_LEVEL": "1"})
    assert result.returncode == 0, result.stderr


def test_no_part_knows_a_program():
    """Programs and tools import parts, and no part imports one of them."""
    for path in (ROOT / "recipes").glob("*/*.py"):
        imported = re.findall(
            r"^\s*(?:from|import) recipes(?:\.| import )(\w+)", path.read_text(), re.M
        )
        assert not set(imported) & set(PROGRAMS), path


PROBE = """
import sys, keras
def main(arguments):
    print(arguments, sorted({"sklearn", "matplotlib.pyplot"} & set(sys.modules)))
    import matplotlib.pyplot, sklearn
"""


def test_a_program_starts_without_packages_that_it_does_not_use(tmp_path):
    """Keras would import them; whoever needs them can import them afterwards."""
    make_program(tmp_path, PROBE)
    result = python("-m", "recipes", "mnist", "a", "b", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (0, "['a', 'b'] []\n"), result.stderr
    assert result.stderr == ""


def test_nothing_else_is_on_standard_error(tmp_path):
    """What the libraries would write there included."""
    environment = {"TFDS_DATA_DIR": str(tmp_path), "https_proxy": "http://127.0.0.1:9"}
    result = python("-m", "recipes", "mnist", "--data", "full", env=environment)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1


CRASHES = {
    "segmentation fault": (
        "import faulthandler; faulthandler._sigsegv()",
        signal.SIGSEGV,
    ),
    "abort": ("import os; os.write(2, b'no AVX\\n'); os.abort()", signal.SIGABRT),
}


@pytest.mark.parametrize("crash", CRASHES)
def test_a_crash_in_native_code_is_not_silent(crash, tmp_path):
    """In place of a library is a module that crashes."""
    code, number = CRASHES[crash]
    (tmp_path / "keras.py").write_text(code)
    result = python("-m", "recipes", "mnist", path=tmp_path)
    assert result.returncode == -number
    assert result.stderr.startswith("Fatal Python error: ")
    assert "keras.py" in result.stderr


def test_a_failed_import_shows_what_the_library_wrote(tmp_path):
    (tmp_path / "keras.py").write_text(
        "import os; os.write(2, b'why it fails\\n'); raise ImportError('no keras')"
    )
    result = python("-m", "recipes", "mnist", path=tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith("why it fails\n")
    assert result.stderr.endswith("ImportError: no keras\n")


def test_the_table_of_runs_needs_no_library(tmp_path):
    """So that it takes a tenth of a second."""
    for name in ("keras", "tensorflow", "numpy", "matplotlib"):
        (tmp_path / f"{name}.py").write_text("raise AssertionError")
    result = python("-m", "recipes", "runs", "--runs", tmp_path, path=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("program", PROGRAMS)
def test_python_m_starts_the_module_too(program):
    source = (ROOT / "recipes" / f"{program}.py").read_text()
    assert source.endswith('\n\nif __name__ == "__main__":\n    exit_with(main)\n')


SETTINGS = {
    "floatx": ("nonsense", 5, None, ["float32"], "bfloat16"),
    "epsilon": ("small", None, 1, float("nan"), True),
    "backend": ("nonsense", 5, None, "jax"),
    "image_data_format": ("nonsense", None, {}),
}
WRONG_FILES = [json.dumps({key: value}) for key in SETTINGS for value in SETTINGS[key]]
WRONG_FILES += ["[]", "null", "5", '"text"', "[" * 100_000]


def start_with(monkeypatch, settings=None, **environment):
    """Check the user's settings of Keras; return the line that tells what is wrong."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as raised:
        check_keras_settings()
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """The file of Keras's settings, which does not exist yet."""
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    return tmp_path / "keras.json"


@pytest.mark.parametrize("text", WRONG_FILES, ids=lambda text: text[:30])
def test_settings_with_which_keras_cannot_start(text, settings, monkeypatch):
    settings.write_text(text)
    line = start_with(monkeypatch)
    backend = "the backend of Keras must be tensorflow, got "
    assert line.startswith((f"{settings} is damaged (", backend))


def test_settings_that_cannot_be_read(settings, monkeypatch):
    settings.mkdir()
    assert start_with(monkeypatch) == f"cannot read {settings}: Is a directory"


@pytest.mark.parametrize(
    "text", ["", "{", "\xff", "{}", '{"floatx": "float64"}', '{"other": 5}']
)
def test_settings_with_which_keras_can_start(text, settings):
    """It ignores a file that is no JSON: another process may be writing it."""
    check_keras_settings()
    settings.write_text(text, encoding="latin-1")
    check_keras_settings()


def test_variables_with_which_no_program_can_run(settings, monkeypatch):
    for backend in ("nonsense", "jax", "TensorFlow"):
        line = start_with(monkeypatch, KERAS_BACKEND=backend)
        assert line.startswith(
            f"the backend of Keras must be tensorflow, got {backend}"
        )
    settings.write_text('{"backend": "nonsense"}')
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    check_keras_settings()
    for name in ("KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH"):
        assert start_with(monkeypatch, **{name: "1"}).startswith(f"{name} must not be")
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        *(("mnist --data sample", 2), ("imdb", 2), ("predict imdb --text x", 2)),
        *(("resume", 2), ("runs", 0)),
    ],
)
def test_wrong_settings_are_one_line(arguments, status, settings, tmp_path):
    """The table of runs needs no Keras."""
    settings.write_text('{"floatx": "nonsense"}')
    for environment in (
        {"KERAS_HOME": str(tmp_path)},
        {"KERAS_HOME": str(tmp_path / "none"), "KERAS_BACKEND": "nonsense"},
    ):
        command = [*arguments.split(), "--runs", tmp_path]
        result = python("-m", "recipes", *command, env=environment)
        assert result.returncode == status
        assert result.stderr.count("\n") == status // 2
        assert result.stderr.startswith("error: "[: 7 * (status // 2)])
        assert "Traceback" not in result.stderr


def test_letters_that_the_terminal_cannot_show_are_escaped(tmp_path):
    metrics = tmp_path / "mnist" / "Größe" / "metrics.json"
    metrics.parent.mkdir(parents=True)
    metrics.touch()
    command = ["-m", "recipes", "runs", "--runs", tmp_path]
    result = python(*command, env={"PYTHONIOENCODING": "ascii"})
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.endswith(r"mnist/Gr\xf6\xdfe" + "\n")


def test_which_programs_there_are(capfd):
    result = python("-m", "recipes", "--help")
    assert (result.returncode, result.stderr) == (0, "")
    words = result.stdout.split()
    assert set(PROGRAMS) <= set(words)
    for arguments, message in (
        (["nonsense"], "argument PROGRAM: invalid choice: 'nonsense'"),
        ([], "the following arguments are required: PROGRAM"),
    ):
        result = python("-m", "recipes", *arguments)
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr.startswith(f"error: {message}")
        assert result.stderr.count("\n") == 1


INTERRUPT = "import os, signal; os.kill(os.getpid(), signal.SIGINT)\n"
RESTART = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.{})
os.execv(sys.executable, [sys.executable, "-m", "recipes", "mnist"])
"""


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize(
    ("when", "status"),
    [("argparse", -signal.SIGINT), ("keras", -signal.SIGINT), ("main", 130)],
)
def test_ctrl_c_from_the_first_import_on(when, status, ignored, tmp_path):
    """In place of libraries are modules that interrupt. An ignored Ctrl-C stays so."""
    body = INTERRUPT if when == "main" else "pass"
    make_program(tmp_path, f"import keras\ndef main(arguments):\n    {body}\n")
    (tmp_path / "keras.py").write_text(INTERRUPT if when == "keras" else "")
    if when == "argparse":  # the first import of the parts
        (tmp_path / "argparse.py").write_text(
            INTERRUPT + "class ArgumentParser: pass\nraise SystemExit\n"
        )
    restart = RESTART.format("SIG_IGN" if ignored else "SIG_DFL")
    result = python("-c", restart, path=tmp_path, cwd=tmp_path)
    assert result.stderr == ""
    assert result.returncode == (0 if ignored else status)


def test_ctrl_c_during_the_very_first_import(tmp_path):
    """In place of the library's module `signal` is one that interrupts."""
    (tmp_path / "signal.py").write_text("import os; os.kill(os.getpid(), 2)\n")
    result = python("-m", "recipes", "runs", path=tmp_path)
    assert (result.returncode, result.stderr) == (130, "")


def test_ctrl_c_at_the_very_end(tmp_path):
    """While Python calls what was registered for its end."""
    source = "import atexit\ndef main(arguments):\n    atexit.register(end)\n"
    make_program(tmp_path, f"{source}def end():\n    {INTERRUPT}")
    result = python("-m", "recipes", "mnist", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (-signal.SIGINT, "")


def test_ctrl_c_at_any_moment_of_the_start(tmp_path):
    """Only where Python itself starts, and not in this project, is a traceback."""
    rng = random.Random(1)
    command = [sys.executable, "-m", "recipes", "runs", "--runs", tmp_path]
    for _ in range(60):
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        time.sleep(rng.uniform(0, 0.05))
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        # A line of a traceback; Python's own errors may name the folder, too.
        assert f'File "{ROOT / "recipes"}' not in errors
        if "Traceback" not in errors and "Fatal Python error" not in errors:
            assert errors == ""
            assert process.returncode in (0, 130, -signal.SIGINT)


def raises(error):
    def main(arguments):
        raise error

    return main


@pytest.mark.parametrize(
    ("main", "status", "line"),
    [
        (lambda arguments: 0, 0, ""),
        (lambda arguments: 1, 1, ""),
        (lambda arguments: len(arguments), 3, ""),
        (raises(UserError("one\ntwo")), 2, "error: one two\n"),
        (raises(KeyboardInterrupt), 130, ""),
    ],
)
def test_the_exit_status(main, status, line, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["program", "--a", "b", "c"])
    with pytest.raises(SystemExit) as exit:
        exit_with(main)
    assert exit.value.code == status
    assert capsys.readouterr() == ("", line)
