"""IMDB: a recurrent network reads film reviews and tells good from bad.

    preset    test accuracy   minutes   command
    modern    91.91 %         1.2       make train-imdb
    best      93.01 %         53        make train-imdb PRESET=best
    classic   83.19 %         2.5       make train-imdb PRESET=classic

Measured on IMDB with seed 1, ``best`` in the mean of seeds 1 to 3, on 2 cores of an
AMD EPYC without a GPU. The minutes are those in training; of ``best``, those of the
whole run on one of the cores.
``classic`` is the article's program; ``modern``, the default, is how one would write it
today; ``best`` also uses the unlabelled reviews; on the built-in sample, `SAMPLE`
changes all of them. Without make: ``python -m recipes imdb --preset classic``.
"""

import dataclasses

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from custom_layers import NgramWeights, standardize_text
from recipes.data.datasets import load_imdb, load_unlabelled_reviews
from recipes.data.films import group_by_film, hold_out
from recipes.pictures.draw import draw_imdb
from recipes.run import devices
from recipes.run.command_line import UserError, exit_with, flag
from recipes.run.config import LEARNING_RATE, Config
from recipes.run.program import Program, begin
from recipes.training.batches import count_steps, make_batches
from recipes.training.checkpoint import check_bounded, read_phase, write_phase
from recipes.training.evidence import fit_evidence
from recipes.training.fit import create_variables, fit, predict
from recipes.training.regions import PASSES, UNITS, RegionLearner, region_vectors

SEGMENT = 25  # words that the networks of modern and best read in one go
COUNTED_WORDS = 60_000  # the most frequent ones, of which there is evidence
REGION_WORDS = 30_000  # of which there are vectors in the preset best
REGION_LENGTH = 1000  # words of a text from which these are learnt, the last ones


@dataclasses.dataclass(frozen=True)
class ImdbConfig(Config):
    """The choices of this program."""

    vocabulary: int = flag(
        3000, "words known, the most frequent ones", least=3, most=10**6
    )
    words: int = flag(
        400, "words read of a review, the last ones", least=1, most=10_000
    )
    embedding: int = flag(64, "size of a word's vector", least=1, most=10_000)
    learning_rate: float = flag(
        2e-3, "step size of the optimiser, at its peak", **LEARNING_RATE
    )

    def check(self):
        """Raise UserError for values that mean nothing."""
        super().check()
        if self.preset != "classic" and self.words % SEGMENT:
            raise UserError(
                f"--words must be a multiple of {SEGMENT}, got {self.words}"
            )


PRESETS = {
    "modern": ImdbConfig("modern", units=32, epochs=3, batch=64),
    "best": ImdbConfig("best", units=32, epochs=3, batch=64),
    "classic": ImdbConfig(
        "classic",
        units=100,
        epochs=7,
        batch=64,
        vocabulary=5000,
        words=80,
        embedding=32,
        learning_rate=0.001,
    ),
}

#: What differs on the built-in sample, which is small: defaults that learn it.
SAMPLE = {
    "modern": {"epochs": 6, "words": 75},
    "best": {"epochs": 6, "words": 75},
    "classic": {"epochs": 20},
}


def counted_words(config):
    """Return how many words the tokenizer numbers."""
    if config.preset == "classic":
        return config.vocabulary
    return max(config.vocabulary, COUNTED_WORDS)


def make_tokenizer(texts, vocabulary, length):
    """Return the model from texts ``()`` to word numbers ``(length,)``.

    0 pads and 1 is unknown. The LAST ``length`` words are kept, padded on the right,
    where cuDNN wants the padding; an empty text becomes one unknown word, since cuDNN
    cannot take a fully masked sequence.

    The words are those of `custom_layers.standardize_text`: case, accents, punctuation
    and typography count for nothing, so that a text with “typographic” quotes, dashes
    and spaces has the numbers of the plain one. A saved model does the same.

    Args:
        texts: The texts whose words are counted: those of the training split and, in
            the preset best, the unlabelled ones; never those of validation or test.
        vocabulary: How many words to know.
        length: How many words to keep.
    """
    vectorize = keras.layers.TextVectorization(
        max_tokens=vocabulary, standardize=standardize_text, name="vectorize"
    )
    vectorize.adapt(tf.data.Dataset.from_tensor_slices(texts).batch(1000))
    return with_length(vectorize, length)


