"""Training that keeps the best model and can be interrupted and resumed."""

import contextlib
import os
import signal

import numpy as np

from custom_layers import native_inference
from recipes.run import devices
from recipes.training.batches import (
    count_steps,
    make_batches,
    make_validation_batches,
)
from recipes.training.checkpoint import BestAndCheckpoint, set_state
from recipes.training.events import EventLog


def create_variables(model, labels):
    """Create the variables of a compiled model's optimiser and metrics.

    TensorFlow traces a function once more if it created variables, so that ``fit``
    would trace the training step twice, for seconds.
    """
    with devices.of(model):
        model.optimizer.build(model.trainable_variables)
        model.compute_metrics(
            None, labels[:1], np.zeros((1, *model.output_shape[1:]), "float32")
        )
        model.reset_metrics()


@contextlib.contextmanager
def finishing_the_step(checkpoint):
    """Let Ctrl-C wait for the end of the step; a second one ends the process."""

    def interrupt(number, frame):
        checkpoint.interrupted = True
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        with contextlib.suppress(OSError):  # nobody reads it
            os.write(2, b"\nFinishing this step; Ctrl-C again stops at once.\n")

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        if not checkpoint.interrupted:
            signal.signal(signal.SIGINT, before)


def fit(run, model, train, validation, saved=None, augment=None, callbacks=()):
    """Train a compiled model, keep the best by validation, and return what happened.

    If the run's folder holds a checkpoint, training is resumed from there.

    Args:
        run: The `Run`, whose folder gets ``history.csv``, the best model and the
            checkpoint.
        model: The model; it ends with the weights of its best validation.
        train: Training inputs and labels.
        validation: Validation inputs and labels.
        saved: The model to save, which shares the model's weights; by default the model
            itself.
        augment: See `make_batches`.
        callbacks: More Keras callbacks.

    Returns:
        Dict of ``steps``, ``fit_seconds`` and ``validation_accuracy``.

    Raises:
        FloatingPointError: Training diverged, see `check_bounded`. What the run's
            folder holds is of the validations before.
    """
    steps_per_epoch, steps = count_steps(run.config, len(train[1]))
    interval = run.config.save_every or steps_per_epoch
    checkpoint = BestAndCheckpoint(run.folder, steps, saved or model)
    create_variables(model, train[1])
    checkpoint.restore(model)
    callbacks = [*callbacks, checkpoint]
    if run.events:
        callbacks.append(EventLog(run.events))
    if checkpoint.step < steps:
        with finishing_the_step(checkpoint), native_inference():
            model.fit(
                make_batches(train, run.config, augment, checkpoint.step),
                initial_epoch=len(checkpoint.rows),
                epochs=-(-steps // interval),
                steps_per_epoch=min(interval, steps),
                shuffle=False,  # the stream of batches is shuffled already
                validation_data=make_validation_batches(validation, run.config.devices),
                callbacks=callbacks,
            )
    set_state(model, checkpoint.best_state)
    return {
        "steps": checkpoint.step,
        "fit_seconds": checkpoint.seconds,
        "validation_accuracy": checkpoint.best,
    }


def predict(model, inputs):
    """Return the probabilities that a model gives for inputs.

    Raises:
        FloatingPointError: One is NaN: weights near the largest number overflow.
    """
    probabilities = model.predict(inputs, batch_size=500, verbose=0)
    if not np.isfinite(probabilities).all():
        raise FloatingPointError("the model gives NaN for some inputs")
    return probabilities
