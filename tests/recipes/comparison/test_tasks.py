"""What all tasks promise, and what each one's specification says."""

import dataclasses
import functools
import itertools
import math

import keras
import numpy as np
import pytest

from custom_layers import standardize_text
from recipes.comparison.tasks import mnist_pixels, reviews
from recipes.comparison.tasks.registry import TASKS
from recipes.comparison.tasks.task import weights_of
from recipes.data.datasets import Dataset, load_imdb, load_mnist

#: Those whose data are the same for all seeds.
CONSTANT = {name for name in TASKS if name.split("-")[0] in ("pulses", "spikes")} | {
    "waveform"
}


@functools.cache
def small(load):
    """Return sixty examples of each split of a sample."""
    sample = load("sample")
    train, test = (
        tuple(array[:60] for array in split) for split in (sample.train, sample.test)
    )
    return Dataset("sample", sample.description, train, test)


@pytest.fixture(autouse=True)
def few_examples(monkeypatch):
    monkeypatch.setattr(mnist_pixels, "load", lambda _: small(load_mnist))
    monkeypatch.setattr(reviews, "load_imdb", lambda _: small(load_imdb))
    reviews.load.cache_clear()


class Predictor:
    """Something with the ``predict`` of a model, from a function."""

    def __init__(self, function):
        self.function = function

    def predict(self, x, batch_size, verbose):
        return self.function(x)


def first_batch(name, seed=1, size=500):
    return next(TASKS[name].batches(seed, size))


# What all tasks promise.


def test_names_are_those_of_the_tasks():
    assert {name: task.name for name, task in TASKS.items()} == {
        name: name for name in TASKS
    }


@pytest.mark.parametrize("name", TASKS)
def test_shapes_are_those_that_the_task_says(name):
    task = TASKS[name]
    x, y, *weights = first_batch(name, size=3)
    if name == "imdb":  # the network makes vectors of the words' numbers
        assert x.shape == (3, task.inputs[0]) and x.dtype == np.int32
    else:
        assert x.shape == (3, *task.inputs) and x.dtype == np.float32
    sparse = task.head.loss.startswith("sparse")
    each_step = task.head.return_sequences and name != "imdb"
    steps = task.inputs[:1] if each_step else ()
    assert y.shape == (3, *steps, *([] if sparse else [task.head.outputs]))
    if sparse:
        assert y.dtype == np.int32
        assert y.max() < task.head.outputs
    for array in weights:
        assert array.shape == (3, task.inputs[0])
        assert array.mean() == pytest.approx(1)


@pytest.mark.parametrize("name", TASKS)
def test_a_seed_gives_the_same_batches_and_another_one_others(name):
    def draw(seed):
        return list(itertools.islice(TASKS[name].batches(seed, 4), 3))

    first, again, other = draw(1), draw(1), draw(2)
    for one, two in zip(first, again, strict=True):
        for left, right in zip(one, two, strict=True):
            np.testing.assert_array_equal(left, right)

    def same(one, two):
        return all(
            np.array_equal(left, right) for left, right in zip(one, two, strict=True)
        )

    if name not in CONSTANT:
        assert not any(map(same, first, other))
        assert not same(first[0], first[1])


@pytest.mark.parametrize("name", TASKS)
def test_the_test_set_is_fixed_and_not_a_training_batch(name):
    task = TASKS[name]
    once, again = task.test(), task.test()
    for left, right in zip(once, again, strict=True):
        np.testing.assert_array_equal(left, right)
    if name not in CONSTANT:
        # Of the same seed, too.
        x = first_batch(name, seed=0, size=min(60, len(once[0])))[0]
        assert not np.array_equal(x, once[0][: len(x)])


