"""What both programs share: cells, batches, and training that keeps the best epoch and can go on."""

import contextlib
import dataclasses
import os
import pathlib
import signal
import time

import keras
import numpy as np
import tensorflow as tf

from custom_layers import LAYERS, kernel_report
from recipes import report
from recipes.command_line import UserError, check_at_least, option
from recipes.datasets import SOURCES
from recipes.run_folder import CHECKPOINT, METRICS, events_folder


@dataclasses.dataclass(frozen=True)
class Config:
    """The choices that both programs offer."""

    preset: str
    cell: str = option("lstm", "the recurrent cell", choices=tuple(LAYERS))
    units: int = option(128, "units of the recurrent layer")
    epochs: int = option(0, "passes over the training data; 0: no limit")
    steps: int = option(0, "training steps; 0: no limit")
    save_every: int = option(0, "steps between two validations; 0: once a pass")
    batch: int = option(128, "examples in a batch")
    seed: int = option(1, "seed of weights, order of the data and dropout")
    data: str = option(
        "auto",
        "full: the real data; sample: the built-in sample; auto: real, else sample",
        choices=SOURCES,
    )
    name: str = option("", "name of the run's folder; empty: cell-preset-seed")
    runs: str = option("runs", "folder of all runs")
    logdir: str = option("", "folder for TensorBoard's events; empty: none")
    target: float = option(0.0, "exit with status 1 below this test accuracy")

    def check(self):
        """Raise UserError for values that mean nothing."""
        check_at_least(
            self, units=1, epochs=0, steps=0, save_every=0, batch=1, seed=0, target=0.0
        )
        if not self.epochs and not self.steps:
            raise UserError("--epochs and --steps are both 0: training would never end")
        if self.target > 1:
            raise UserError(f"--target must be at most 1, got {self.target!r}")
        if self.seed >= 2**32:
            raise UserError(f"--seed must be below 2**32, got {self.seed}")
        if pathlib.PurePath(self.name).name != self.name or self.name.startswith("."):
            raise UserError(
                f"--name must be the name of a folder, not a path, got {self.name!r}"
            )


def check_backend():
    """Raise UserError unless Keras uses TensorFlow: the programs' data and texts go through it."""
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise UserError(
            f"the backend of Keras must be tensorflow, got {backend}: set KERAS_BACKEND=tensorflow"
        )


def prepare(config):
    """Seed everything; give TensorFlow threads so that independent small products run side by side.

    Raises:
        UserError: Keras uses another backend.
    """
    check_backend()
    keras.utils.set_random_seed(config.seed)
    if not tf.config.list_physical_devices("GPU"):
        with contextlib.suppress(
            RuntimeError
        ):  # TensorFlow has started, and keeps its threads
            tf.config.threading.set_intra_op_parallelism_threads(1)
            tf.config.threading.set_inter_op_parallelism_threads(os.cpu_count())


def make_recurrent(config, **options):
    """Return the recurrent layer that the configuration names.

    Raises:
        UserError: The cell cannot have that many units.
    """
    try:
        return LAYERS[config.cell](config.units, **options)
    except ValueError as error:
        raise UserError(
            f"--units {config.units} with --cell {config.cell}: {error}"
        ) from error


def split_validation(data, size):
    """Cut the last ``size`` examples off: return the rest and these."""
    inputs, labels = data
    return (inputs[:-size], labels[:-size]), (inputs[-size:], labels[-size:])


def make_batches(data, config, change=None, first=0):
    """Return an endless stream of batches: one shuffled pass after another, batches always full.

    The stream is a function of the seed and the position alone.

    Args:
        data: Inputs and labels, two arrays.
        config: Gives ``batch`` and ``seed``.
        change: Called with a batch of inputs and a seed of two integers; returns the inputs to use.
        first: The position to begin at.
    """
    inputs, labels = (tf.constant(array) for array in data)

    @tf.autograph.experimental.do_not_convert  # it would write files, also on a full disk
    def one_pass(number):
        order = tf.range(tf.shape(labels)[0])
        order = tf.random.experimental.stateless_shuffle(
            order, seed=[config.seed, number]
        )
        return tf.data.Dataset.from_tensor_slices(order)

    @tf.autograph.experimental.do_not_convert
    def take(step, indices):
        batch = tf.gather(inputs, indices)
        if change is not None:
            batch = change(batch, [config.seed, step])
        return batch, tf.gather(labels, indices)

    first_pass, used = divmod(first * config.batch, len(data[1]))
    passes = (
        tf.data.Dataset.range(first_pass, np.iinfo("int64").max)
        .flat_map(one_pass)
        .skip(used)
    )
    batches = passes.batch(config.batch, drop_remainder=True).enumerate(first)
    return without_autotuning(batches.map(take).prefetch(2))


