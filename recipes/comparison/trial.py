"""One run of a comparison: a cell learns a task from a seed."""

import dataclasses
import functools
import time
import traceback

import keras
import numpy as np
import tensorflow as tf

from recipes.comparison.cells import CELLS
from recipes.comparison.tasks.registry import TASKS
from recipes.run.environment import device_name, versions

#: Into how many parts a training is cut, of each of which the mean loss is kept.
PARTS = 20
MOST_UNITS = 2000


@dataclasses.dataclass(frozen=True, order=True)
class Trial:
    """What a run is to do.

    Attributes:
        task: Its name in ``TASKS``.
        cell: Its name in ``CELLS``.
        seed: Of the weights and of the training data.
        parameters: How many the recurrent layer and what follows it are to have, as
            nearly as whole units allow.
        effort: The training steps, as a multiple of those of the task.
    """

    task: str
    cell: str
    seed: int
    parameters: int
    effort: float = 1.0


def attempt(trial):
    """Run a trial on one core of this process; return ``(result, error)``.

    Whatever goes wrong costs this trial alone: the error is its text, else None.
    """
    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        tf.config.set_visible_devices([], "GPU")
        return run(trial), None
    except Exception as error:
        return None, traceback.format_exception_only(error)[-1].strip()


def run(trial):
    """Train and test; return the result, a dict that JSON can hold.

    Raises:
        FloatingPointError: The loss or a figure is not finite.
    """
    began = time.perf_counter()
    task = TASKS[trial.task]
    units = find_units(task, trial.cell, trial.parameters)
    keras.utils.set_random_seed(trial.seed)
    model = make_model(task, trial.cell, units)
    task.compile(model)
    before = task.observe(model)
    history = model.fit(
        task.batches(trial.seed),
        epochs=PARTS,
        steps_per_epoch=steps_of(trial) // PARTS,
        shuffle=False,  # Keras cannot shuffle what has no end
        verbose=0,
    )
    losses = [float(f"{loss:.4g}") for loss in history.history["loss"]]
    figures = task.evaluate(model)
    observed = (
        {} if before is None else {"before": before, "after": task.observe(model)}
    )
    norms = [it for of in observed.values() for them in of.values() for it in them]
    if not np.all(np.isfinite([*losses, *figures.values(), *norms])):
        raise FloatingPointError(f"it diverged: loss {losses[-1]}, {figures}")
    return {
        **dataclasses.asdict(trial),
        "units": units,
        "model_parameters": count(task, trial.cell, units),
        "steps": steps_of(trial),
        "figures": figures,
        "solved": bool(task.solved(figures)),
        "losses": losses,
        "observed": observed,
        "warning": task.data_warning(),
        "seconds": time.perf_counter() - began,
        "device": device_name(),
        "versions": versions(),
    }


def steps_of(trial):
    """Return the training steps of a trial, a multiple of `PARTS`."""
    return PARTS * max(
        1, round(TASKS[trial.task].defaults.steps * trial.effort / PARTS)
    )


def make_model(task, cell, units):
    """Return a task's network with a cell of the registry, not yet compiled."""
    chosen = task.cell_options.get(cell, {})
    return task.make_model(lambda **options: CELLS[cell](units, **chosen, **options))


def find_units(task, cell, parameters):
    """Return with how many units the parameters are nearest to a number.

    Of two that are as near, the smaller one.

    Args:
        task: The `Task`.
        cell: Name of the cell.
        parameters: The number of weights of the layer and what follows it.

    Raises:
        ValueError: Even the smallest network has more than twice as many, or one of
            `MOST_UNITS` has fewer.

    Example:
    >>> from recipes.comparison.tasks.registry import TASKS
    >>> task = TASKS["adding-50"]
    >>> find_units(task, "lstm", 4 * 8 * (2 + 8 + 1) + 8 + 1)
    8
    """
    # Some cells take multiples of a number alone.
    first = next(it for it in range(1, 65) if count(task, cell, it) is not None)
    low, high = 1, 2  # in multiples of the first
    while count(task, cell, high * first) < parameters:
        low, high = high, 2 * high
        if high * first > MOST_UNITS:
            raise ValueError(
                f"parameters must be fewer than what {MOST_UNITS} units of {cell} "
                f"have, got {parameters}"
            )
    while high - low > 1:
        middle = (low + high) // 2
        if count(task, cell, middle * first) < parameters:
            low = middle
        else:
            high = middle
    chosen = min(
        (low * first, high * first),
        key=lambda units: abs(count(task, cell, units) - parameters),
    )
    if (least := count(task, cell, chosen)) > 2 * parameters:
        raise ValueError(
            f"parameters must be at least {-(-least // 2)} for {cell} on {task.name}, "
            f"got {parameters}"
        )
    return chosen


def count(task, cell, units):
    """Return the parameters of a recurrent layer and the output layer after it.

    None if a cell cannot have so many units.
    """
    options = tuple(task.cell_options.get(cell, {}).items())
    return _count(task.inputs[1], task.head.outputs, cell, units, options)


@functools.cache
def _count(features, outputs, cell, units, options):
    shape = (None, None, features)
    try:
        layer = CELLS[cell](units, **dict(options))
        layer.build(shape)
    except ValueError:
        return None
    return layer.count_params() + (layer.compute_output_shape(shape)[-1] + 1) * outputs