@pytest.mark.parametrize("name", TASKS)
def test_a_small_network_trains_and_is_measured(name):
    task = TASKS[name]
    keras.utils.set_random_seed(1)
    model = task.make_model(functools.partial(keras.layers.LSTM, 2))
    task.compile(model)
    model.jit_compile = False  # compiling takes longest
    # Of few steps, tracing takes longer than running.
    model.run_eagerly = task.inputs[0] <= 40
    before = [np.array(weight) for weight in model.get_weights()]
    for batch in itertools.islice(task.batches(1, 2), 2):
        assert math.isfinite(model.train_on_batch(*batch))
    assert any(map(np.any, map(np.subtract, model.get_weights(), before)))
    figures = task.evaluate(model)
    assert task.metric in figures
    assert all(type(value) is float for value in figures.values())
    assert all(map(math.isfinite, figures.values()))
    assert task.solved(figures) is False or task.solved(figures) is np.False_


@pytest.mark.parametrize("name", TASKS)
def test_published_figures_have_a_source_and_the_metrics_units(name):
    task = TASKS[name]
    for row in task.published:
        assert row.source and row.conditions
        if task.metric == "accuracy":
            assert 0 < row.value <= 1
    assert task.chance.why
    assert task.better in ("lower", "higher")


def test_learning_rate_and_clipping_reach_the_optimiser():
    task = TASKS["adding-50"]
    model = task.make_model(functools.partial(keras.layers.SimpleRNN, 2))
    task.compile(model)
    assert float(model.optimizer.learning_rate) == pytest.approx(5e-3)
    assert model.optimizer.global_clipnorm == 1
    task.compile(model, learning_rate=0.25)
    assert float(model.optimizer.learning_rate) == 0.25


def test_keras_takes_the_mean_over_the_steps_that_count():
    task = TASKS["anbn"]
    x, y, weights = first_batch("anbn", size=5)
    model = task.make_model(functools.partial(keras.layers.LSTM, 2))
    task.compile(model)
    loss = model.test_on_batch(x, y, weights)
    p = np.asarray(model(x), "float64")
    each = -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean(axis=-1)
    assert loss == pytest.approx(each[weights > 0].mean(), rel=1e-4)
    np.testing.assert_allclose(weights_of(np.array([[1, 0], [1, 1]]) > 0).sum(), 4)


# The adding problem.


