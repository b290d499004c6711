"""Settings that must hold before Keras is imported, and helpers that the cell tests share."""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("JAX_ENABLE_X64", "1")  # for the gradients in float64
os.environ.setdefault("MPLBACKEND", "agg")