def with_length(vectorize, length):
    """Return the tokenizer of `make_tokenizer` around its layer ``vectorize``."""
    text = keras.Input((), dtype="string", name="text")
    numbers = vectorize(text)
    count = ops.sum(ops.cast(ops.not_equal(numbers, 0), "int32"), axis=1, keepdims=True)
    kept = ops.maximum(count - length, 0) + np.arange(length, dtype="int32")
    numbers = ops.take_along_axis(ops.pad(numbers, [[0, 0], [0, length]]), kept, axis=1)
    at_least_one = np.eye(1, length, dtype="int32")[0]
    return keras.Model(
        text, ops.maximum(ops.cast(numbers, "int32"), at_least_one), name="tokenizer"
    )


def add_evidence(tokenizer, weights):
    """Return a tokenizer that gives each word's evidence, too.

    Args:
        tokenizer: What `make_tokenizer` returned.
        weights: The `custom_layers.NgramWeights` that `fit_evidence` has set.

    Returns:
        The model from texts ``()`` to a dict of ``words`` ``(length,)`` and
        ``evidence`` ``(length, 3, 2)``: of the word, pair and triple that end there.
    """
    words = tokenizer.output
    outputs = {"words": words, "evidence": weights(words)}
    return keras.Model(tokenizer.input, outputs, name="tokenizer")


def make_classic(config):
    """Return the article's network: word numbers in, probability of good out."""
    numbers = keras.Input((config.words,), dtype="int32", name="words")
    vectors = keras.layers.Embedding(
        config.vocabulary, config.embedding, mask_zero=True
    )(numbers)
    # Keras 1 dropped whole words' vectors, wherever the word stood in the batch; here
    # each time anew.
    vectors = keras.layers.Dropout(0.2, noise_shape=(None, config.words, 1))(vectors)
    kind = "weight_dropout" if config.cell == "weight-drop" else "recurrent_dropout"
    recurrent = config.make_recurrent(dropout=0.2, **{kind: 0.2})
    probability = keras.layers.Dense(1, "sigmoid")(recurrent(vectors))
    model = keras.Model(numbers, probability, name="classic")
    optimizer = keras.optimizers.Adam(config.learning_rate)
    model.compile(
        optimizer, "binary_crossentropy", metrics=["accuracy"], jit_compile=False
    )
    return model


