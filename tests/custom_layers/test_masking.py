"""A mask that Keras attaches to sequences is used, and carried on, with any Keras."""

import keras
import numpy as np
import pytest
from cells import assert_close

from custom_layers import LAYERS

OURS = [name for name, layer in LAYERS.items() if hasattr(layer, "cell_class")]
NUMBERS = np.array([[1, 2, 3, 4], [5, 0, 0, 0], [6, 7, 0, 0], [8, 0, 9, 0]])


@pytest.fixture(params=[True, False], ids=["keras-3.15", "keras-3.16"])
def keras_supports_masking(request, monkeypatch):
    """Whether ``keras.layers.RNN`` does; it is made so."""
    init = keras.layers.RNN.__init__

    def changed_init(self, *args, **kwargs):
        init(self, *args, **kwargs)
        self.supports_masking = request.param

    monkeypatch.setattr(keras.layers.RNN, "__init__", changed_init)
    return request.param


class Probe(keras.layers.Layer):
    """Keeps the mask that is attached to its inputs."""

    def __init__(self):
        super().__init__()
        self.supports_masking = True

    def call(self, inputs, mask=None):
        self.mask = None if mask is None else keras.ops.convert_to_numpy(mask)
        return inputs


def mask_after(layer):
    """Return the mask of the layer's outputs for NUMBERS, embedded with a mask."""
    embedding, probe = keras.layers.Embedding(10, 5, mask_zero=True), Probe()
    outputs = layer(embedding(NUMBERS))
    probe(outputs[0] if layer.return_state else outputs)
    return probe.mask


@pytest.mark.parametrize("return_state", [True, False])
@pytest.mark.parametrize("name", OURS)
def test_outputs_carry_the_mask_that_an_lstm_s_do(
    name, return_state, keras_supports_masking
):
    for return_sequences in (True, False):
        arguments = {"return_sequences": return_sequences, "return_state": return_state}
        lstm = keras.layers.LSTM(4, **arguments)
        lstm.supports_masking = True  # as up to Keras 3.15
        ours, theirs = mask_after(LAYERS[name](4, **arguments)), mask_after(lstm)
        np.testing.assert_array_equal(ours, NUMBERS != 0 if return_sequences else None)
        np.testing.assert_array_equal(ours, theirs)


def test_the_change_of_keras_is_made_in_these_tests(keras_supports_masking):
    """Keras's own LSTM then hands no mask on, and warns."""
    lstm = keras.layers.LSTM(4, return_sequences=True)
    if keras_supports_masking:
        assert mask_after(lstm) is not None
    else:
        with pytest.warns(UserWarning, match="does not support masking"):
            assert mask_after(lstm) is None


@pytest.mark.parametrize("name", OURS)
def test_a_stack_skips_padding_at_every_level(name, keras_supports_masking):
    keras.utils.set_random_seed(22)
    model = keras.Sequential(
        [
            keras.layers.Embedding(10, 5, mask_zero=True),
            LAYERS[name](4, return_sequences=True),
            LAYERS[name](4),
        ]
    )
    outputs = model.predict(NUMBERS, verbose=0)
    for row, numbers in enumerate(NUMBERS):
        shorter = model.predict(numbers[numbers != 0][None], verbose=0)
        assert_close(outputs[row], shorter[0])
