"""Gated recurrent cells and layers for Keras 3, on every backend.

`CELLS` is the registry: it drives the tests, the recipes and the benchmarks.
"""

import keras

from custom_layers.clockwork_rnn import ClockworkRNN, ClockworkRNNCell
from custom_layers.coupled_lstm import CoupledLSTM, CoupledLSTMCell
from custom_layers.depth_gated_lstm import DepthGatedLSTM, DepthGatedLSTMCell
from custom_layers.gated_cell import GatedCell
from custom_layers.kernel_report import kernel_report
from custom_layers.peephole_lstm import PeepholeLSTM, PeepholeLSTMCell
from custom_layers.trace_gates import trace_gates
from custom_layers.weight_drop_lstm import WeightDropLSTM

#: Name of a cell -> the layer that runs it.
CELLS = {
    "lstm": keras.layers.LSTM,
    "peephole": PeepholeLSTM,
    "coupled": CoupledLSTM,
    "gru": keras.layers.GRU,
    "depth-gated": DepthGatedLSTM,
    "clockwork": ClockworkRNN,
    "weight-drop": WeightDropLSTM,
}

__all__ = [
    "CELLS",
    "ClockworkRNN",
    "ClockworkRNNCell",
    "CoupledLSTM",
    "CoupledLSTMCell",
    "DepthGatedLSTM",
    "DepthGatedLSTMCell",
    "GatedCell",
    "PeepholeLSTM",
    "PeepholeLSTMCell",
    "WeightDropLSTM",
    "kernel_report",
    "trace_gates",
]
