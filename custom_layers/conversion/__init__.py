"""Weights from other libraries, and back: a built layer is what one gets or gives.

Every ``from_…`` takes a file or a mapping from names to arrays, and returns built
layers. Every ``to_…`` takes built layers, and returns what the other library reads.
"""

from custom_layers.conversion.keras_weights import convert_layer, from_keras2
from custom_layers.conversion.onnx_nodes import from_onnx_node, to_onnx_node
from custom_layers.conversion.tf1 import from_tf1, to_tf1
from custom_layers.conversion.tfa import from_tfa, to_tfa
from custom_layers.conversion.torch_weights import from_torch, to_torch

__all__ = [
    "convert_layer",
    "from_keras2",
    "from_onnx_node",
    "from_tf1",
    "from_tfa",
    "from_torch",
    "to_onnx_node",
    "to_tf1",
    "to_tfa",
    "to_torch",
]
