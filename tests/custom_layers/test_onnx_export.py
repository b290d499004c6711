"""The export to ONNX: onnxruntime computes what Keras does, with ONNX's operators."""

import collections
import json
import sys

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from cells import random_states

from custom_layers import (
    LAYERS,
    CoupledLSTM,
    NgramWeights,
    PeepholeLSTM,
    PeepholeLSTMCell,
    standardize_text,
    to_onnx,
)
from custom_layers.conversion.onnx_activations import ACTIVATIONS
from custom_layers.engine.recurrent_layer import RecurrentLayer

on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the export needs TensorFlow"
)

#: ONNX's operator for each layer; the others are loops.
OPERATORS = {
    **dict.fromkeys(("lstm", "peephole", "coupled", "weight-drop"), "LSTM"),
    **dict.fromkeys(("gru", "gru-cho"), "GRU"),
    "simple-rnn": "RNN",
}
#: Masks of 7 steps: none masked, padded on the right, with holes, on the left, all.
MASKS = np.array(
    [
        [1, 1, 1, 1, 1, 1, 1],
        [1, 1, 1, 1, 0, 0, 0],
        [0, 1, 0, 0, 1, 1, 0],
        [0, 0, 0, 1, 1, 1, 1],
        [0, 0, 0, 0, 0, 0, 0],
    ],
    bool,
)


@pytest.fixture
def x(rng):
    return rng.uniform(-1, 1, (5, 7, 3)).astype("float32")


@pytest.fixture
def sequences():
    return keras.Input((None, 3), name="sequences")


@pytest.fixture
def assert_equal(tmp_path, rng):
    """A function that gives a model random weights and compares both results.

    It returns how often each operator stands in the ONNX model.
    """

    def compare(inputs, outputs, *values):
        model = keras.Model(inputs, outputs)
        model.set_weights([rng.uniform(-1, 1, w.shape) for w in model.get_weights()])
        given = list(values) if len(values) > 1 else values[0]
        expected = keras.tree.flatten(model(given, training=False))
        session = run_time(model, tmp_path / "model.onnx")
        names = [it.name for it in session.get_inputs()]
        actual = session.run(None, dict(zip(names, values, strict=True)))
        for one, other in zip(actual, expected, strict=True):
            other = keras.ops.convert_to_numpy(other)
            assert one.shape == other.shape and np.abs(other).max() > 0.01
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)
        return count_operators(tmp_path / "model.onnx")

    return compare


def run_time(model, path):
    """Export a model; return onnxruntime's session with it."""
    to_onnx(model, path)
    onnx.checker.check_model(path, full_check=True)
    return onnxruntime.InferenceSession(path)


def count_operators(path):
    return collections.Counter(node.op_type for node in onnx.load(path).graph.node)


def flat(results):
    return keras.tree.flatten(results)


@on_tensorflow
@pytest.mark.parametrize("masked", [False, True], ids=["no mask", "any mask"])
@pytest.mark.parametrize("name", LAYERS)
def test_every_layer(name, masked, sequences, x, rng, assert_equal):
    """Both directions, outputs of all steps or the last one, states given or zero."""
    make = LAYERS[name]
    built = make(4)
    built.build((None, None, 3))
    sizes = built.state_size
    sizes = sizes if isinstance(sizes, list | tuple) else [sizes]
    given = [keras.Input((size,), name=f"state_{n}") for n, size in enumerate(sizes)]
    values = random_states(built, 5, rng)
    inputs, mask = [sequences, *given], None
    if masked:
        mask = keras.Input((None,), dtype="bool", name="mask")
        inputs, values = [*inputs, mask], [*values, MASKS]
    outputs = []
    ways = [(False, False), (True, True), (False, True), (True, False)]
    for every, backwards in ways if name in OPERATORS else ways[1:2]:  # loops take long
        layer = make(
            4, return_sequences=every, return_state=True, go_backwards=backwards
        )
        outputs += flat(layer(sequences, initial_state=given, mask=mask))
    outputs.append(make(4)(sequences, mask=mask))
    counts = assert_equal(inputs, outputs, x, *values)
    if name in OPERATORS:
        assert counts[OPERATORS[name]] == 5 and not counts["Loop"]
    else:
        assert counts["Loop"] == 2
        assert not counts.keys() & set(OPERATORS.values())


