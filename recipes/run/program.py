"""What both programs do around their training: choices, data, report, errors."""

import dataclasses
import sys
from collections.abc import Callable

import keras
import tensorflow as tf

from custom_layers import kernel_report
from recipes.run.command_line import UserError, flag_name, parse
from recipes.run.environment import device_name, set_up, versions
from recipes.run.files import write_json, write_text
from recipes.run.folder import Run
from recipes.run.output import guarded
from recipes.run.values import printable

FAILED = 1  # the exit status of training that diverges or misses its target
INTERRUPTED = 130  # the exit status after Ctrl-C


@dataclasses.dataclass(frozen=True)
class Program:
    """A program that trains.

    Attributes:
        recipe: Its name, ``"mnist"`` or ``"imdb"``.
        description: What ``--help`` says first.
        presets: Dict from name to configuration; the first is the default.
        sample: Dict from preset to what differs in it on the built-in sample, which
            needs other settings to be learnt: a dict of defaults, which flags override.
        load: Called with ``"auto"``, ``"full"`` or ``"sample"``; returns the `Dataset`.
        train: Called with the `Run` and the `Dataset`; trains and tests a model, and
            returns it and a dict of figures, ``test_accuracy`` and what `fit` returns
            among them. When it knows its model, and before it trains, it calls `begin`.
    """

    recipe: str
    description: str
    presets: dict
    sample: dict
    load: Callable
    train: Callable

    @property
    def config_class(self):
        """The class of the presets."""
        return type(next(iter(self.presets.values())))

    def main(self, arguments):
        """Train as the command line says; return the exit status."""
        sample_presets = {
            name: dataclasses.replace(preset, **self.sample[name])
            for name, preset in self.presets.items()
        }
        program = f"python -m recipes {self.recipe}"
        config, sample_config = (
            parse(program, presets, self.description, arguments)
            for presets in (self.presets, sample_presets)
        )
        config.check()
        on_sample = {
            name: value
            for name, value in vars(sample_config).items()
            if value != getattr(config, name)
        }
        return self.execute(Run(self.recipe, config), on_sample)

    def execute(self, run, on_sample=None):
        """Carry out a run, new or resumed; return the exit status.

        It is `FAILED` if training diverges or the target is missed, and `INTERRUPTED`
        after Ctrl-C.

        Args:
            run: The `Run`.
            on_sample: What to change in its configuration if its data are the sample.

        Raises:
            UserError: The disk is full, the folder cannot be written for another
                reason, or there is too little memory.
        """
        try:
            with guarded("stdout", needed=False), guarded("stderr", needed=False):
                return self._train(run, on_sample)
        except (MemoryError, tf.errors.ResourceExhaustedError) as error:
            raise UserError(
                "too little memory for these sizes: choose smaller ones"
            ) from error
        except OSError as error:
            if run.folder is None:
                raise
            reason = error.strerror or error
            raise UserError(
                f"cannot write in {run.folder}: {reason}; when that is solved: "
                f"{run.folder.resume_command}"
            ) from error
        finally:
            if run.lock is not None:
                run.lock.close()

    def _train(self, run, on_sample):
        try:
            if run.folder:
                print(f"Resuming {printable(str(run.folder))}.")
                warn_of_versions(run.versions)
            set_up(run.config)
            dataset = self.load(run.source)
            if dataset.sample_warning:
                print(dataset.sample_warning)
            if dataset.source == "sample" and on_sample:
                flags = [f"--{flag_name(name)} {on_sample[name]}" for name in on_sample]
                print(f"Settings that learn the sample: {' '.join(flags)}")
                run.config = dataclasses.replace(run.config, **on_sample)
            model, figures = self.train(run, dataset)
            return write_metrics(run, dataset, model, figures)
        except KeyboardInterrupt:
            print_interrupted(run)
            return INTERRUPTED
        except FloatingPointError as error:
            end_diverged(run, error)
            return FAILED


