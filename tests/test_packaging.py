"""The package as others get it, and the files that others work with."""

import inspect
import os
import pathlib
import re
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile

import pytest
import yaml
from packaging.requirements import Requirement

import custom_layers

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = pathlib.Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
PINS = [
    Requirement(line)
    for name in ("requirements.txt", "requirements-dev.txt")
    for line in re.findall(r"^\w[^#\n]*", (ROOT / name).read_text(), re.MULTILINE)
]


def run(*command, **options):
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=300, **options
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """A folder with the sdist, and the wheel that was built from it, as `make dist`
    builds them: with the setuptools that is installed, so without the network."""
    folder = tmp_path_factory.mktemp("dist")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "custom_layers"):
        run("cp", "-r", str(ROOT / name), str(source))
    build = [sys.executable, "-m", "build", "--no-isolation"]
    run(*build, "--outdir", str(folder), str(source))
    return folder


packaging = pytest.mark.xdist_group("packaging")


@packaging
def test_wheel_and_sdist_hold_custom_layers_and_nothing_else(dist):
    (wheel,) = dist.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = {
        f"custom_layers/engine/native/{name}"
        for name in ("lstm.h", "lstm.cc", "lstm_path.cc", "tensorflow_op.cc")
    }
    assert {"custom_layers/py.typed"} | sources <= names
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {
        "custom_layers"
    }
    (sdist,) = dist.glob("*.tar.gz")
    names = [name.partition("/")[2] for name in tarfile.open(sdist).getnames()]
    assert {"LICENSE", "README.md", "pyproject.toml"} | sources <= set(names)
    assert not [name for name in names if re.match("recipes|benchmarks|tests", name)]