@on_tensorflow
@pytest.mark.parametrize("name", ["lstm", "coupled", "gru", "simple-rnn", "clockwork"])
def test_zeros_at_masked_steps(name, sequences, x, assert_equal):
    mask = keras.Input((None,), dtype="bool", name="mask")
    options = [
        {"return_sequences": every, "go_backwards": backwards}
        for every in (False, True)
        for backwards in (False, True)
        if name in OPERATORS or every == backwards
    ]
    outputs = [
        LAYERS[name](4, zero_output_for_mask=True, **option)(sequences, mask=mask)
        for option in options
    ]
    assert_equal([sequences, mask], outputs, x, MASKS)


@on_tensorflow
def test_peepholes(sequences, x, assert_equal):
    layers = [
        *(PeepholeLSTM(4, peepholes=p) for p in ((), ("f",), ("o", "i"))),
        *(CoupledLSTM(4, peepholes=p) for p in (("f",), ("o",), ("f", "o"))),
    ]
    counts = assert_equal(sequences, [layer(sequences) for layer in layers], x)
    assert counts["LSTM"] == 6


class Unhashable:
    """An activation that is no key of a dict, and equal to all others."""

    __name__ = "unhashable"
    __hash__ = None

    def __eq__(self, other):
        return True

    def __call__(self, x):
        return keras.ops.tanh(x) / 2


@on_tensorflow
def test_activations(sequences, x, assert_equal):
    """Those that ONNX has no name for remain in loops."""
    outputs = []
    gates = ["hard_sigmoid", "sigmoid", "softsign"] * len(ACTIVATIONS)
    for φ, σ in zip(ACTIVATIONS, gates, strict=False):
        options = {"activation": φ, "recurrent_activation": σ}
        outputs.append(keras.layers.LSTM(4, **options)(sequences))
        outputs.append(keras.layers.GRU(4, **options)(sequences))
        outputs.append(keras.layers.SimpleRNN(4, activation=φ)(sequences))
    outputs = [keras.ops.tanh(output) for output in outputs]  # linear ones grow
    outputs.append(PeepholeLSTM(4, activation="silu")(sequences))
    outputs.append(PeepholeLSTM(4, activation=Unhashable())(sequences))
    counts = assert_equal(sequences, outputs, x)
    assert [counts[it] for it in ("LSTM", "GRU", "RNN")] == [len(ACTIVATIONS)] * 3
    assert counts["Loop"] == 2


@on_tensorflow
def test_coupled_gates_are_an_operator_where_σ_is_symmetric(sequences, x, assert_equal):
    """ONNX's f is 1 − i, which is σ of the negated weights for these two alone."""
    outputs = [
        keras.ops.tanh(CoupledLSTM(4, recurrent_activation=σ)(sequences))
        for σ in ("sigmoid", "hard_sigmoid", "tanh", "softsign")
    ]
    counts = assert_equal(sequences, outputs, x)
    assert (counts["LSTM"], counts["Loop"]) == (2, 2)


@on_tensorflow
def test_without_bias(sequences, x, assert_equal):
    layers = [LAYERS[name](4, use_bias=False) for name in OPERATORS]
    counts = assert_equal(sequences, [layer(sequences) for layer in layers], x)
    assert (counts["LSTM"], counts["GRU"], counts["RNN"]) == (4, 2, 1)


@on_tensorflow
@pytest.mark.parametrize(
    "options",
    [{"layer_norm": True}, {"cell_clip": 0.3}, {"zoneout_h": 0.4}, {"projection": 2}],
    ids=str,
)
def test_options_remain_loops(options, sequences, x, assert_equal):
    outputs = [
        layer(4, return_state=True, return_sequences=True, **options)(sequences)
        for layer in (PeepholeLSTM, CoupledLSTM)
    ]
    counts = assert_equal(sequences, flat(outputs), x)
    assert counts["Loop"] == 2 and not counts["LSTM"]


class OwnCell(PeepholeLSTMCell):
    """An LSTM without a forget gate."""

    @staticmethod
    def equations(z, p, states, σ, φ):
        _, c = states
        i, g, o = σ(z.i), φ(z.g), σ(z.o)
        c = c + i * g
        return {"i": i, "f": i, "g": g, "c": c, "o": o, "h": o * φ(c)}


class Own(RecurrentLayer):
    cell_class = OwnCell


