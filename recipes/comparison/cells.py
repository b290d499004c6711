"""What is compared: the cells of the registry, and an LSTM without its forget bias."""

import functools

import keras

from custom_layers import LAYERS

#: Name -> what makes a layer. ``lstm-forget-0`` starts with a forget bias of 0. Keras
#: starts with 1, which Jozefowicz et al. 2015, "An Empirical Exploration of Recurrent
#: Network Architectures", recommend. ``weight-drop`` is left out: it drops nothing
#: unless told so, and then is the LSTM.
CELLS = {name: layer for name, layer in LAYERS.items() if name != "weight-drop"} | {
    "lstm-forget-0": functools.partial(keras.layers.LSTM, unit_forget_bias=False)
}
