"""The project as a whole: README, registry, public API."""

import os
import pathlib
import re
import subprocess
import sys

import pytest
from reference import REFERENCES

import custom_layers
from custom_layers import LAYERS

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_readme_s_python_runs(tmp_path):
    """The blocks print what their comments say; the one that loads a model, in another
    process."""
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) >= 3
    loading = [block for block in blocks if "load_model" in block]
    assert len(loading) == 1
    for program in (
        "".join(block for block in blocks if block not in loading),
        *loading,
    ):
        result = subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert result.returncode == 0, result.stderr
        expected = re.findall(r"^# (.*)$", program, re.MULTILINE)
        assert result.stdout.splitlines() == expected or not expected


def test_readme_s_commands_exist():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    used = set(re.findall(r"\bmake ([a-z-]+)", README)) - {"and"}
    assert used <= set(targets)


@pytest.mark.parametrize("name", LAYERS)
def test_every_cell_has_its_loop_and_its_row(name):
    assert name in REFERENCES
    layer = getattr(LAYERS[name], "func", LAYERS[name])
    assert re.search(
        rf"^\| `{name}` \| `[\w.]*{layer.__name__}\b", README, re.MULTILINE
    )


def test_one_direction():
    """recipes → custom_layers → keras, and TensorFlow for its loops on a CPU and for
    text, which no other backend has; the references import no Keras."""
    for path in (ROOT / "custom_layers").rglob("*.py"):
        imported = set(
            re.findall(
                r"^\s*(?:from|import) (recipes|tensorflow|jax)\b",
                path.read_text(),
                re.M,
            )
        )
        needs_it = path.name in ("tensorflow_cpu.py", "text.py")
        assert imported <= ({"tensorflow"} if needs_it else set()), path
    assert not re.search(
        r"^\s*(from|import) (?!numpy)",
        (ROOT / "tests/custom_layers/reference.py").read_text(),
        re.M,
    )


def test_public_names_are_documented():
    for name in custom_layers.__all__:
        thing = getattr(custom_layers, name)
        if name != "LAYERS":
            assert ">>> " in thing.__doc__, name
            assert "Args:" in thing.__doc__, name