class Doubled(PeepholeLSTM):
    """Has a loop of its own around the cell of another layer."""

    def inner_loop(self, sequences, initial_state, mask, training=False):
        return super().inner_loop(2 * sequences, initial_state, mask, training)


class DoubledOfKeras(keras.layers.GRU):
    def inner_loop(self, sequences, initial_state, mask, training=False):
        return super().inner_loop(2 * sequences, initial_state, mask, training)


class DoubledBefore(PeepholeLSTM):
    def call(self, sequences, initial_state=None, mask=None, training=False):
        return super().call(2 * sequences, initial_state, mask, training)


@on_tensorflow
def test_loops_of_others_remain_loops(sequences, x, assert_equal):
    """What a layer does before its loop is around the operator."""
    outputs = [make(4)(sequences) for make in (Doubled, DoubledOfKeras, DoubledBefore)]
    counts = assert_equal(sequences, outputs, x)
    assert (counts["LSTM"], counts["Loop"]) == (1, 2)


@on_tensorflow
def test_cells_of_others_remain_loops(sequences, x, assert_equal):
    cells = [keras.layers.GRUCell(3), keras.layers.LSTMCell(4)]
    outputs = [
        Own(4)(sequences),
        keras.layers.RNN(PeepholeLSTMCell(4))(sequences),
        keras.layers.RNN(cells)(sequences),
    ]
    counts = assert_equal(sequences, outputs, x)
    assert (counts["LSTM"], counts["Loop"]) == (1, 2)


@on_tensorflow
def test_wrappers_and_models_in_models(sequences, x, assert_equal):
    shared = CoupledLSTM(4, return_sequences=True)
    nested = keras.Sequential([PeepholeLSTM(2, return_sequences=True)])
    h = shared(keras.layers.Dense(3)(shared(keras.layers.Masking()(sequences))))
    outputs = [nested(keras.layers.Dense(3)(sequences))]
    for mode in ("concat", "sum", "ave", "mul"):
        layer = PeepholeLSTM(3, return_sequences=mode != "sum")
        outputs.append(keras.layers.Bidirectional(layer, merge_mode=mode)(h))
    counts = assert_equal(sequences, outputs, x * MASKS[..., None])
    assert counts["LSTM"] == 2 + 1 + 2 * 4


@on_tensorflow
def test_what_is_around(rng, assert_equal):
    """Embedding with its mask, convolution, pooling, reshapes, rows and columns."""
    words = keras.Input((6,), dtype="int32", name="words")
    image = keras.Input((6, 4), name="image")
    vectors = keras.layers.Embedding(9, 4, mask_zero=True)(words)
    h = keras.layers.Bidirectional(LAYERS["gru"](3, return_sequences=True))(vectors)
    rows = PeepholeLSTM(3)(keras.layers.Conv1D(5, 3, padding="same")(image))
    columns = CoupledLSTM(3)(keras.layers.Permute((2, 1))(image))
    last = keras.layers.RepeatVector(2)(rows)
    outputs = {
        "pooled": keras.ops.max(h, axis=1),
        "mean": keras.layers.GlobalAveragePooling1D()(h),
        "last": keras.layers.Flatten()(last),
        "image": keras.layers.Dense(2, "softmax")(
            keras.layers.LayerNormalization()(
                keras.ops.reshape(keras.ops.concatenate([rows, columns], -1), (-1, 6))
            )
        ),
    }
    values = rng.integers(0, 9, (3, 6)), rng.uniform(0, 1, (3, 6, 4))
    values = values[0].astype("int32"), values[1].astype("float32")
    counts = assert_equal([words, image], outputs, *values)
    assert (counts["LSTM"], counts["GRU"], counts["Loop"]) == (2, 2, 0)


class EachPage(keras.layers.Layer):
    """Reads the pages of a book one after the other, in a loop."""

    def __init__(self):
        super().__init__()
        self.read = PeepholeLSTM(3)

    def build(self, shape):
        self.read.build(shape[1:])

    def call(self, books):
        return keras.ops.map(self.read, books)

    def compute_output_spec(self, books):
        return keras.KerasTensor((*books.shape[:2], 3))


