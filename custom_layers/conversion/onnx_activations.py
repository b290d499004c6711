"""The activations of ONNX's recurrent operators: one table, for reading and writing."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np

#: Keras's activation -> its name in ONNX, and its alpha and beta there.
ACTIVATIONS: dict[Callable[..., Any], tuple[str, tuple[float, ...]]] = {
    keras.activations.sigmoid: ("Sigmoid", ()),
    keras.activations.tanh: ("Tanh", ()),
    keras.activations.relu: ("Relu", ()),
    keras.activations.softplus: ("Softplus", ()),
    keras.activations.softsign: ("Softsign", ()),
    keras.activations.hard_sigmoid: ("HardSigmoid", (1 / 6, 0.5)),
    keras.activations.linear: ("Affine", (1.0, 0.0)),
}
#: The alpha and beta where a node tells none; of Affine, ONNX has no usual ones.
DEFAULTS = {"HardSigmoid": (0.2, 0.5), "Affine": (math.nan, math.nan)}
PARAMETERS = ("activation_alpha", "activation_beta")


def has(function: Any) -> bool:
    """Return whether ONNX has an activation; a layer, say, need not be hashable."""
    return any(function is known for known in ACTIVATIONS)


def to_attributes(functions: Iterable[Callable[..., Any]]) -> dict[str, list[Any]]:
    """Return the attributes of a node with some activations, in their order.

    Each has an alpha and a beta only if it takes them.

    Example:
    >>> functions = keras.activations.sigmoid, keras.activations.linear
    >>> to_attributes(functions)["activations"], to_attributes(functions)[PARAMETERS[0]]
    (['Sigmoid', 'Affine'], [1.0])
    """
    chosen = [ACTIVATIONS[function] for function in functions]
    attributes: dict[str, list[Any]] = {"activations": [name for name, _ in chosen]}
    for position, name in enumerate(PARAMETERS):
        if values := [parameters[position] for _, parameters in chosen if parameters]:
            attributes[name] = values
    return attributes


def from_attributes(
    names: Sequence[str], alphas: Sequence[float] = (), betas: Sequence[float] = ()
) -> list[Callable[..., Any] | None]:
    """Return Keras's activations of a node; None for each that Keras has not.

    Args:
        names: Their names; ONNX ignores the case.
        alphas: The alphas of those that take one, in order; the last ones may miss.
        betas: The same of beta.

    Example:
    >>> from_attributes(["HardSigmoid", "Tanh"])[0] is None  # its alpha is 0.2
    True
    """
    given = [iter(alphas), iter(betas)]
    result = []
    for name in names:
        found = None
        for function, (own, parameters) in ACTIVATIONS.items():
            if name.lower() == own.lower():
                defaults = DEFAULTS.get(own, ())
                pairs = zip(given, defaults, strict=False)
                values = [next(left, default) for left, default in pairs]
                found = function if np.allclose(values, parameters, 1e-6, 0) else None
        result.append(found)
    return result