def warn_of_versions(began):
    """Print one line if a run began with other versions than these of now."""
    now = versions()
    changed = [
        f"{name} {version}, now {now.get(name)}"
        for name, version in began.items()
        if version != now.get(name)
    ]
    if changed:
        print(
            f"WARNING: the run began with {'; '.join(changed)}: its result may differ."
        )


def begin(run, dataset, train, validation, model):
    """Print device, data and model of a run, and create its folder.

    Args:
        run: The `Run`.
        dataset: Its `Dataset`.
        train: The labels to train on.
        validation: The labels to validate on.
        model: The model.
    """
    splits = {"train": train, "validate": validation, "test": dataset.test[1]}
    sizes = [f"{len(labels):,} {name}" for name, labels in splits.items()]
    config = run.config
    print(f"Device:  {device_name(config.devices)}, backend {keras.backend.backend()}")
    print(f"Data:    {dataset.description}")
    print(f"         {', '.join(sizes)}")
    print(
        f"Cell:    {config.cell}, {config.units} units; "
        f"{model.count_params():,} parameters"
    )
    now = kernel(model)
    print(f"Kernel:  {now}", flush=True)
    if run.kernel not in (None, now):
        print(f"WARNING: the run began with {run.kernel}: its result may differ.")
    run.make_folder(dataset.source, now)


def kernel(model):
    """Return in one line which kernel the recurrent layers use here, and why."""
    device = "gpu" if tf.config.list_physical_devices("GPU") else "cpu"
    try:
        report = kernel_report(model)
    except ValueError as error:  # of a variable of the environment
        raise UserError(str(error)) from error
    kernels = {layer[device] for layer in report.values()}
    return ", ".join(sorted(kernels))


def print_interrupted(run):
    """Say what an interrupted run has left, and how to resume it."""
    if run.folder is None:
        print("\nInterrupted before training began.")
        return
    if run.folder.model.exists():
        print(f"\nInterrupted. The best model so far: {run.folder.model}")
    else:
        print("\nInterrupted before the first validation.")
    print(f"To resume: {run.folder.resume_command}")


def end_diverged(run, error):
    """Mark a run as diverged, and say on standard error what it has left.

    The best finite model stays. The checkpoint goes: whoever resumes from it repeats
    the same steps.
    """
    kept = "no validation was finite, so that no model is kept"
    if run.folder.model.exists():
        kept = f"the best model before that is kept: {run.folder.model}"
    line = (
        f"training diverged: {error}; {kept}; usually the --learning-rate is too "
        f"large, here {run.config.learning_rate!r}"
    )
    write_text(run.folder.diverged, line + "\n")
    run.folder.checkpoint.unlink(missing_ok=True)
    print(flush=True)  # after the progress bar
    print("error:", line, file=sys.stderr)


def write_metrics(run, dataset, model, figures):
    """Write ``metrics.json``, print the result, and return the exit status."""
    config = run.config
    metrics = {
        **figures,
        "data": dataset.source,
        "data_description": dataset.description,
        "cell": config.cell,
        "preset": config.preset,
        "parameters": model.count_params(),
        "recurrent_kernel": kernel(model),
        "config": dataclasses.asdict(config),
        "versions": versions(),
        "device": device_name(config.devices),
    }
    write_json(run.folder.metrics, metrics)  # from here on the run is finished
    run.folder.checkpoint.unlink(missing_ok=True)
    accuracy = figures["test_accuracy"]
    print(
        f"Test accuracy: {accuracy:.4f}, after {figures['steps']:,} steps in "
        f"{figures['fit_seconds']:.0f} s; "
        f"validation {figures['validation_accuracy']:.4f}."
    )
    print(f"Run folder: {run.folder}")
    if dataset.sample_warning:
        print(dataset.sample_warning)
    if not accuracy >= config.target:
        print(f"The test accuracy {accuracy:.4f} is below the target {config.target}.")
        return FAILED
    return 0
