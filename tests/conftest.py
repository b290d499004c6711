"""Settings that must hold before Keras is imported."""

import os
import shutil
import signal

import pytest

# A shell that starts the tests in the background lets them ignore Ctrl-C, and so do
# the processes that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("JAX_ENABLE_X64", "1")  # for the gradients in float64
os.environ.setdefault("MPLBACKEND", "agg")
# Whether it is built must not change what is tested; tests/custom_layers/test_native.py
# turns it on.
os.environ.setdefault("CUSTOM_LAYERS_NATIVE", "0")
# One thread each: the tests run side by side.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def native_cache(tmp_path_factory):
    """A cache with the native kernel: that of `make setup`, or else built here."""
    from custom_layers.engine.native import library

    folder = tmp_path_factory.mktemp("cache")
    found = library.find()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        if found:
            there = library.cache() / found.parent.name
            there.mkdir(parents=True)
            shutil.copy2(found, there)
        library.build()
    return folder
