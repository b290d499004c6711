"""Options that papers define for gated cells: what they add to a step, once for all."""

import numbers
import typing

import keras
from keras import ops

from custom_layers.engine.prepared import unchanged

#: The value that turns each option off.
OFF = {
    "layer_norm": False,
    "cell_clip": None,
    "zoneout_h": 0.0,
    "zoneout_c": 0.0,
    "projection": None,
}
#: Arguments that belong to an option.
DETAILS = ("layer_norm_epsilon", "projection_clip", "projection_initializer")
LAYER_NORMS = (False, True, "tfa", "tf1")


def turned_on(cell):
    """Return the options of a cell that are on, a dict from names to values."""
    values = {name: getattr(cell, name, off) for name, off in OFF.items()}
    return {name: value for name, value in values.items() if value != OFF[name]}


def around_equations(cell):
    """Return those that are on and do more than change the new c of a step."""
    on = turned_on(cell)
    return {name: value for name, value in on.items() if name != "cell_clip"}


def check_has_none(cell, arguments):
    """Raise ValueError for an option among the arguments of a cell without gates."""
    for name in (*OFF, *DETAILS):
        if name in arguments:
            raise ValueError(
                f"{type(cell).__name__} has no {name}, got {arguments[name]!r}: the "
                "papers define it for an LSTM, with its gates and its c, which this "
                "cell has not; it takes none of these options"
            )


def check_epsilon(epsilon):
    """Raise ValueError unless what normalisation adds is a positive number."""
    if not _is_positive(epsilon):
        raise ValueError(
            f"layer_norm_epsilon must be a positive number, got {epsilon!r}"
        )


def check_limits(**limits):
    """Raise ValueError unless every keyword is None or a positive number."""
    for name, limit in limits.items():
        if limit is not None and not _is_positive(limit):
            raise ValueError(f"{name} must be None or a positive number, got {limit!r}")


def _is_positive(number):
    is_real = isinstance(number, numbers.Real) and not isinstance(number, bool)
    return is_real and 0 < number < float("inf")


def normalize(x, epsilon, groups=1):
    """Return x less its mean, over its standard deviation, along the last axis.

    Ba et al. 2016 (arXiv 1607.06450), equation 4, without gain and bias; the sums are
    taken in float32 at least.

    Args:
        x: ``(batch, n)``.
        epsilon: What is added to the variance.
        groups: The number of equal parts that are normalised each by itself.
    """
    dtype = keras.backend.standardize_dtype(x.dtype)
    parts = ops.reshape(x, (-1, groups, x.shape[-1] // groups))
    if dtype in ("float16", "bfloat16"):
        parts = ops.cast(parts, "float32")
    mean = ops.mean(parts, axis=-1, keepdims=True)
    variance = ops.mean(ops.square(parts - mean), axis=-1, keepdims=True)
    parts = (parts - mean) / ops.sqrt(variance + epsilon)
    return ops.cast(ops.reshape(parts, (-1, x.shape[-1])), dtype)


def clip(limit):
    """Return what clips to ±limit; nothing changes with None."""
    return unchanged if limit is None else lambda x: ops.clip(x, -limit, limit)


def in_cell(cell, weights):
    """Return what equations find as ``p.clip``, of the new c, and ``p.norm``.

    Args:
        cell: The `GatedCell`.
        weights: Its weights by name, in the compute dtype.
    """
    clipped, norm = clip(cell.cell_clip), unchanged
    if cell.layer_norm:

        def norm(c):
            c = normalize(c, cell.layer_norm_epsilon)
            return c * weights["state_gamma"] + weights["state_beta"]

    if cell.layer_norm in ("tfa", "tf1"):  # these carry the normalised c
        return {"clip": lambda c: norm(clipped(c)), "norm": unchanged}
    return {"clip": clipped, "norm": norm}


class Around(typing.NamedTuple):
    """What options do before and after the equations of a step.

    ``layer_norm`` normalises the pre-activations, ``projection`` makes ``h`` smaller,
    and zoneout keeps states of the step before.
    """

    layer_norm: typing.Any
    epsilon: float
    weights: dict  # by name, in the compute dtype
    projection_clip: typing.Callable
    zoneout: dict  # rates by the name of the state
    draw: typing.Callable  # (state, rate) -> a mask like it, 0 where it is kept

    def pre_activations(self, products, x, h):
        """Return z of all gates side by side."""
        from_x = [p.times_W(x) for p in products]
        from_h = [p.times_U(h) for p in products]
        b = [p.b for p in products if p.b is not None]
        from_x, from_h = ops.concatenate(from_x, -1), ops.concatenate(from_h, -1)
        if self.layer_norm == "tf1":
            gates = from_x.shape[-1] // self.weights["state_gamma"].shape[0]
            z = normalize(from_x + from_h, self.epsilon, gates)
            z = z * self.weights["gates_gamma"]
        elif self.layer_norm:
            z = normalize(from_x, self.epsilon) * self.weights["kernel_gamma"]
            h_part = normalize(from_h, self.epsilon)
            z = z + h_part * self.weights["recurrent_gamma"]
        else:
            z = from_x + from_h
        return z + ops.concatenate(b, -1) if b else z

    def after(self, values, states, masks):
        """Return the values of a step, with ``h`` projected and states kept.

        Args:
            values: What the equations returned.
            states: ``h⁻`` and ``c⁻``.
            masks: In training the masks of zoneout by the name of the state, 0 where
                it is kept; those that are not there are drawn. None at inference.
        """
        if "projection_kernel" in self.weights:
            h = ops.matmul(values["h"], self.weights["projection_kernel"])
            values = values | {"h": self.projection_clip(h)}
        for name, old in zip("hc", states, strict=True):
            if rate := self.zoneout.get(name):
                new = values[name]
                if masks is None:  # the expectation
                    kept = rate * old + (1 - rate) * new
                else:
                    mask = masks[name] if name in masks else self.draw(new, rate)
                    kept = ops.where(ops.not_equal(mask, 0), new, old)
                values = values | {name: kept}
        return values
