"""Files saved before the package was divided into folders still load."""

import pathlib

import keras
import numpy as np
import pytest

import custom_layers  # noqa: F401 - registers the layers

SAVED = pathlib.Path(__file__).parent / "saved"


def test_a_model_of_every_layer_predicts_what_it_predicted():
    """Layers, cells in keras.layers.RNN, options, a Bidirectional: version 0.1.0."""
    model = keras.saving.load_model(SAVED / "layers.keras")
    kept = np.load(SAVED / "layers.npz")
    outputs = keras.ops.convert_to_numpy(model(kept["x"]))
    np.testing.assert_allclose(outputs, kept["y"], rtol=1e-5, atol=1e-6)


def test_a_depth_gated_layer_of_version_0_1_0_is_refused():
    """Its weights have another layout since: see CHANGELOG.md."""
    with pytest.raises(ValueError, match="expected 8 variables, but received 10"):
        keras.saving.load_model(SAVED / "depth_gated.keras")