def make_modern(config, steps, with_regions=False):
    """Return today's network: what `add_evidence` gives in, probability of good out.

    The review is cut into segments of 25 words, which the recurrent layer reads side by
    side, as a larger batch; maximum and mean of its outputs over all words decide, with
    the mean word vector. Half of the evidence joins each word's vector. The sum of all
    of it joins what decides; that of the ratios is divided by the root of the number of
    words.

    Args:
        config: The `ImdbConfig`.
        steps: For how many steps it is trained.
        with_regions: Whether the vectors of the regions around each word join its own,
            and decide, too. The layer ``regions`` gets the words' part of them, which a
            `RegionLearner` has learnt.
    """
    inputs = {
        "words": keras.Input((config.words,), dtype="int32", name="words"),
        "evidence": keras.Input((config.words, 3, 2), name="evidence"),
    }
    numbers = inputs["words"]
    numbers = ops.where(numbers < config.vocabulary, numbers, 1)
    is_word = ops.expand_dims(ops.cast(ops.not_equal(numbers, 0), "float32"), -1)
    count = ops.sum(is_word, axis=1)
    vectors = keras.layers.Embedding(config.vocabulary, config.embedding)(numbers)
    vectors = keras.layers.Dropout(0.5, noise_shape=(None, config.words, 1))(vectors)
    vectors = keras.layers.SpatialDropout1D(0.3)(vectors) * is_word
    recurrent = config.make_recurrent(return_sequences=True)
    evidence = ops.reshape(inputs["evidence"] / 2, (-1, config.words, 6))
    read = ops.concatenate([vectors, evidence], axis=-1)
    local = []
    if with_regions:
        known = ops.where(inputs["words"] < REGION_WORDS, inputs["words"], 1)
        inside = keras.layers.Embedding(
            REGION_WORDS, UNITS, trainable=False, name="regions"
        )
        around = region_vectors(inside(known) * is_word)
        around = keras.layers.SpatialDropout1D(0.3)(around)
        read = ops.concatenate([read, keras.layers.Dense(64)(around) / 2], axis=-1)
        near = keras.layers.Conv1D(100, 3, padding="same")(vectors)
        near = ops.relu(near + keras.layers.Dense(100)(around)) * is_word
        local = [ops.max(near, axis=1), ops.sum(near, axis=1) / count]
    segments = ops.reshape(read, (-1, SEGMENT, read.shape[-1]))
    outputs = keras.layers.Bidirectional(recurrent)(segments)
    outputs = ops.reshape(outputs, (-1, config.words, 2 * config.units))
    features = [
        ops.max(outputs * is_word - 2 * (1 - is_word), axis=1),
        ops.sum(outputs * is_word, axis=1) / count,
        ops.sum(vectors, axis=1) / count,
        *local,
    ]
    features = keras.layers.Dropout(0.5)(ops.concatenate(features, axis=-1))
    total = ops.sum(inputs["evidence"], axis=1)
    totals = [total[..., 0] / ops.sqrt(count), total[..., 1]]
    features = ops.concatenate([features, *totals], axis=-1)
    probability = keras.layers.Dense(1, "sigmoid")(features)
    model = keras.Model(inputs, probability, name="modern")
    warmup = max(1, steps // 10)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.1 * config.learning_rate,
        max(1, steps - warmup),
        alpha=0.02,
        warmup_target=config.learning_rate,
        warmup_steps=warmup,
    )
    optimizer = keras.optimizers.Adam(schedule, global_clipnorm=1.0)
    loss = keras.losses.BinaryCrossentropy(label_smoothing=0.1)
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)
    return model


def in_batches(function, inputs):
    """Return what a function, such as a tokenizer, makes of inputs ``(n, …)``."""
    batches = [
        function(tf.constant(inputs[first : first + 500]))
        for first in range(0, len(inputs), 500)
    ]
    return keras.tree.map_structure(lambda *parts: np.concatenate(parts), *batches)


