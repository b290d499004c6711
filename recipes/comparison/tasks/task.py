"""What all tasks have in common: data from a seed, a network's end, and a measure."""

import dataclasses
import typing

import keras
import numpy as np

#: The seed of the test sets. Their numbers never meet those of a training stream.
TEST_SEED = 0
#: What a training stream and a test set add to their seed, so that they differ.
TRAINING, TEST = 1, 2


@dataclasses.dataclass(frozen=True)
class Head:
    """What follows the recurrent layer: one dense layer, and the loss.

    Attributes:
        outputs: Number of outputs.
        activation: Of the dense layer.
        loss: Name of the Keras loss.
        return_sequences: Whether there are outputs after each step, or after the last.
    """

    outputs: int
    activation: str
    loss: str
    return_sequences: bool


@dataclasses.dataclass(frozen=True)
class Defaults:
    """Where to begin: how to train a small network on the task.

    Attributes:
        steps: Number of batches.
        batch_size: Sequences in a batch.
        learning_rate: Of the optimiser.
        optimizer: Name of the Keras optimiser.
        clipnorm: The largest norm of all gradients together.
        parameters: How many the recurrent layer and what follows it have together.
    """

    steps: int
    batch_size: int
    learning_rate: float
    optimizer: str = "adam"
    clipnorm: float = 1.0
    parameters: int = 5000


@dataclasses.dataclass(frozen=True)
class Chance:
    """What one reaches without memory, in the units of the task's metric.

    Attributes:
        value: The figure.
        why: Its derivation.
    """

    value: float
    why: str


@dataclasses.dataclass(frozen=True)
class Published:
    """A figure that others published.

    Attributes:
        cell: Its cell, a name of ``custom_layers.LAYERS`` where that has it.
        value: The figure, in the units of the task's metric.
        source: Who published it.
        conditions: In what it differs from ours, as far as that is known.
        deviation: Standard deviation over the seeds, or None.
        statistic: What the value is, if it is not a mean.
    """

    cell: str
    value: float
    source: str
    conditions: str
    deviation: float | None = None
    statistic: str = ""


