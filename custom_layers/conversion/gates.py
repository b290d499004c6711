"""The order of the gates in fused weights, and the one function that changes it.

An order is a text with a letter for each gate; g is the candidate, which Keras calls c,
PyTorch n and TensorFlow 1 j.
"""

import numpy as np

LSTM = "ifgo"  #: of Keras, and of PyTorch and TensorFlow Addons
COUPLED = "fgo"  #: of `CoupledLSTM`
GRU = "zrg"  #: of Keras, and of ONNX

TORCH_GRU = "rzg"
TF1_LSTM = "igfo"
TF1_COUPLED = "gfo"
ONNX_LSTM = "iofg"
ONNX_PEEPHOLES = "iof"


def split(array, order, axis=-1):
    """Return the part of each gate of a fused weight, by its letter."""
    parts = np.split(array, len(order), axis=axis)
    return dict(zip(order, parts, strict=True))


def join(parts, order, axis=-1):
    """Return a fused weight of the parts, by letter, in an order."""
    return np.concatenate([parts[gate] for gate in order], axis=axis)


def reorder(array, have, want, axis=-1):
    """Return a fused weight with its gates in another order.

    Args:
        array: The weight.
        have: Its order.
        want: The order that it is to have, of the same gates.
        axis: The axis along which the gates are.

    Example:
    >>> reorder(np.array([1, 2, 3, 4]), "ifgo", "iofg").tolist()
    [1, 4, 2, 3]
    """
    return join(split(array, have, axis), want, axis)