def without_autotuning(batches):
    """Return a dataset without tf.data's autotuning, which there is nothing to do for.

    Its thread sleeps twice as long each time, and often makes the end of ``fit`` wait until it wakes up:
    measured, up to half as long again.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.with_options(options)


def create_variables(model, labels):
    """Create the variables of a compiled model's optimiser and metrics.

    TensorFlow traces a function once more if it created variables, so that ``fit`` would trace the
    training step twice, for seconds.
    """
    model.optimizer.build(model.trainable_variables)
    model.compute_metrics(
        None, labels[:1], np.zeros((1, *model.output_shape[1:]), "float32")
    )
    model.reset_metrics()


def total_steps(config, examples):
    """Return how many steps training takes: by epochs or by steps, whichever ends first.

    Raises:
        UserError: The examples do not fill one batch.
    """
    if config.batch > examples:
        raise UserError(
            f"--batch must be at most the {examples} training examples, got {config.batch}"
        )
    a_pass = -(-examples // config.batch)
    limits = [config.epochs * a_pass, config.steps]
    return min(limit for limit in limits if limit)


def kernel(model):
    """Return in one line which kernel the model's recurrent layers use on this device, and why."""
    device = "gpu" if tf.config.list_physical_devices("GPU") else "cpu"
    kernels = {layer[device] for layer in kernel_report(model).values()}
    return ", ".join(sorted(kernels))


def announce(config, dataset, sizes, model):
    """Print where the program runs, on which data, and with what model."""
    print(f"Device:  {report.device_name()}, backend {keras.backend.backend()}")
    print(f"Data:    {dataset.description}")
    print(
        f"         {sizes['train']:,} train, {sizes['validation']:,} validate, {sizes['test']:,} test"
    )
    print(
        f"Cell:    {config.cell}, {config.units} units; {model.count_params():,} parameters"
    )
    print(f"Kernel:  {kernel(model)}", flush=True)


def get_state(model):
    """Return copies of all that training changes: weights, dropout's seeds, the optimiser's state."""
    return [
        np.array(variable.numpy())
        for variable in (*model.variables, *model.optimizer.variables)
    ]


def set_state(model, state):
    """Set all that training changes to what `get_state` returned."""
    for variable, value in zip((*model.variables, *model.optimizer.variables), state):
        variable.assign(value)


class Keeper(keras.callbacks.Callback):
    """Keeps the best epoch, and all that is needed to go on; ends training after ``steps``.

    After every epoch it writes ``history.csv``, calls ``save`` if the epoch is the best so far, and
    then writes the checkpoint, one file, from which `go_on` sets all of this again.

    Attributes:
        rows: The history.
        step: How many steps are done.
        seconds: How long training took before this process.
        best: The best validation accuracy.
        best_state: The model's state then.
        interrupted: Set to True, it ends training after the step at work, with KeyboardInterrupt.
    """

    def __init__(self, folder, steps, save):
        super().__init__()
        self.folder, self.steps, self.save = folder, steps, save
        self.rows, self.step, self.seconds = [], 0, 0.0
        self.best, self.best_state = -1.0, None
        self.interrupted = False

    def on_train_begin(self, logs=None):
        """Start the clock of the run."""
        self.began = time.perf_counter()

    def on_epoch_begin(self, epoch, logs=None):
        """Start the clock of the epoch."""
        self.started = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        """Count the step; stop after the last."""
        self.step += 1
        if self.step >= self.steps:
            self.model.stop_training = True
        elif self.interrupted:
            raise KeyboardInterrupt

    def on_epoch_end(self, epoch, logs=None):
        """Add a row to the history; keep the weights if they are the best so far."""
        row = {"epoch": epoch + 1, "step": self.step, **logs}
        self.rows.append(
            {**row, "seconds": round(time.perf_counter() - self.started, 3)}
        )
        report.write_history(self.folder / "history.csv", self.rows)
        state = get_state(self.model)
        if logs["val_accuracy"] > self.best:
            self.best, self.best_state = logs["val_accuracy"], state
            self.save()
        progress = {
            "rows": self.rows,
            "step": self.step,
            "seconds": self.seconds + time.perf_counter() - self.began,
            "best": self.best,
        }
        report.write_checkpoint(
            self.folder / CHECKPOINT, progress, state, self.best_state
        )
        if self.interrupted:
            raise KeyboardInterrupt

    def on_train_end(self, logs=None):
        """Stop the clock of the run."""
        self.seconds += time.perf_counter() - self.began

    def go_on(self, model):
        """Set the model and this callback to what they were at the checkpoint, if there is one.

        ``history.csv`` and the saved model may be of a later epoch: write them again.
        """
        path = self.folder / CHECKPOINT
        if not path.exists():
            return
        shapes = [value.shape for value in get_state(model)]
        progress, state, self.best_state = report.read_checkpoint(path, shapes)
        self.rows, self.step = progress["rows"], progress["step"]
        self.seconds, self.best = progress["seconds"], progress["best"]
        set_state(model, self.best_state)
        self.save()
        set_state(model, state)
        report.write_history(self.folder / "history.csv", self.rows)
        print(f"Going on after step {self.step:,} of {self.steps:,}.", flush=True)