@pytest.fixture(scope="module", params=["*.whl", "*.tar.gz"])
def python(request, dist, tmp_path_factory):
    """The Python of an environment in which the package is installed.

    It sees the packages of this environment: pip checks the dependencies, and asks no
    index."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    base = {"base": str(folder), "platbase": str(folder)}
    site = pathlib.Path(sysconfig.get_path("purelib", "venv", base))
    (site / "others.pth").write_text(sysconfig.get_path("purelib"))
    python = str(folder / "bin/python")
    (package,) = dist.glob(request.param)
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    run(*pip, "--no-index", "--no-build-isolation", str(package))
    return python


@packaging
@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_an_installed_package_runs_on_every_backend(python, backend):
    if backend == "torch":  # the requirements have the other two
        pytest.importorskip("torch")
    environment = {**os.environ, "KERAS_BACKEND": backend}
    printed = run(python, "-I", str(ROOT / "tests/installed.py"), env=environment)
    assert printed == f"custom_layers {custom_layers.__version__} on {backend}\n"


@packaging
@pytest.mark.parametrize("python", ["*.whl"], indirect=True)
@pytest.mark.parametrize(
    ("CXX", "said"),
    [
        ("true", "true is no compiler: it wrote no library"),
        ("nowhere", "CXX is 'nowhere', which is no program"),
    ],
)
def test_an_installed_package_says_why_it_builds_no_native_kernel(
    CXX, said, python, tmp_path
):
    environment = {**os.environ, "CXX": CXX, "XDG_CACHE_HOME": str(tmp_path)}
    build = [python, "-I", "-m", "custom_layers.build_native"]
    result = subprocess.run(
        build, env=environment, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].endswith(f": {said}"), result.stderr
    assert not list(tmp_path.rglob("*.so"))


@packaging
@pytest.mark.parametrize("python", ["*.whl"], indirect=True)
def test_a_type_checker_finds_wrong_arguments(python, tmp_path):
    """What mypy says of right and wrong calls of the installed package."""
    program = tmp_path / "program.py"
    program.write_text(
        "import numpy as np\n"
        "from custom_layers import ClockworkRNNCell, PeepholeLSTM, trace_gates\n"
        "layer = PeepholeLSTM(4, return_sequences=True, dropout=0.1)\n"
        "gates = trace_gates(layer, np.ones((2, 5, 3)))\n"
        "print(gates['f'].shape, ClockworkRNNCell(4, [1, 2]))\n"
        "PeepholeLSTM('4')\n"
        "PeepholeLSTM(4, return_sequences='yes')\n"
        "ClockworkRNNCell(4, periods=3)\n"
        "trace_gates(layer, np.ones((2, 5, 3))).shape\n"
    )
    mypy = [sys.executable, "-m", "mypy", "--python-executable", python, str(program)]
    result = subprocess.run(
        mypy, cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    wrong = re.findall(r"^program.py:(\d+): error", result.stdout, re.MULTILINE)
    assert wrong == ["6", "7", "8", "9"], result.stdout + result.stderr


def test_extras_allow_what_the_tests_use():
    """Each pin lies in the range that pyproject.toml gives, and each package that only
    the tests need is in the extra `dev`."""
    ranges = [Requirement(line) for line in PROJECT["dependencies"]]
    for lines in PROJECT["optional-dependencies"].values():
        ranges += map(Requirement, lines)
    allowed = {each.name: each.specifier for each in ranges}
    for pin in PINS:
        if pin.name in allowed:
            (exact,) = pin.specifier
            assert exact.version in allowed[pin.name], pin
    development = (ROOT / "requirements-dev.txt").read_text()
    names = set(re.findall(r"^([\w-]+)(?=[=>])", development, re.MULTILINE))
    assert names <= set(allowed)


def signatures():
    """Yield the public functions, and the constructors written in this package."""
    for name in custom_layers.__all__:
        thing = getattr(custom_layers, name)
        if inspect.isclass(thing):
            for base in inspect.getmro(thing):
                if base.__module__.startswith("custom_layers") and (
                    "__init__" in vars(base)
                ):
                    yield base.__qualname__, vars(base)["__init__"]
        elif callable(thing):
            yield name, thing


@pytest.mark.parametrize("name, function", dict(signatures()).items())
def test_public_signatures_have_types(name, function):
    signature = inspect.signature(function)
    assert signature.return_annotation is not inspect.Signature.empty
    for parameter in signature.parameters.values():
        annotated = parameter.annotation is not inspect.Parameter.empty
        assert annotated or parameter.name == "self", parameter


def commands(workflow):
    """Return the commands that the jobs of a workflow run."""
    jobs = yaml.safe_load(workflow.read_text())["jobs"].values()
    steps = [step for job in jobs for step in job.get("steps", ())]
    return [step["run"] for step in steps if "run" in step]


def test_workflows_call_targets_of_make_and_files_that_exist():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    called = set()
    for workflow in WORKFLOWS:
        for command in commands(workflow):
            for words in re.findall(r"\bmake ([^\n;&|]+)", command):
                called |= {
                    word for word in words.split() if re.match(r"[a-z-]+$", word)
                }
                for variable in re.findall(r"\b([A-Z]+)=", words):
                    assert re.search(
                        rf"^(export )?{variable} \?=", makefile, re.MULTILINE
                    )
            for path in re.findall(r"\btests/[\w./]+", command):
                assert (ROOT / path).exists(), command
        for job in yaml.safe_load(workflow.read_text())["jobs"].values():
            if "uses" in job:
                assert (ROOT / job["uses"]).exists()
    assert called <= targets
    assert {"setup", "lint", "test", "test-backends", "dist"} <= called


def test_workflows_cover_each_backend_and_the_oldest_and_newest_python():
    jobs = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text())["jobs"]
    for name in ("cells", "install"):
        backends = jobs[name]["strategy"]["matrix"]["backend"]
        assert backends == ["tensorflow", "jax", "torch"]
        assert set(backends) <= set(PROJECT["optional-dependencies"])
    oldest, end = re.findall(r"3\.\d+", PROJECT["requires-python"])
    newest = f"3.{int(end.partition('.')[2]) - 1}"
    assert jobs["recipes"]["strategy"]["matrix"]["python"] == [oldest, newest]


def test_other_yaml_can_be_read():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    entries = {hook.get("entry") for repo in hooks for hook in repo["hooks"]}
    assert {"make format", "make lint"} <= entries
    form = yaml.safe_load((ROOT / ".github/ISSUE_TEMPLATE/bug.yml").read_text())
    assert all(field["attributes"]["label"] for field in form["body"])


def test_citation_and_changelog_are_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["title"] == PROJECT["name"]
    assert citation["version"] == custom_layers.__version__
    assert citation["license"] == PROJECT["license"]
    assert citation["authors"] == PROJECT["authors"]
    headings = re.findall(r"^##+ (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    releases = [heading for heading in headings if heading not in kinds]
    assert releases[0] == "Unreleased"
    for release in releases[1:]:
        assert re.fullmatch(r"\d+\.\d+\.\d+ - \d{4}-\d\d-\d\d", release)


def test_contributing_s_commands_exist():
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    used = set(re.findall(r"`make ([a-z-]+)", contributing))
    assert used <= set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    for path in re.findall(r"`([\w./-]+/[\w.-]+\.\w+)`", contributing):
        assert (ROOT / path).exists(), path