@on_tensorflow
def test_layers_inside_other_loops_stay_there(rng, assert_equal):
    books = keras.Input((2, 4, 3), name="books")
    read = EachPage()(books)
    outputs = [
        PeepholeLSTM(2)(read),
        keras.layers.TimeDistributed(PeepholeLSTM(3))(books),
    ]
    x = rng.uniform(-1, 1, (3, 2, 4, 3)).astype("float32")
    counts = assert_equal(books, outputs, x)
    assert counts["Loop"] == 1 and counts["LSTM"] > 1


@on_tensorflow
def test_unrolled_layers(rng, assert_equal):
    sequences = keras.Input((7, 3), name="sequences")
    names = "peephole", "gru", "clockwork"
    outputs = [LAYERS[name](4, unroll=True)(sequences) for name in names]
    x = rng.uniform(-1, 1, (3, 7, 3)).astype("float32")
    counts = assert_equal(sequences, outputs, x)
    assert (counts["LSTM"], counts["GRU"], counts["Loop"]) == (1, 1, 0)


@on_tensorflow
@pytest.mark.parametrize(
    "arrange",
    [
        lambda a, b, c: {"z": a, "h": b, "c": c},
        lambda a, b, c: {"z": a, "states": [b, c]},
        lambda a, b, c: [a, {"h": b, "c": c}],
        lambda a, b, c: [a, [b, c]],
        lambda a, b, c: (a, b, c),
    ],
    ids=["dict", "list in dict", "dict in list", "list in list", "tuple"],
)
def test_inputs_and_outputs_arranged_in_any_way(arrange, x, rng, tmp_path):
    """The keys of a dict, which are the names, are in another order than sorted."""
    names = "z", "h", "c"
    shapes = (None, 3), (4,), (4,)
    inputs = [
        keras.Input(shape, name=name) for shape, name in zip(shapes, names, strict=True)
    ]
    layer = PeepholeLSTM(4, return_sequences=True, return_state=True)
    outputs = arrange(*layer(inputs[0], initial_state=inputs[1:]))
    model = keras.Model(arrange(*inputs), outputs)
    session = run_time(model, tmp_path / "m.onnx")
    states = [rng.uniform(-1, 1, (5, 4)).astype("float32") for _ in "12"]
    values = dict(zip(names, [x, *states], strict=True))
    assert sorted(it.name for it in session.get_inputs()) == sorted(names)
    expected = flat(model(arrange(x, *states), training=False))
    for one, other in zip(session.run(None, values), expected, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)
    assert count_operators(tmp_path / "m.onnx")["LSTM"] == 1


@on_tensorflow
def test_outputs_in_dicts_are_called_as_their_keys(sequences, tmp_path):
    h, *states = keras.layers.LSTM(3, return_state=True)(sequences)
    outputs = {"y": {"h": h, "all": states}, "x": [h + 1], "y_h": h + 2}
    session = run_time(keras.Model(sequences, outputs), tmp_path / "m.onnx")
    names = [it.name for it in session.get_outputs()]
    assert names == ["x_0", "y_all_0", "y_all_1", "y_h", "y_h_2"]


@on_tensorflow
def test_names_and_shapes(sequences, tmp_path):
    """Inputs and outputs are called as in Keras, also where both have one name."""
    states = keras.layers.LSTM(3, return_state=True, name="states")(sequences)
    dense = keras.layers.Dense(2, name="dense")(states[0])
    outputs = {"sequences": dense, **dict(zip("hij", states, strict=True))}
    session = run_time(keras.Model(sequences, outputs), tmp_path / "m.onnx")
    (given,) = session.get_inputs()
    assert (given.name, given.shape) == ("sequences", ["batch", "sequences_1", 3])
    outputs = [(it.name, it.shape) for it in session.get_outputs()]
    assert [shape for _, shape in outputs] == [["batch", n] for n in (3, 3, 3, 2)]
    assert [name for name, _ in outputs] == ["h", "i", "j", "sequences_2"]
    model = keras.Sequential([keras.Input((5, 3), name="x"), PeepholeLSTM(4, name="y")])
    session = run_time(model, tmp_path / "m.onnx")
    (given,), (output,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.shape) == ("x", ["batch", 5, 3])
    assert (output.name, output.shape) == ("y", ["batch", 4])


