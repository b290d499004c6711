"""Builds the library of the native kernel into a cache, and finds it there.

A library in the cache is one file, named after the compiler, in a folder whose name is
a hash of everything else that it depends on. It appears there by a renaming, whole.
"""

import contextlib
import functools
import hashlib
import importlib.util
import os
import pathlib
import platform
import shlex
import shutil
import subprocess
import tempfile

SOURCES = pathlib.Path(__file__).parent
COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden")
#: For each path of the kernel: its number, floats in a vector, and flags.
PATHS = {
    "portable": (1, 4, ()),
    "avx2": (2, 8, ("-mavx2", "-mfma")),
    "avx512": (
        3,
        16,
        ("-mavx512f", "-mavx512vl", "-mavx512dq", "-mavx512bw", "-mavx2", "-mfma"),
    ),
}


class BuildError(Exception):
    """The library could not be built; the text is one line that says why."""


def cache() -> pathlib.Path:
    """Return the folder of all libraries, which need not exist."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    folder = pathlib.Path(
        base if os.path.isabs(base) else pathlib.Path.home() / ".cache"
    )
    return folder / "keras-gated-rnn" / "native"


@functools.cache
def _key() -> str:
    """Return a hash of the sources, how they are built, machine and TensorFlow."""
    import tensorflow as tf

    machine = platform.system(), platform.machine(), platform.libc_ver()
    parts = [repr((FLAGS, PATHS, machine)), tf.__version__]
    for path in sorted([*SOURCES.glob("*.h"), *SOURCES.glob("*.cc")]):
        parts += [path.name, path.read_text("utf-8")]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def find() -> pathlib.Path | None:
    """Return the library that was built last for this machine and TensorFlow."""
    try:
        built = [(p.stat().st_mtime_ns, p) for p in (cache() / _key()).glob("*.so")]
    except (OSError, RuntimeError):  # there is no home
        return None
    return max(built)[1] if built else None


def compiler() -> list[str]:
    """Return the command of the C++ compiler: that of ``CXX``, or one on the path."""
    text = os.environ.get("CXX", "")
    try:
        chosen = shlex.split(text)
    except ValueError as error:
        raise BuildError(f"CXX is {text!r}: {error}") from None
    if chosen:
        if shutil.which(chosen[0]) is None:
            raise BuildError(f"CXX is {chosen[0]!r}, which is no program")
        return chosen
    for name in COMPILERS:
        if shutil.which(name):
            return [name]
    raise BuildError(f"there is no C++ compiler ({', '.join(COMPILERS)}, or CXX)")


def build(anew: bool = False) -> tuple[pathlib.Path, bool]:
    """Return the library, and whether it was built now.

    Args:
        anew: Whether to build it even if it is there.

    Raises:
        BuildError: There is no compiler, it failed, or the cache cannot be written.
    """
    if platform.system() != "Linux":
        raise BuildError(f"the system is {platform.system()}, it needs Linux")
    command = compiler()
    version = " ".join(command) + run([*command, "--version"])
    name = hashlib.sha256(version.encode()).hexdigest()[:16]
    try:
        library = cache() / _key() / f"{name}.so"
    except RuntimeError as error:
        raise BuildError(f"the cache: {error}") from None
    try:
        if library.exists() and not anew:
            with contextlib.suppress(OSError):  # somebody else's does as well
                os.utime(library)  # `find` takes the newest; this one was asked for
            return library, False
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            built = _compile(command, pathlib.Path(folder))
            os.replace(built, library)
    except OSError as error:
        raise BuildError(f"the cache {library.parent}: {error.strerror}") from None
    return library, True


def paths() -> list[str]:
    """Return the names of the paths that this kind of processor may have."""
    is_x86 = platform.machine() in ("x86_64", "AMD64")
    return [name for name in PATHS if is_x86 or name == "portable"]


def compile_core(command: list[str], folder: pathlib.Path, *flags: str) -> list[str]:
    """Compile what needs no TensorFlow; return the object files.

    Args:
        command: The compiler's, a list.
        folder: Where the files are written.
        flags: More than `FLAGS`.
    """
    jobs: dict[str, tuple[str, ...]]
    jobs = {"lstm": ("lstm.cc", *(f"-DHAS_{name}" for name in paths()))}
    for name in paths():
        _, lanes, more = PATHS[name]
        defined = f"-DLSTM_PATH={name}", f"-DLSTM_LANES={lanes}"
        jobs[name] = ("lstm_path.cc", *defined, *more)
    for name, (source, *others) in jobs.items():
        files = "-c", str(SOURCES / source), "-o", str(folder / f"{name}.o")
        run([*command, *FLAGS, *flags, *others, *files])
    return [str(folder / f"{name}.o") for name in jobs]


def _compile(command, folder):
    """Compile and link all sources in a folder; return the library."""
    package = importlib.util.find_spec("tensorflow")
    tensorflow = pathlib.Path(package.submodule_search_locations[0])
    objects = compile_core(command, folder)
    operator = str(SOURCES / "tensorflow_op.cc"), *objects
    linked = f"-L{tensorflow}", "-l:libtensorflow_framework.so.2", "-pthread"
    made = "-shared", "-o", str(folder / "lstm.so")
    headers = "-isystem", str(tensorflow / "include")
    run([*command, *FLAGS, *headers, *operator, *linked, *made])
    if not (folder / "lstm.so").exists():
        raise BuildError(f"{command[0]} is no compiler: it wrote no library")
    return folder / "lstm.so"


def run(command):
    """Return what a command of the compiler's prints."""
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, errors="replace"
        )
    except OSError as error:
        raise BuildError(f"{command[0]}: {error.strerror}") from None
    if result.returncode:
        lines = result.stderr.strip().splitlines()
        if lines and ("collect2:" in lines[-1] or "linker command" in lines[-1]):
            del lines[-1]  # it says only that the linker, which spoke before, failed
        lines = lines or [f"status {result.returncode}"]
        said = next((line for line in lines if "error: " in line), lines[-1])
        raise BuildError(f"{command[0]} failed: {said}")
    return result.stdout
