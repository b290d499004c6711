"""The networks of both programs, and the tokenizer."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from custom_layers import LAYERS
from recipes import imdb, mnist
from recipes.training.fit import create_variables


def test_classic_is_the_article_s_program():
    config = mnist.PRESETS["classic"]
    assert (config.units, config.batch, config.learning_rate) == (128, 128, 0.001)
    model = mnist.make_classic(config)
    lstm, dense = model.layers[1:]
    bias = np.array(lstm.get_weights()[2])
    np.testing.assert_array_equal(bias, np.repeat([0, 1, 0, 0], 128))
    kernel, bias = dense.get_weights()
    assert abs(np.std(kernel) - 1) < 0.1
    assert np.std(bias) > 0.3
    assert type(model.optimizer) is keras.optimizers.SGD


@pytest.mark.parametrize("cell", LAYERS)
def test_every_cell_learns_in_every_network(cell, rng):
    """A step, operation by operation: tracing all graphs takes minutes."""
    images, digits = rng.random((4, 28, 28)), rng.integers(0, 10, 4)
    words, verdicts = rng.integers(1, 30, (4, 25)), rng.integers(0, 2, (4, 1))
    small = {"words": 25, "vocabulary": 30, "embedding": 4}
    with_evidence = {"words": words, "evidence": rng.normal(size=(4, 25, 3, 2))}
    for program, changes, labels, classic_inputs, modern_inputs in (
        (mnist, {}, digits, images, images),
        (imdb, small, verdicts, words, with_evidence),
    ):
        for preset, config in program.PRESETS.items():
            config = dataclasses.replace(config, cell=cell, units=8, **changes)
            config.check()
            inputs = modern_inputs
            if preset == "classic":
                model, inputs = program.make_classic(config), classic_inputs
            elif preset == "modern":
                model = program.make_modern(config, 2)
            elif program is mnist:
                model = mnist.make_best(config, 2)
            else:
                model = imdb.make_modern(config, 2, with_regions=True)
            model.run_eagerly = True
            before = [weight.numpy() for weight in model.trainable_weights]
            model.optimizer.iterations.assign(1)  # the learning rate may start from 0
            loss = model.train_on_batch(inputs, labels, return_dict=True)["loss"]
            assert np.isfinite(loss)
            for weight, old in zip(model.trainable_weights, before, strict=True):
                assert np.any(weight.numpy() != old), (preset, weight.path)


def test_fit_traces_the_training_step_once():
    model = mnist.make_classic(dataclasses.replace(mnist.PRESETS["classic"], units=2))
    images, labels = np.zeros((6, 28, 28), "float32"), np.zeros(6, "int32")
    create_variables(model, labels)
    traced, step = [], model.train_step
    model.train_step = lambda data: traced.append(1) or step(data)
    model.fit(images, labels, batch_size=2, verbose=0)
    assert len(traced) == 1


def test_tokenizer_keeps_the_last_words_and_pads_on_the_right():
    tokenizer = imdb.make_tokenizer([b"a b c d e f g h"], 20, 3)
    vocabulary = tokenizer.get_layer("vectorize").get_vocabulary()
    numbers = np.asarray(tokenizer(tf.constant(["a b c d e", "A, b!", "", "zzz"])))
    assert [[vocabulary[number] for number in row] for row in numbers] == [
        ["c", "d", "e"],
        ["a", "b", ""],
        ["[UNK]", "", ""],
        ["[UNK]", "", ""],
    ]


def test_vocabulary_with_line_breaks_can_be_saved(tmp_path):
    tokenizer = imdb.make_tokenizer(["good \x85 film \x85 \x85".encode()], 20, 4)
    tokenizer.save(tmp_path / "t.keras")
    keras.saving.load_model(tmp_path / "t.keras")
