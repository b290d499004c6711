"""What a file of Keras 2 says of a layer beside its weights: its activations."""

import contextlib

import keras

ACTIVATIONS = ("activation", "recurrent_activation")
HARD_SIGMOID = (
    "hard_sigmoid, which is 0.2 x + 0.5 between 0 and 1 in Keras 2, and x / 6 + 0.5 in "
    "Keras 3"
)


def arguments_of(weights, given):
    """Return the arguments of a layer of Keras 2 that its weights do not tell.

    The file of a whole model has them; a file of weights does not.

    Args:
        weights: The `Weights` of the layer.
        given: Arguments that the user gives. They count in place of the file's.

    Raises:
        ValueError: Keras 3 has another activation of that name, or none. Or the file
            does not tell which activations are those of the layer.
    """
    for name in ACTIVATIONS:
        if given.get(name) == "hard_sigmoid":
            raise ValueError(
                f"{name} must not be {HARD_SIGMOID}: give a function that computes it"
            )
    missing = [name for name in ACTIVATIONS if name not in given]
    if weights.config is None or not missing:
        return dict(given)
    path = tuple(weights.prefix.split("/"))
    found = [each for each in _cells(weights.config) if each[0][:1] == path[:1]]
    inside = [each for each in found if set(each[0]) <= set(path)]
    found = inside or found  # where models are in models
    told = [{name: config.get(name) for name in missing} for _, config in found]
    if not told or any(it != told[0] for it in told):
        raise ValueError(
            f"the file does not tell the {' and the '.join(missing)} of "
            f"{weights.prefix.rstrip('/')}: give {' and '.join(missing)}"
        )
    for name, value in told[0].items():
        _check(name, value, weights.prefix.rstrip("/"))
    result = told[0] | given
    if "reset_after" in found[0][1]:  # without a bias, no shape tells it
        result = {"reset_after": found[0][1]["reset_after"]} | result
    return result


def _cells(config, names=()):
    """Yield the configurations in one that have activations of gates.

    Each comes with the names of all that it is in, and its own, without the model's.
    """
    if isinstance(config, list):
        for each in config:
            yield from _cells(each, names)
    if not isinstance(config, dict):
        return
    is_model = "layers" in config and not names
    if isinstance(name := config.get("name"), str) and not is_model:
        names = (*names, name)
    if "recurrent_activation" in config:
        yield names, config
    for each in config.values():
        yield from _cells(each, names)


def _check(name, value, layer):
    """Raise ValueError unless Keras 3 has the activation of Keras 2."""
    problem = f"{value!r}, which is none of keras.activations"
    if value == "hard_sigmoid":
        problem = HARD_SIGMOID
    elif isinstance(value, str):
        with contextlib.suppress(ValueError):
            keras.activations.get(value)
            return
    raise ValueError(
        f"{name} of {layer} is {problem}: give {name} a function that computes it"
    )
