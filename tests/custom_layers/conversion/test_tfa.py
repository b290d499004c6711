"""TensorFlow Addons: files that it wrote, and what it computed."""

import keras
import numpy as np
import pytest
from cells import assert_close, random_layer, random_states, run
from saved_files import BOTH, FOLDER, assert_computes, assert_same_weights, in_rnn

from custom_layers import CoupledLSTM, PeepholeLSTM
from custom_layers.conversion import from_keras2, from_tfa, to_tfa


@pytest.mark.parametrize(
    ("file", "prefix"), [("tfa.h5", "peephole"), ("tfa.ckpt", "layer_with_weights-0")]
)
def test_layer_computes_what_tensorflow_addons_did(file, prefix):
    pytest.importorskip("h5py" if file.endswith("h5") else "tensorflow")
    layer = from_tfa(FOLDER / file, prefix, **BOTH)
    assert type(layer) is PeepholeLSTM
    assert_computes(layer, "keras2.npz", "peephole")


def test_there_and_back_is_exact(rng):
    layer = random_layer(PeepholeLSTM, 4, 5, rng)
    weights = to_tfa(layer, "rnn/cell")
    assert_same_weights(from_tfa(weights, **BOTH), layer)
    again = to_tfa(from_tfa(weights), "rnn/cell")
    assert list(again) == list(weights)
    for name, array in weights.items():
        np.testing.assert_array_equal(again[name], array)


def test_what_a_cell_has_more_comes_back_as_zeros(rng):
    """All peepholes, and β, which becomes a bias; as the page says."""
    some = {"use_bias": False, "peepholes": ("o",)}
    norm = {"use_bias": False, "peepholes": (), "layer_norm": "tfa"}
    for options, use_bias, peepholes in ((some, False, "ifo"), (norm, True, "")):
        layer = random_layer(PeepholeLSTM, 4, 5, rng, **options)
        again = from_tfa(to_tfa(layer))
        assert (again.use_bias, "".join(again.peepholes)) == (use_bias, peepholes)
        old = {weight.name: weight.numpy() for weight in layer.weights}
        for weight in again.weights:
            np.testing.assert_array_equal(weight.numpy(), old.get(weight.name, 0))


@pytest.mark.parametrize(
    ("layer_class", "arguments"),
    [
        (keras.layers.LSTM, {}),
        (PeepholeLSTM, {"peepholes": ("f",), "use_bias": False}),
        (CoupledLSTM, {"peepholes": ("f", "o")}),
    ],
)
def test_other_layers_become_the_same_function(layer_class, arguments, rng, x):
    layer = random_layer(layer_class, 4, 5, rng, **arguments)
    again = from_tfa(to_tfa(layer), **BOTH)
    states = random_states(layer, 3, rng)
    outputs, end = run(again, x, states)
    wanted, wanted_end = run(layer, x, states)
    for array, expected in zip([outputs, *end], [wanted, *wanted_end], strict=True):
        assert_close(array, expected)


@pytest.mark.parametrize(
    ("layer_class", "arguments"),
    [
        (keras.layers.LSTM, {}),
        (PeepholeLSTM, {"peepholes": ("f",)}),
        (CoupledLSTM, {}),
        (PeepholeLSTM, {"layer_norm": "tfa", "peepholes": ()}),
    ],
)
def test_a_cell_in_rnn_is_written_like_its_layer(layer_class, arguments, rng):
    layer = random_layer(layer_class, 4, 5, rng, **arguments)
    written, wanted = to_tfa(in_rnn(layer)), to_tfa(layer)
    assert list(written) == list(wanted)
    for name, array in wanted.items():
        np.testing.assert_array_equal(written[name], array)


@pytest.mark.parametrize(
    ("file", "prefix"), [("tfa.h5", "norm"), ("tfa.ckpt", "layer_with_weights-1")]
)
def test_layer_normalisation_computes_what_tensorflow_addons_did(file, prefix):
    pytest.importorskip("h5py" if file.endswith("h5") else "tensorflow")
    layer = from_tfa(FOLDER / file, prefix, **BOTH)
    assert (layer.layer_norm, layer.peepholes) == ("tfa", ())
    assert_computes(layer, "keras2.npz", "norm")