def reader(weights=None, **options):
    """Return a model of texts, with n-grams if their weights are given."""
    vectorize = keras.layers.TextVectorization(
        **{"vocabulary": ["good", "film", "é"], "standardize": standardize_text}
        | options
    )
    text = keras.Input((), dtype="string", name="text")
    words = vectorize(text)
    h = keras.layers.Embedding(60_000, 3, mask_zero=True)(words)
    outputs = [PeepholeLSTM(4)(h)]
    if weights:
        outputs.append(weights(words))
    return keras.Model(text, outputs)


@on_tensorflow
def test_word_numbers_take_the_place_of_texts(tmp_path, rng):
    import tensorflow as tf

    model = reader()
    session = run_time(model, tmp_path / "m.onnx")
    (given,) = session.get_inputs()
    assert (given.name, given.type) == ("words", "tensor(int64)")
    texts = ["good film", "film film bad good", "good"]
    words = np.array([[2, 3, 0, 0], [3, 3, 1, 2], [2, 0, 0, 0]])
    (actual,) = session.run(None, {"words": words})
    np.testing.assert_allclose(actual, model(tf.constant(texts)), rtol=0, atol=1e-6)
    metadata = session.get_modelmeta().custom_metadata_map
    assert metadata["vocabulary"].split("\n") == ["", "[UNK]", "good", "film", "é"]
    characters = json.loads(metadata["characters"])
    expected = {"É": "e", "!": "", "ß": "ss", "\u00a0": " ", "": 0x30000}
    assert {key: characters[key] for key in expected} == expected
    assert "e" not in characters


@on_tensorflow
@pytest.mark.parametrize(
    ("standardize", "changed"),
    [
        (None, {}),
        ("lower", {"A": "a"}),
        ("strip_punctuation", {"!": ""}),
        ("lower_and_strip_punctuation", {"A": "a", "!": ""}),
        (lambda text: text, None),
    ],
)
def test_how_characters_are_standardised(standardize, changed, tmp_path):
    session = run_time(reader(standardize=standardize), tmp_path / "m.onnx")
    metadata = session.get_modelmeta().custom_metadata_map
    if changed is None:  # nobody knows
        assert "characters" not in metadata
        return
    characters = json.loads(metadata["characters"])
    assert characters[""] == 0x110000
    for letter in "aA!É":
        assert characters.get(letter) == changed.get(letter)


@on_tensorflow
@pytest.mark.parametrize("known", [0, 1, 2, 3, 50])
def test_ngrams_are_looked_up_exactly(known, tmp_path, rng):
    """Numbers of triples differ by less than float32 can tell."""
    weights = NgramWeights(60_000, kinds=2, name="weights")
    words = rng.integers(59_990, 60_000, (6, 40))
    words[:, 30:] *= rng.integers(0, 2, (6, 10))
    words = np.sort(words, axis=1)[:, ::-1] * (rng.random((6, 40)) < 0.97)
    asked = keras.ops.convert_to_numpy(weights.numbers(words))
    there = np.unique(asked[asked >= 0])
    chosen = rng.permutation(there)[:known]
    near = np.setdiff1d(np.concatenate([chosen - 1, chosen + 1]), there)
    table = np.concatenate([chosen, near]) if known > 3 else chosen
    weights.set_table(table, rng.normal(size=(len(table), 2)))
    session = run_time(reader(weights), tmp_path / "m.onnx")
    _, found = session.run(None, {"words": words})
    expected = keras.ops.convert_to_numpy(weights(words))
    assert (np.abs(expected).max() > 0) == (known > 0)
    np.testing.assert_array_equal(found, expected)


def two_readers():
    one, other = reader(), reader()
    text = keras.Input((), dtype="string", name="text")
    return keras.Model(text, [one(text), other(text)])


def two_texts():
    texts = [keras.Input((), dtype="string", name=f"text_{n}") for n in (1, 2)]
    shared = reader()
    return keras.Model(texts, [shared(text) for text in texts])


class Strip(keras.layers.Layer):
    def call(self, texts):
        import tensorflow as tf

        return tf.strings.strip(texts)

    def compute_output_spec(self, texts):
        return keras.KerasTensor(texts.shape, "string")


def stripped():
    text = keras.Input((), dtype="string", name="text")
    return keras.Model(text, reader()(Strip(dtype="string")(text)))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.layer = PeepholeLSTM(4)

    def call(self, inputs):
        return self.layer(inputs)


def of_layer(layer):
    sequences = keras.Input((4, 3), batch_size=2)
    return keras.Model(sequences, layer(sequences))