@contextlib.contextmanager
def finishing_the_step(keeper):
    """Let the first Ctrl-C wait for the end of the step; the second ends the process at once."""

    def interrupt(number, frame):
        keeper.interrupted = True
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.write(2, b"\nFinishing this step; Ctrl-C again stops at once.\n")

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        if not keeper.interrupted:
            signal.signal(signal.SIGINT, before)


def fit(model, config, data, validation, folder, save, change=None, callbacks=()):
    """Train a compiled model, keep its best epoch by validation, and return what happened.

    If the folder holds a checkpoint, training goes on from there.

    Args:
        model: The model; it ends with the weights of its best epoch.
        config: The run's configuration.
        data: Training inputs and labels.
        validation: Validation inputs and labels.
        folder: Where ``history.csv`` and the checkpoint go.
        save: Called whenever the model is the best so far.
        change: See `make_batches`.
        callbacks: More Keras callbacks.

    Returns:
        Dict of ``steps``, ``fit_seconds`` and ``validation_accuracy``.
    """
    steps = total_steps(config, len(data[1]))
    interval = config.save_every or -(-len(data[1]) // config.batch)
    keeper = Keeper(folder, steps, save)
    create_variables(model, data[1])
    keeper.go_on(model)
    if config.logdir:
        callbacks = [*callbacks, keeper, report.EventLog(events_folder(config, folder))]
    else:
        callbacks = [*callbacks, keeper]
    if keeper.step < steps:
        with finishing_the_step(keeper):
            model.fit(
                make_batches(data, config, change, keeper.step),
                initial_epoch=len(keeper.rows),
                epochs=-(-steps // interval),
                steps_per_epoch=min(interval, steps),
                shuffle=False,  # the stream of batches is shuffled already
                validation_data=without_autotuning(
                    tf.data.Dataset.from_tensor_slices(validation).batch(500)
                ),
                callbacks=callbacks,
            )
    set_state(model, keeper.best_state)
    return {
        "steps": keeper.step,
        "fit_seconds": keeper.seconds,
        "validation_accuracy": keeper.best,
    }


def finish(config, dataset, model, folder, results):
    """Write ``metrics.json``, say what came out, and return the program's exit status."""
    metrics = {
        **results,
        "data": dataset.source,
        "data_description": dataset.description,
        "cell": config.cell,
        "preset": config.preset,
        "parameters": model.count_params(),
        "recurrent_kernel": kernel(model),
        "config": dataclasses.asdict(config),
        "versions": report.versions(),
        "device": report.device_name(),
    }
    report.write_json(folder / METRICS, metrics)  # from here on the run is finished
    (folder / CHECKPOINT).unlink(missing_ok=True)
    accuracy = results["test_accuracy"]
    print(
        f"Test accuracy: {accuracy:.4f}, after {results['steps']:,} steps in "
        f"{results['fit_seconds']:.0f} s; validation {results['validation_accuracy']:.4f}."
    )
    print(f"Run folder: {folder}")
    if dataset.sample_warning:
        print(dataset.sample_warning)
    if accuracy < config.target:
        print(f"The test accuracy {accuracy:.4f} is below the target {config.target}.")
        return 1
    return 0