def guess_labels(run, model, known, words):
    """Train a network, and return its probabilities for unlabelled reviews ``(n,)``.

    The run's folder keeps them: a resumed run does not train this network again.

    Args:
        run: The `Run`.
        model: The compiled network.
        known: Word numbers, labels and groups of the training reviews.
        words: Word numbers of the unlabelled reviews.
    """
    kept = read_phase(
        run.folder,
        run.folder.guesses,
        lambda arrays: parse_guesses(arrays["guesses"], len(words)),
    )
    if kept is not None:
        return kept
    weights = NgramWeights(counted_words(run.config), kinds=2)
    evidence = fit_evidence(weights, *known)
    inputs, targets = {"words": known[0], "evidence": evidence}, known[1][:, None]
    print("Training a network that labels the unlabelled reviews …", flush=True)
    steps_per_epoch, steps = count_steps(run.config, len(targets))
    create_variables(model, targets)
    model.fit(
        make_batches((inputs, targets), run.config),
        epochs=-(-steps // steps_per_epoch),
        steps_per_epoch=min(steps, steps_per_epoch),
        shuffle=False,  # the stream of batches is shuffled already
        callbacks=[StopAfter(steps)],
    )
    unlabelled = {"words": words, "evidence": in_batches(weights, words)}
    guesses = predict(model, unlabelled)[:, 0]
    write_phase(run.folder, run.folder.guesses, {"guesses": guesses})
    return guesses


class StopAfter(keras.callbacks.Callback):
    """Ends training after so many steps, within a pass, too, and if it diverges."""

    def __init__(self, steps):
        super().__init__()
        self.steps, self.step = steps, 0

    def on_train_batch_end(self, batch, logs=None):
        """Count the step."""
        self.step += 1
        check_bounded(logs, [], self.step)
        if self.step == self.steps:
            self.model.stop_training = True


def learn_regions(run, tokenizer, texts):
    """Learn the vectors of words in regions from texts; return them.

    The run's folder keeps every pass: a resumed run does not repeat it.

    Args:
        run: The `Run`.
        tokenizer: The network's, whose numbers of words are those of the vectors.
        texts: All texts that may be used, with labels or without.
    """
    longer = with_length(tokenizer.get_layer("vectorize"), REGION_LENGTH)
    learner = RegionLearner(in_batches(longer, texts), REGION_WORDS, run.config.seed)
    read_phase(run.folder, run.folder.regions, learner.restore)
    while learner.done < PASSES:
        print(
            f"Learning which words stand near each other, pass {learner.done + 1} of "
            f"{PASSES} …",
            flush=True,
        )
        learner.learn_pass()
        write_phase(run.folder, run.folder.regions, learner.state())
    return learner.inside.numpy()


def parse_guesses(guesses, count):
    """Return an array ``(count,)`` of probabilities; raise ValueError if it is none."""
    if guesses.shape != (count,) or not np.all((guesses >= 0) & (guesses <= 1)):
        raise ValueError(f"it does not hold {count:,} probabilities")
    return guesses


def train(run, dataset):
    """Train, test and draw; return the model and its figures."""
    config = run.config
    texts, labels = dataset.train
    if config.preset == "classic":
        groups = np.arange(len(texts))  # as if each review had a film to itself
    else:
        groups = group_by_film(texts)
    unlabelled = np.array([], object)
    if config.preset == "best":
        unlabelled = load_unlabelled_reviews(dataset.source)
    held_out = hold_out(groups, len(texts) // 10)
    texts, validation_texts = texts[~held_out], texts[held_out]
    targets, validation_targets = labels[~held_out, None], labels[held_out, None]
    _, steps = count_steps(config, len(texts))
    with devices.shared_by(config.devices):
        if config.preset == "classic":
            model = make_classic(config)
        else:
            model = make_modern(config, steps, with_regions=config.preset == "best")
    begin(run, dataset, targets, validation_targets, model)

    all_texts = np.concatenate([texts, unlabelled])
    tokenizer = make_tokenizer(all_texts, counted_words(config), config.words)
    inputs = in_batches(tokenizer, texts)
    if config.preset != "classic":
        print("Weighing words, pairs and triples …", flush=True)
        weights = NgramWeights(counted_words(config), kinds=2)
        known = inputs, targets[:, 0], groups[~held_out]
        if config.preset == "best":
            regions = learn_regions(run, tokenizer, all_texts)
            model.get_layer("regions").set_weights([regions])
            words = in_batches(tokenizer, unlabelled)
            with devices.shared_by(config.devices):
                first = make_modern(config, steps)
            guesses = guess_labels(run, first, known, words)
            print("Weighing them in all reviews …", flush=True)
            evidence = fit_evidence(weights, *known, (words, guesses), least=3)
        else:
            evidence = fit_evidence(weights, *known)
        inputs = {"words": inputs, "evidence": evidence}
        tokenizer = add_evidence(tokenizer, weights)
    validation = in_batches(tokenizer, validation_texts), validation_targets
    text = keras.Input((), dtype="string", name="text")
    reader = keras.Model(text, model(tokenizer(text)), name="imdb")
    figures = fit(run, model, (inputs, targets), validation, saved=reader)

    probabilities = predict(model, in_batches(tokenizer, dataset.test[0]))
    correct = (probabilities > 0.5) == dataset.test[1][:, None]
    figures["test_accuracy"] = float(np.mean(correct))
    draw_imdb(run.folder, model, tokenizer, dataset.test, probabilities)
    return model, figures


PROGRAM = Program("imdb", __doc__, PRESETS, SAMPLE, load_imdb, train)
main = PROGRAM.main

if __name__ == "__main__":
    exit_with(main)