@dataclasses.dataclass(frozen=True)
class Task:
    """A task: subclasses draw its sequences and measure what a network does.

    Attributes:
        name: Its name in `recipes.comparison.tasks.registry.TASKS`.
        goal: What a network has to do, in a few words.
        source: The paper, and its section.
        inputs: Steps and features of a training sequence. A network takes sequences
            of any length, since some tests are longer.
        head: The end of the network.
        metric: The name, among the figures of `evaluate`, of the one that counts.
        better: ``"lower"`` or ``"higher"``.
        chance: What one reaches without memory.
        defaults: Where to begin.
        published: Figures of others.
        cell_options: What cells are given besides their units: name -> arguments.
    """

    name: str
    goal: str
    source: str
    inputs: tuple[int, int]
    head: Head
    metric: str
    better: typing.Literal["lower", "higher"]
    chance: Chance
    defaults: Defaults
    published: tuple[Published, ...] = ()
    cell_options: dict[str, dict] = dataclasses.field(default_factory=dict, hash=False)
    #: Sequences of the test set.
    test_size: typing.ClassVar[int] = 1000

    def draw(self, rng, count):
        """Return inputs, targets and, in some tasks, weights of that many sequences.

        Args:
            rng: A NumPy generator.
            count: Number of sequences.

        Returns:
            Inputs ``(count, steps, features)`` of float32. Targets ``(count, …)``. And,
            where not every step counts, the weights of the steps ``(count, steps)``,
            with a mean of 1.
        """
        raise NotImplementedError

    def measure(self, outputs, targets):
        """Return the figures of a network's outputs on the test set.

        Args:
            outputs: Array of the shape that the network returns.
            targets: Those of `test`.
        """
        raise NotImplementedError

    def solved(self, figures):
        """Return whether figures of `evaluate` mean that the task is solved."""
        raise NotImplementedError

    def batches(self, seed, batch_size=None):
        """Yield batches for ever, the same ones for the same seed.

        Args:
            seed: Non-negative integer.
            batch_size: Sequences in a batch; by default that of `defaults`.

        Yields:
            What `draw` returns.

        Example:
        >>> from recipes.comparison.tasks.registry import TASKS
        >>> x, y = next(TASKS["adding-50"].batches(seed=1, batch_size=8))
        >>> x.shape, y.shape
        ((8, 50, 2), (8, 1))
        """
        rng = np.random.default_rng([TRAINING, seed])
        count = self.defaults.batch_size if batch_size is None else batch_size
        while True:
            yield self.draw(rng, count)

    def test(self, seed=TEST_SEED):
        """Return the test set: what `draw` returns, from a seed of its own."""
        return self.draw(np.random.default_rng([TEST, seed]), self.test_size)

    def make_model(self, make_recurrent):
        """Return a network: a recurrent layer and the task's head, not yet compiled.

        Args:
            make_recurrent: Function that returns a recurrent layer. It is called with
                the keyword argument ``return_sequences``.

        Example:
        >>> import functools, keras
        >>> from recipes.comparison.tasks.registry import TASKS
        >>> make = functools.partial(keras.layers.LSTM, 4)
        >>> TASKS["adding-50"].make_model(make).output_shape
        (None, 1)
        """
        inputs = keras.Input((None, self.inputs[1]))
        h = make_recurrent(return_sequences=self.head.return_sequences)(inputs)
        outputs = keras.layers.Dense(self.head.outputs, self.head.activation)(h)
        return keras.Model(inputs, outputs, name=self.name)

    def compile(self, model, learning_rate=None):
        """Compile a network for the task.

        Args:
            model: One of `make_model`.
            learning_rate: By default that of `defaults`.
        """
        chosen = self.defaults
        optimizer = keras.optimizers.get(
            {
                "class_name": chosen.optimizer,
                "config": {
                    "learning_rate": learning_rate or chosen.learning_rate,
                    "global_clipnorm": chosen.clipnorm,
                },
            }
        )
        model.compile(optimizer, self.head.loss, jit_compile=True)

    def evaluate(self, model):
        """Return a network's figures on the test set, a dict of floats.

        Args:
            model: A Keras model, or anything else with its ``predict``.
        """
        x, y = self.test()[:2]
        return self.measure(predict(model, x), y)

    def observe(self, model):
        """Return what to note of a network before and after training, or None."""
        return None

    def data_warning(self):
        """Return what to tell the reader about the data, or None."""
        return None


def passes(seed, length, count):
    """Yield the numbers of ``count`` examples for ever, none twice in a pass.

    Args:
        seed: Of a training stream.
        length: How many examples there are.
        count: How many are in a batch.

    Raises:
        ValueError: There are not as many.
    """
    if count > length:
        raise ValueError(
            f"batch_size must be at most {length}, the number of examples, got {count}"
        )
    rng = np.random.default_rng([TRAINING, seed])
    while True:
        order = rng.permutation(length)
        for start in range(0, length - count + 1, count):
            yield order[start : start + count]


def predict(model, x):
    """Return a network's outputs, an array."""
    return np.asarray(model.predict(x, batch_size=250, verbose=0))


def cross_entropy(probabilities, labels):
    """Return the mean of −ln p(label), where p is at least 1e-7, as in Keras.

    Args:
        probabilities: ``(…, classes)``.
        labels: Integers ``(…)``.
    """
    likely = np.take_along_axis(probabilities, labels[..., None], axis=-1)
    return float(-np.mean(np.log(np.clip(likely, 1e-7, 1), dtype="float64")))


def one_hot(numbers, count):
    """Return vectors of float32 ``(…, count)``, in which one element is 1."""
    return np.eye(count, dtype="float32")[numbers]


def weights_of(is_counted):
    """Return weights of float32 with a mean of 1; those of steps not counted are 0.

    Keras divides a weighted loss by the number of all steps: with these, it is the mean
    over those that count.
    """
    return (is_counted / is_counted.mean()).astype("float32")
