"""Gated recurrent cells and layers for Keras 3, on every backend.

`CELLS` is the registry: it drives the tests, the recipes and the benchmarks.
"""

import keras

from custom_layers.coupled_lstm import CoupledLSTM, CoupledLSTMCell
from custom_layers.gated_cell import GatedCell
from custom_layers.kernel_report import kernel_report
from custom_layers.peephole_lstm import PeepholeLSTM, PeepholeLSTMCell

#: Name of a cell -> the layer that runs it.
CELLS = {
    "lstm": keras.layers.LSTM,
    "peephole": PeepholeLSTM,
    "coupled": CoupledLSTM,
    "gru": keras.layers.GRU,
}

__all__ = [
    "CELLS",
    "CoupledLSTM",
    "CoupledLSTMCell",
    "GatedCell",
    "PeepholeLSTM",
    "PeepholeLSTMCell",
    "kernel_report",
]
