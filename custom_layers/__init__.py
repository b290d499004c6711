"""Gated recurrent cells and layers for Keras 3, on every backend.

`LAYERS` is the registry: tests, recipes and benchmarks go through it.
"""

import functools
from collections.abc import Callable

import keras

from custom_layers.cells.clockwork_rnn import ClockworkRNN, ClockworkRNNCell
from custom_layers.cells.coupled_lstm import CoupledLSTM, CoupledLSTMCell
from custom_layers.cells.depth_gated_lstm import DepthGatedLSTM, DepthGatedLSTMCell
from custom_layers.cells.peephole_lstm import PeepholeLSTM, PeepholeLSTMCell
from custom_layers.cells.weight_drop_lstm import WeightDropLSTM, WeightDropLSTMCell
from custom_layers.engine.dispatch import native_inference
from custom_layers.engine.gated_cell import GatedCell
from custom_layers.export.to_onnx import to_onnx
from custom_layers.inspection.kernel_report import kernel_report
from custom_layers.inspection.trace_gates import trace_gates
from custom_layers.ngram_weights import NgramWeights
from custom_layers.text import standardize_text

__version__ = "0.2.0.dev0"

#: Name -> constructor of a layer, called with ``units`` and keyword arguments.
LAYERS: dict[str, Callable[..., keras.layers.RNN]] = {
    "lstm": keras.layers.LSTM,
    "peephole": PeepholeLSTM,
    "coupled": CoupledLSTM,
    "gru": keras.layers.GRU,
    "gru-cho": functools.partial(keras.layers.GRU, reset_after=False),
    "depth-gated": DepthGatedLSTM,
    "clockwork": ClockworkRNN,
    "weight-drop": WeightDropLSTM,
    "simple-rnn": keras.layers.SimpleRNN,
}

__all__ = [
    "ClockworkRNN",
    "ClockworkRNNCell",
    "CoupledLSTM",
    "CoupledLSTMCell",
    "DepthGatedLSTM",
    "DepthGatedLSTMCell",
    "GatedCell",
    "LAYERS",
    "NgramWeights",
    "PeepholeLSTM",
    "PeepholeLSTMCell",
    "WeightDropLSTM",
    "WeightDropLSTMCell",
    "kernel_report",
    "native_inference",
    "standardize_text",
    "to_onnx",
    "trace_gates",
]
