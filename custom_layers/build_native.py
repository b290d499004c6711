"""Builds the native kernel: ``python -m custom_layers.build_native``.

It takes seconds, needs a C++ compiler (``CXX``, or ``c++``, ``g++``, ``clang++``), and
writes one file into ``$XDG_CACHE_HOME`` or ``~/.cache``. ``make setup`` runs it; the
layers never do.
"""

import sys

import keras

from custom_layers.engine.native import library

WITHOUT = "training on a CPU uses TensorFlow's loop"


def main() -> int:
    """Build the kernel where it is not built; return the exit status.

    That is 0, or 2 where it cannot be built, or 1 where its library was built and does
    not load; one line says why.
    """
    if keras.backend.backend() != "tensorflow":
        print(
            f"native kernel: the backend is {keras.backend.backend()}, not tensorflow",
            file=sys.stderr,
        )
        return 2
    from custom_layers.engine import tensorflow_native

    try:
        path, is_new = library.build()
        problem = tensorflow_native.load_error(path)
        if problem and not is_new:  # what was there is damaged
            path, is_new = library.build(anew=True)
            problem = tensorflow_native.load_error(path)
    except library.BuildError as error:
        print(f"native kernel: not built, {WITHOUT}: {error}", file=sys.stderr)
        return 2
    if problem:
        print(f"native kernel: {WITHOUT}: {problem}", file=sys.stderr)
        return 1
    print(f"native kernel: {'built' if is_new else 'ready'}, {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
