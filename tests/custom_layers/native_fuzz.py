"""Runs the native kernel's core under the compiler's sanitizers: ``make sanitize``."""

import pathlib
import subprocess
import sys
import tempfile

from custom_layers.engine.native import library

PROGRAM = pathlib.Path(__file__).with_suffix(".cc")
SANITIZERS = ("address,undefined", "thread")


def main():
    """Build and run the program with each; return the exit status."""
    command = library.compiler()
    for name in SANITIZERS:
        # Each thread is worth its start, so that small sizes have several.
        flags = f"-fsanitize={name}", "-fno-sanitize-recover=all", "-g", "-O1"
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            objects = library.compile_core(
                command, folder, *flags, "-DWORK_OF_A_THREAD=1.0"
            )
            made = ["-pthread", "-o", str(folder / "fuzz")]
            headers = ["-I", str(library.SOURCES), "-std=c++17"]
            library.run([*command, *flags, *headers, str(PROGRAM), *objects, *made])
            print(f"{name}: ", end="", flush=True)
            if status := subprocess.run([folder / "fuzz"]).returncode:
                return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
