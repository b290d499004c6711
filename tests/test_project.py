"""The project as a whole: README, registry, public API."""

import importlib
import inspect
import os
import pathlib
import re
import socket
import subprocess
import sys

import pytest
from reference import REFERENCES

import custom_layers
import custom_layers.conversion
from custom_layers import LAYERS

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}
BLOCKS = {
    name: re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    for name, page in PAGES.items()
}


def test_readme_is_short():
    assert len(README.splitlines()) <= 120


@pytest.mark.parametrize("page", [name for name, blocks in BLOCKS.items() if blocks])
def test_python_of_a_page_runs(page, tmp_path):
    """The blocks, one after the other, print what their comments say; a block that
    loads a model or chooses a backend does so in another process."""
    blocks = BLOCKS[page]
    alone = [block for block in blocks if re.search("load_model|KERAS_BACKEND", block)]
    for program in ("".join(block for block in blocks if block not in alone), *alone):
        # Those of one training: see docs/scaling.md.
        processes = 2 if "initialize()" in program else 1
        results = finish(*start(program, tmp_path, processes))
        expected = re.findall(r"^# (.*)$", program, re.MULTILINE)
        for returncode, printed, errors in results:
            assert returncode == 0, errors
            assert printed.splitlines() == expected or not expected


def start(program, folder, count):
    """Start a program in ``count`` processes, on JAX with four virtual devices."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    environment = {
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4 "
        "--xla_backend_optimization_level=0",  # compiles faster
        "KERAS_DISTRIBUTION_JOB_ADDRESSES": address,
        "KERAS_DISTRIBUTION_NUM_PROCESSES": str(count),
    }
    return [
        subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=folder,
            env={
                **os.environ,
                **environment,
                "KERAS_DISTRIBUTION_PROCESS_ID": str(number),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]


def finish(*processes):
    """Return exit status, standard output and standard error of each process."""
    try:
        outputs = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    return [
        (process.returncode, *output)
        for process, output in zip(processes, outputs, strict=True)
    ]


def test_there_is_python_to_run():
    """That of the README, of each page of which a reader copies some, and a model that
    another process loads."""
    assert {"README.md", "docs/cells.md", "docs/gpu.md", "docs/scaling.md"} <= {
        name for name, blocks in BLOCKS.items() if blocks
    }
    assert any("load_model" in block for block in BLOCKS["docs/cells.md"])
    assert any("initialize()" in block for block in BLOCKS["docs/scaling.md"])


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_a_page_exist(page):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    used = set(re.findall(r"(?:`|^)make ([a-z-]+)", PAGES[page], re.MULTILINE))
    assert used <= set(targets)


@pytest.mark.parametrize("name", LAYERS)
def test_every_cell_has_its_loop_and_its_row(name):
    assert name in REFERENCES
    layer = getattr(LAYERS[name], "func", LAYERS[name])
    assert re.search(
        rf"^\| `{name}` \| `[\w.]*{layer.__name__}\b", README, re.MULTILINE
    )


def test_every_public_name_is_in_the_api_reference():
    documented = re.findall(
        r"^\.\. auto\w+:: (\w+)$", PAGES["docs/api.md"], re.MULTILINE
    )
    public = custom_layers.__all__ + custom_layers.conversion.__all__
    assert sorted(documented) == sorted(public)


@pytest.fixture
def charts(monkeypatch):
    """The program that draws the charts, as a module."""
    monkeypatch.syspath_prepend(ROOT / "docs")
    return importlib.import_module("charts")


def test_charts_show_the_figures_of_the_benchmarks(charts, tmp_path):
    """The committed ones have the texts of those drawn now: after another measurement
    they must be drawn again."""
    charts.draw(tmp_path)
    drawn = sorted(path.name for path in tmp_path.iterdir())
    assert drawn == sorted(path.name for path in charts.IMAGES.glob("speed-*.svg"))
    for name in drawn:
        now, committed = (
            re.findall(r"<text[^>]*>([^<]*)</text>", (folder / name).read_text())
            for folder in (tmp_path, charts.IMAGES)
        )
        assert len(now) > 10
        assert now == committed


@pytest.mark.parametrize(
    ("layer", "section"),
    [
        ("peephole", "Peephole LSTM"),
        ("coupled", "Coupled gates"),
        ("gru", "GRU"),
        ("depth-gated", "Depth-gated LSTM"),
        ("clockwork", "Clockwork RNN"),
        ("weight-drop", "Weight drop"),
    ],
)
def test_page_of_cells_names_the_times_of_the_benchmarks(layer, section, charts):
    (row,) = (
        row for row in charts.read_tables()["Training step"] if row["layer"] == layer
    )
    ratios = [row[shape].split(" · ")[1] for shape in list(row)[1:]]
    fastest, slowest = min(ratios, key=float), max(ratios, key=float)
    text = PAGES["docs/cells.md"].split(f"\n## {section}\n")[1].split("\n## ")[0]
    assert f"takes {fastest} to {slowest} " in " ".join(text.split())


def test_one_direction():
    """recipes → custom_layers → keras, and TensorFlow for its loops and the native
    kernel on a CPU, for text, which no other backend has, and for the export to ONNX,
    which traces its graphs; the references import no Keras."""
    for path in (ROOT / "custom_layers").rglob("*.py"):
        imported = set(
            re.findall(
                r"^\s*(?:from|import) (recipes|tensorflow|jax)\b",
                path.read_text(),
                re.M,
            )
        )
        needs_it = path.name in (
            *("tensorflow_cpu.py", "tensorflow_native.py", "library.py"),
            *("text.py", "tracing.py"),
        )
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
            takes_some = bool(inspect.signature(thing).parameters)
            assert ("Args:" in thing.__doc__) == takes_some, name