def searching():
    sequences = keras.Input((4,))
    places = keras.ops.searchsorted(keras.ops.convert_to_tensor([0.1, 0.4]), sequences)
    return keras.Model(sequences, places)


@on_tensorflow
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: of_layer(PeepholeLSTM(4, stateful=True, name="p")), "p is stateful"),
        (
            lambda: of_layer(PeepholeLSTM(4, dtype="float16", name="p")),
            "p must compute in float32, got float16",
        ),
        (
            lambda: of_layer(
                keras.layers.RNN(PeepholeLSTMCell(4, dtype="float64"), name="p")
            ),
            "PeepholeLSTMCell of p must compute in float32, got float64",
        ),
        (
            lambda: of_layer(
                keras.layers.RNN(
                    [keras.layers.GRUCell(4), keras.layers.GRUCell(4, dtype="float16")],
                    name="p",
                )
            ),
            "GRUCell of p must compute in float32, got float16",
        ),
        (Subclassed, "must be functional or sequential, and built, got Subclassed"),
        (lambda: keras.Sequential([PeepholeLSTM(4)]), "and built, got Sequential"),
        (two_readers, "one input of texts, and one TextVectorization"),
        (two_texts, "one input of texts, and one TextVectorization"),
        (
            lambda: of_layer(PeepholeLSTM(4, activation="gelu", name="p")),
            "TensorFlow's Erfc, which .* perhaps for activation='gelu' of p$",
        ),
        (
            lambda: of_layer(keras.layers.GRU(4, activation="celu", name="p")),
            "TensorFlow's Expm1, which .* perhaps for activation='celu' of p$",
        ),
        (
            searching,
            "ONNX has no operator for TensorFlow's LowerBound, which the model uses$",
        ),
        (lambda: reader(ngrams=2), "must have ngrams=None, got 2"),
        (lambda: reader(split="character"), "must have split='whitespace'"),
        (stripped, "reads it as it is"),
    ],
)
def test_what_onnx_cannot_hold_is_refused_with_the_reason(make, reason, tmp_path):
    with pytest.raises(ValueError, match=reason):
        to_onnx(make(), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


@on_tensorflow
def test_counts_of_words_are_refused(tmp_path):
    text = keras.Input((), dtype="string", name="text")
    counts = keras.layers.TextVectorization(
        vocabulary=["good"], output_mode="multi_hot", name="v"
    )
    model = keras.Model(text, keras.layers.Dense(2)(counts(text)))
    with pytest.raises(ValueError, match="v must have output_mode='int'"):
        to_onnx(model, tmp_path / "m.onnx")


@on_tensorflow
def test_words_of_two_lines_are_refused(tmp_path):
    """One would shift the numbers of all words after it."""
    text = keras.Input((), dtype="string")
    count = keras.layers.TextVectorization(
        vocabulary=["good", "fi\nlm"], standardize=None, name="v"
    )
    model = keras.Model(text, keras.layers.Embedding(4, 2)(count(text)))
    with pytest.raises(ValueError, match=r"of v may hold a line break, got 'fi\\nlm'"):
        to_onnx(model, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@on_tensorflow
@pytest.mark.parametrize("package", ["onnx", "tf2onnx"])
def test_a_missing_package_is_named(package, sequences, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=f"needs the package {package}: pip install"):
        to_onnx(keras.Model(sequences, PeepholeLSTM(4)(sequences)), tmp_path / "m.onnx")


def test_other_backends_are_refused(sequences, tmp_path, monkeypatch):
    model = keras.Model(sequences, PeepholeLSTM(4)(sequences))
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ValueError, match="needs Keras on TensorFlow, got jax"):
        to_onnx(model, tmp_path / "m.onnx")


@on_tensorflow
@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_as_before(fails, sequences, x, tmp_path, monkeypatch):
    layer = PeepholeLSTM(4)
    model = keras.Model(sequences, layer(sequences))
    before, expected = set(vars(layer)), model.predict(x, verbose=0)
    if fails:
        from custom_layers.export.tracing import Trace

        monkeypatch.setattr(Trace, "_fill", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            to_onnx(model, tmp_path / "m.onnx")
    else:
        to_onnx(model, tmp_path / "m.onnx")
    assert set(vars(layer)) == before
    np.testing.assert_array_equal(model.predict(x, verbose=0), expected)