def test_layer_normalisation_there_and_back_is_exact(rng):
    layer = random_layer(PeepholeLSTM, 4, 5, rng, layer_norm="tfa", peepholes=())
    weights = to_tfa(layer, "rnn/cell")
    assert_same_weights(from_tfa(weights, **BOTH), layer)
    for name in weights:
        if name.endswith(("gamma", "beta")):
            rest = {key: weights[key] for key in weights if key != name}
            missing = f"{name} is missing|no weight .*'state_norm/gamma' is there"
            with pytest.raises(ValueError, match=missing):
                from_tfa(rest)
            with pytest.raises(ValueError, match=f"{name} must have shape"):
                from_tfa(weights | {name: weights[name][:-1]})
    other = random_layer(PeepholeLSTM, 4, 5, rng, layer_norm=True, peepholes=())
    with pytest.raises(ValueError, match="layer_norm=True: tfa.rnn.Peephole"):
        to_tfa(other)


def test_epsilon_is_an_argument_of_the_cell(rng, x):
    """``norm_epsilon`` there: it is not in the weights, and any is written."""
    arguments = {"layer_norm": "tfa", "peepholes": (), "layer_norm_epsilon": 0.05}
    layer = random_layer(PeepholeLSTM, 4, 5, rng, **arguments)
    again = from_tfa(to_tfa(layer), layer_norm_epsilon=0.05, **BOTH)
    assert_same_weights(again, layer)
    np.testing.assert_array_equal(run(again, x)[0], run(layer, x)[0])
    assert np.any(run(from_tfa(to_tfa(layer), **BOTH), x)[0] != run(layer, x)[0])


def test_of_two_cells_in_one_file_one_is_chosen():
    """As Keras 2 has it, this file also has what Keras 3 could read."""
    with pytest.raises(ValueError, match="prefix must choose one of"):
        from_tfa(FOLDER / "tfa.h5")
    with pytest.raises(ValueError, match="kernel_norm/beta"):
        from_keras2(FOLDER / "tfa.h5", "norm")


def test_a_planted_fault_is_named(rng):
    weights = to_tfa(random_layer(PeepholeLSTM, 4, 5, rng), "cell")
    for name, array in weights.items():
        needed = "no weight 'input" if name.startswith("cell/input_") else name
        if "bias" not in name:
            rest = {key: weights[key] for key in weights if key != name}
            with pytest.raises(ValueError, match=f"{needed}.* is (missing|there)"):
                from_tfa(rest)
        with pytest.raises(ValueError, match=f"{name} must have shape"):
            from_tfa(weights | {name: array[..., :-1]})
    with pytest.raises(ValueError, match="cell/more cannot be converted"):
        from_tfa(weights | {"cell/more": np.ones(4)})


def test_keras_2_has_another_hard_sigmoid(rng):
    options = {"recurrent_activation": "hard_sigmoid"}
    layer = random_layer(PeepholeLSTM, 4, 5, rng, **options)
    reason = "recurrent_activation.*hard_sigmoid, which is 0.2 x"
    with pytest.raises(ValueError, match=reason):
        to_tfa(layer)
    weights = to_tfa(random_layer(PeepholeLSTM, 4, 5, rng))
    with pytest.raises(ValueError, match=reason):
        from_tfa(weights, **options)


def test_what_the_cell_lacks_is_refused(rng):
    with pytest.raises(ValueError, match="prefix must be a text or None, got 5"):
        to_tfa(random_layer(PeepholeLSTM, 4, 5, rng), 5)
    with pytest.raises(ValueError, match="cell_clip=1.0"):
        to_tfa(random_layer(PeepholeLSTM, 4, 5, rng, cell_clip=1.0))
    with pytest.raises(ValueError, match="is a GRU"):
        to_tfa(random_layer(keras.layers.GRU, 4, 5, rng))
