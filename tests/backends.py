"""Runs the cell tests on every other backend that is installed: ``python -m tests.backends``."""

import importlib.util
import os
import subprocess
import sys

CELL_TESTS = ["equations", "onnx", "contract", "arguments", "kernels", "trace_gates"]


def main():
    """Run them; return the number of backends that failed."""
    failed = []
    for backend in ("jax", "torch"):
        if importlib.util.find_spec(backend) is None:
            print(f"{backend} is not installed: its tests do not run", flush=True)
            continue
        print(f"The cell tests on {backend}:", flush=True)
        files = [f"tests/custom_layers/test_{name}.py" for name in CELL_TESTS]
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-n",
            "auto",
            "--dist",
            "worksteal",
            *files,
            "custom_layers",
        ]
        if subprocess.run(
            command, env={**os.environ, "KERAS_BACKEND": backend}
        ).returncode:
            failed.append(backend)
    if failed:
        print(f"failed on: {', '.join(failed)}")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