@pytest.mark.parametrize("T", [50, 100, 200, 400])
def test_adding_marks_one_number_in_each_half_and_adds_them(T):
    x, y = first_batch(f"adding-{T}")
    numbers, markers = x[..., 0], x[..., 1]
    assert set(np.unique(markers)) == {0, 1}
    assert (markers[:, : T // 2].sum(axis=1) == 1).all()
    assert (markers[:, T // 2 :].sum(axis=1) == 1).all()
    np.testing.assert_allclose((numbers * markers).sum(axis=1), y[:, 0], rtol=1e-6)
    # Uniform: mean and variance within four standard errors; every place is used.
    assert abs(numbers.mean() - 1 / 2) < 4 * math.sqrt(1 / 12 / numbers.size)
    assert abs(numbers.var() - 1 / 12) < 4 * math.sqrt(1 / 180 / numbers.size)
    assert {0, T - 1} <= set(np.nonzero(first_batch(f"adding-{T}", 1, 9000)[0])[1])


def test_predicting_one_has_a_sixth_in_the_adding_problem():
    task = TASKS["adding-50"]
    _, y = first_batch("adding-50", size=20_000)
    squares = (y - 1) ** 2
    error = squares.std() / math.sqrt(len(y))
    assert abs(squares.mean() - task.chance.value) < 4 * error
    figures = task.evaluate(Predictor(lambda x: np.ones((len(x), 1), "float32")))
    assert figures["mse"] == pytest.approx(1 / 6, rel=0.15)
    assert not task.solved(figures)


def test_adding_is_solved_by_the_sum_and_not_by_one_marker():
    task = TASKS["adding-100"]
    exact = Predictor(lambda x: (x[..., 0] * x[..., 1]).sum(axis=1, keepdims=True))
    figures = task.evaluate(exact)
    assert figures["mse"] < 1e-12
    assert figures["correct"] == 1
    assert task.solved(figures)
    first = Predictor(lambda x: (x[..., 0] * x[..., 1])[:, :50].sum(1, keepdims=True))
    assert not task.solved(task.evaluate(first))


# Copy memory.


@pytest.mark.parametrize("T", [20, 50, 100, 500])
def test_copy_repeats_the_ten_symbols_after_the_signal(T):
    x, y = first_batch(f"copy-{T}", size=50)
    assert (x.sum(axis=-1) == 1).all()
    given = x.argmax(axis=-1)
    assert given.shape == (50, T + 20)
    assert set(np.unique(given[:, :10])) == set(range(1, 9))
    assert (given[:, 10 : T + 9] == 0).all()
    assert (given[:, T + 9] == 9).all()
    assert (given[:, T + 10 :] == 0).all()
    assert (y[:, : T + 10] == 0).all()
    np.testing.assert_array_equal(y[:, T + 10 :], given[:, :10])


def copy(x, shift=0):
    """The probabilities of the perfect network, or of one that is late."""
    outputs = np.zeros((*x.shape[:2], 9), "float32")
    outputs[..., 0] = 1
    outputs[:, -10:] = np.roll(x[:, :10, :9], shift, axis=1)
    return outputs


def test_copy_is_solved_by_a_copy_and_not_by_a_shifted_one():
    task = TASKS["copy-20"]
    figures = task.evaluate(Predictor(copy))
    assert figures == {"cross_entropy": 0, "correct": 1}
    assert task.solved(figures)
    late = task.evaluate(Predictor(functools.partial(copy, shift=1)))
    # An eighth of the neighbours are equal.
    assert late["correct"] == pytest.approx(1 / 8, abs=0.03)
    assert not task.solved(late)


@pytest.mark.parametrize("T", [20, 500])
def test_guessing_the_symbols_has_the_level_of_copy_memory(T):
    def guess(x):
        outputs = np.zeros((*x.shape[:2], 9), "float32")
        outputs[:, :-10, 0] = 1
        outputs[:, -10:, 1:] = 1 / 8
        return outputs

    task = TASKS[f"copy-{T}"]
    figures = task.evaluate(Predictor(guess))
    assert figures["cross_entropy"] == pytest.approx(task.chance.value, rel=1e-6)
    assert task.chance.value == pytest.approx(10 * math.log(8) / (T + 20))
    assert figures["correct"] == pytest.approx(1 / 8, abs=0.02)


def test_level_of_copy_memory_is_that_of_the_paper():
    """T = 1,000: Bai et al. write 0.0204."""
    assert round(10 * math.log(8) / 1020, 4) == 0.0204


# Temporal order.


def read_order(symbols):
    """The class, from the string alone."""
    return int(symbols.replace("Y", "1").replace("X", "0").translate(DELETE), 2)


DELETE = str.maketrans("", "", "EBabcd")


def test_class_of_temporal_order_is_the_order_of_its_symbols():
    x, classes = first_batch("temporal-order-50", size=2000)
    strings = ["".join("EBXYabcd"[i] for i in row) for row in x.argmax(axis=-1)]
    assert (x.sum(axis=-1) == 1).all()
    assert [read_order(string) for string in strings] == classes.tolist()
    assert read_order("EaXbYcXB") == 2
    assert read_order("EYYXB") == 6
    for string in strings:
        assert string[0] == "E" and string[-1] == "B"
        assert not {"E", "B"} & set(string[1:-1])
    places = np.array([[i for i, s in enumerate(t) if s in "XY"] for t in strings])
    assert places.shape == (2000, 3)
    assert places.min(axis=0).tolist() == [5, 16, 33]
    assert places.max(axis=0).tolist() == [10, 21, 38]


def test_classes_of_temporal_order_are_equally_likely():
    classes = first_batch("temporal-order-50", size=8000)[1]
    counts = np.bincount(classes, minlength=8)
    # χ² with 7 degrees of freedom is above 24.3 once in a thousand.
    assert ((counts - 1000) ** 2 / 1000).sum() < 24.3


def test_temporal_order_is_solved_by_reading_and_not_by_two_symbols():
    task = TASKS["temporal-order-50"]

    def read(x, skip=0):
        is_y, is_one = x[..., 3], x[..., 2] + x[..., 3]
        bits = np.array([row[one > 0] for row, one in zip(is_y, is_one, strict=True)])
        bits[:, :skip] = 0
        return np.eye(8)[(bits @ [4, 2, 1]).astype(int)]

    assert task.solved(task.evaluate(Predictor(read)))
    figures = task.evaluate(Predictor(functools.partial(read, skip=1)))
    assert figures["accuracy"] == pytest.approx(1 / 2, abs=0.04)
    assert not task.solved(figures)


# Counting.


def next_symbols(prefix, letters):
    """The symbols that can come next, by trying all strings of the language."""
    most = len(prefix) + 1
    strings = ["S" + "".join(s * n for s in letters) + "T" for n in range(1, most + 1)]
    return {s[len(prefix)] for s in strings if s.startswith(prefix) and s != prefix}


@pytest.mark.parametrize("letters", ["ab", "abc"])
def test_targets_of_counting_are_the_symbols_that_can_come_next(letters):
    task = TASKS["".join(f"{letter}n" for letter in letters)]
    x, y, weights = task.test()
    assert len(x) == 10
    for n in range(1, 11):
        string = "S" + "".join(letter * n for letter in letters)
        steps = len(string)
        read = "".join(("S" + letters)[i] for i in x[n - 1, :steps].argmax(axis=-1))
        assert read == string
        assert (x[n - 1, :steps].sum(axis=-1) == 1).all()
        for t in range(steps):
            target = {(letters + "T")[i] for i in np.nonzero(y[n - 1, t])[0]}
            assert target == next_symbols(string[: t + 1], letters), (n, t)
        assert not x[n - 1, steps:].any()
        assert not y[n - 1, steps:].any()
        assert (weights[n - 1, :steps] > 0).all()
        assert not weights[n - 1, steps:].any()


@pytest.mark.parametrize("name", ["anbn", "anbncn"])
def test_counting_is_trained_with_n_from_one_to_ten(name):
    x, _, _ = first_batch(name, size=2000)
    numbers = x[..., 1].sum(axis=1)
    assert np.unique(numbers).tolist() == list(range(1, 11))
    counts = np.bincount(numbers.astype(int))[1:]
    # χ² with 9 degrees of freedom is above 27.9 once in a thousand.
    assert ((counts - 200) ** 2 / 200).sum() < 27.9


def count(x, most=10**9, wrong=0):
    """The perfect network, which counts to ``most`` at most, or miscounts."""
    symbols = x.shape[-1]
    n = x[..., 1].sum(axis=1, keepdims=True)
    n = np.minimum(n, most) + wrong * (n > 20)
    outputs = np.zeros(x.shape, "float32")
    outputs[:, 0, 0] = 1
    outputs[..., :2] += x[..., 1:2]
    for place in range(2, symbols):
        seen = np.cumsum(x[..., place], axis=1)
        is_last = x[..., place] * (seen == n)
        outputs[..., place] += is_last
        outputs[..., place - 1] += x[..., place] - is_last
    return outputs


@pytest.mark.parametrize("name", ["anbn", "anbncn"])
def test_counting_measures_how_far_it_generalises(name):
    task = TASKS[name]
    assert task.evaluate(Predictor(count)) == {"largest_n": 1000, "trained": 1}
    for most in (1, 9, 10, 29, 30, 31, 270, 999):
        figures = task.evaluate(Predictor(functools.partial(count, most=most)))
        assert figures == {"largest_n": most, "trained": min(most, 10) / 10}
        assert task.solved(figures) == (most >= 10)
    off_by_one = task.evaluate(Predictor(functools.partial(count, wrong=1)))
    assert off_by_one["largest_n"] == 20


@pytest.mark.parametrize("name", ["anbn", "anbncn"])
def test_counting_without_memory_accepts_the_shortest_string_alone(name):
    """A function of the symbol: after S an a; after an a, a or b; then the next."""
    task = TASKS[name]
    following = np.eye(task.inputs[1])
    following[1, 0] = 1
    figures = task.evaluate(Predictor(lambda x: x @ following))
    assert figures == {"largest_n": task.chance.value, "trained": 0.1}
    figures = task.evaluate(Predictor(lambda x: np.full(x.shape, 0.9)))
    assert figures == {"largest_n": 0, "trained": 0}


# Timing.


@pytest.mark.parametrize("F", [10, 25])
def test_delays_are_those_between_the_spikes(F):
    x, y, weights = first_batch(f"delays-{F}", size=300)
    longer = []
    for given, target, weight in zip(x[..., 0], y[..., 0], weights, strict=True):
        spikes = np.nonzero(given)[0]
        assert spikes[0] == 0
        intervals = np.diff(spikes)
        assert len(intervals) == 10
        assert set(intervals) <= {F, F + 1}
        np.testing.assert_array_equal(target[spikes[1:]], intervals == F + 1)
        np.testing.assert_array_equal(np.nonzero(weight)[0], spikes[1:])
        longer += list(intervals == F + 1)
    assert abs(np.mean(longer) - 1 / 2) < 4 * 0.5 / math.sqrt(len(longer))


def measure_delays(x, F, late=0):
    outputs = np.zeros(x.shape, "float32")
    for i, given in enumerate(x[..., 0]):
        spikes = np.nonzero(given)[0]
        outputs[i, spikes[1:], 0] = np.diff(spikes) + late > F
    return outputs


@pytest.mark.parametrize("F", [10, 25])
def test_delays_are_solved_by_measuring_and_not_if_one_off(F):
    task = TASKS[f"delays-{F}"]
    exact = task.evaluate(Predictor(functools.partial(measure_delays, F=F)))
    assert exact == {"correct": 1, "streams": 1}
    assert task.solved(exact)
    late = task.evaluate(Predictor(functools.partial(measure_delays, F=F, late=1)))
    assert late["correct"] == pytest.approx(task.chance.value, abs=0.02)
    assert not task.solved(late)


@pytest.mark.parametrize("F", [10, 25])
@pytest.mark.parametrize("kind", ["pulses", "spikes"])
def test_pulses_come_every_F_steps(kind, F):
    x, y = first_batch(f"{kind}-{F}", size=4)
    for given, target in zip(x[..., 0], y[..., 0], strict=True):
        assert len(set(given)) == 1
        period = F if kind == "pulses" else F + given[0]
        spikes = np.nonzero(target)[0]
        assert spikes[0] == period - 1
        assert set(np.diff(spikes)) == {period}
        assert len(spikes) >= 5
    assert set(x[:, 0, 0]) == ({1} if kind == "pulses" else {0, 1})


def pulse(x, F, kind, drift=0):
    """A generator, which ``drift`` makes lose a step after 25 cycles."""
    outputs = np.zeros(x.shape, "float32")
    for i, given in enumerate(x[:, 0, 0]):
        period = int(F if kind == "pulses" else F + given)
        spikes = np.arange(period - 1, x.shape[1] - drift, period)
        outputs[i, spikes + drift * (np.arange(len(spikes)) >= 25)] = 1
    return outputs


@pytest.mark.parametrize("F", [10, 25])
@pytest.mark.parametrize("kind", ["pulses", "spikes"])
def test_pulses_are_solved_by_a_clock_and_not_by_one_that_drifts(kind, F):
    task = TASKS[f"{kind}-{F}"]
    exact = task.evaluate(Predictor(functools.partial(pulse, F=F, kind=kind)))
    assert exact == {"cycles": 1, "stable": 50, "mse": 0}
    assert task.solved(exact)
    drifting = Predictor(functools.partial(pulse, F=F, kind=kind, drift=1))
    figures = task.evaluate(drifting)
    assert figures["stable"] == 25
    assert figures["cycles"] == 1 / 2
    assert not task.solved(figures)
    for value in (0.0, 1 / F, 1.0):
        constant = Predictor(functools.partial(np.full_like, fill_value=value))
        assert task.evaluate(constant)["cycles"] == task.chance.value


# The waveform.


def test_waveform_has_four_periods_and_the_variance_that_is_its_level():
    task = TASKS["waveform"]
    x, y = first_batch("waveform", size=2)
    assert (x == 1).all()
    np.testing.assert_array_equal(y[0], y[1])
    spectrum = np.abs(np.fft.rfft(y[0, :, 0])) / 160
    peaks = {8: 1 / 2, 32: 1 / 2, 80: 1 / 2, 160: 1 / 2}
    for k in range(161):
        assert spectrum[k] == pytest.approx(peaks.get(320 / k, 0) if k else 0, abs=1e-6)
    silence = task.evaluate(Predictor(np.zeros_like))
    assert silence["mse"] == pytest.approx(task.chance.value, abs=1e-6)
    assert not task.solved(silence)
    assert task.solved(task.evaluate(Predictor(lambda x: y[:1])))
    shifted = np.roll(y[:1], 1, axis=1)
    assert not task.solved(task.evaluate(Predictor(lambda x: shifted)))


# MNIST.


def test_pixels_are_those_of_the_rows_and_permuted_ones_in_a_fixed_order():
    (rows, labels), (pixels, same), (permuted, again) = (
        TASKS[f"mnist-{order}"].test() for order in ("rows", "pixels", "permuted")
    )
    images, wanted = small(load_mnist).test
    np.testing.assert_array_equal(labels, wanted)
    np.testing.assert_array_equal(same, wanted)
    np.testing.assert_array_equal(again, wanted)
    np.testing.assert_allclose(rows * 255, images, rtol=1e-6)
    np.testing.assert_array_equal(pixels.reshape(-1, 28, 28), rows)
    order = TASKS["mnist-permuted"].permutation
    assert sorted(order) == list(range(784))
    np.testing.assert_array_equal(permuted[..., 0], pixels[:, order, 0])
    # It is the same for ever: what was measured with it stays comparable.
    assert order[:5].tolist() == ORDER


ORDER = [732, 223, 118, 374, 466]


def test_a_pass_over_mnist_has_no_image_twice():
    task = TASKS["mnist-rows"]
    for seed in (1, 2):
        batches = itertools.islice(task.batches(seed, 20), 3)
        seen = np.concatenate([x for x, _ in batches])
        assert len(np.unique(seen, axis=0)) == 60
    with pytest.raises(ValueError, match="batch_size must be at most 60.*got 61"):
        next(task.batches(1, 61))


def test_the_sample_is_not_taken_for_real_data():
    for name, task in TASKS.items():
        is_real = name.startswith(("mnist", "imdb"))
        assert (task.data_warning() is not None) == is_real, name


def test_mnist_is_solved_by_the_labels_and_guessing_has_a_tenth():
    task = TASKS["mnist-rows"]
    x, labels = task.test()
    assert task.solved(task.evaluate(Predictor(lambda x: np.eye(10)[labels])))
    guess = np.full((len(labels), 10), 0.1, "float32")
    figures = task.evaluate(Predictor(lambda x: guess))
    assert figures["cross_entropy"] == pytest.approx(math.log(10))
    assert not task.solved(figures)
    assert task.chance.value == 1 / 10


def test_a_review_is_its_last_words():
    """Numbers stand for the same words throughout, and zeros before a short review."""
    task = TASKS["imdb"]
    texts, labels = small(load_imdb).test
    x, y = task.test()
    words = [bytes(it).split() for it in standardize_text(texts).numpy()]
    order = np.random.default_rng(0).permutation(60)
    known = {}
    for numbers, label, index in zip(x, y, order, strict=True):
        assert label == labels[index]
        length = min(len(words[index]), task.inputs[0])
        assert not numbers[: -length or None].any() or length == task.inputs[0]
        assert numbers[-length:].all()
        last = words[index][-1]
        assert known.setdefault(last, numbers[-1]) == numbers[-1]
    assert len(known) > 5 and len(set(known.values())) > 5


def test_reviews_are_solved_by_the_labels():
    task = TASKS["imdb"]
    x, y = task.test()
    labels = {row.tobytes(): label for row, label in zip(x, y, strict=True)}

    def read(given):
        return np.array([labels[row.tobytes()] for row in given])

    assert task.solved(task.evaluate(Predictor(read)))
    assert not task.solved(task.evaluate(Predictor(lambda given: 1 - read(given))))
    assert not task.solved(task.measure(np.ones_like(y), y))


def test_a_task_is_plain_data():
    """Its fields are compared, so that a task rebuilt from its name is the same."""
    for task in TASKS.values():
        assert dataclasses.replace(task) == task
        assert hash(task) == hash(dataclasses.replace(task))
