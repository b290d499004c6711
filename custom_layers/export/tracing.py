"""Traces a model in TensorFlow, with a hole in place of each loop over time."""

import contextlib
import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from custom_layers.export.operators import Operator, native_operator
from custom_layers.export.texts import describe
from custom_layers.inspection.kernel_report import find_layers
from custom_layers.ngram_weights import LIMIT, NONE, NgramWeights

TEXT = keras.layers.TextVectorization
NO_TEXTS = (
    "cannot become ONNX, which has no texts, so that word numbers take their place: "
    "the model must have one input of texts, and one TextVectorization that reads it "
    "as it is"
)


@dataclasses.dataclass
class Hole:
    """What a loop over time reads and what it has to give, by name in the graph.

    Attributes:
        layer: The recurrent layer.
        operator: What fills the hole.
        x: The sequences ``(batch, time, features)``.
        mask: The mask ``(batch, time)``, or None.
        states: The initial states, each ``(batch, units)``.
        output: What the layer returns: of each step, or of the last one.
        new_states: The final states.
    """

    layer: keras.layers.RNN
    operator: Operator
    x: str
    mask: str | None
    states: list[str]
    output: str
    new_states: list[str]


class Trace:
    """A model as a function of tensors, with holes.

    What fills the holes is an input of the function, and what the loops read is an
    output, so that the function can be traced although the loops are not there. It is
    traced twice: at first nobody knows what the loops read.

    Args:
        model: A functional or sequential model.
        output_names: Names of its outputs.

    Attributes:
        function: The ``tf.function``. It returns a dict by name.
        inputs: The specifications of its inputs, by name: the model's first, then of
            what fills the holes.
        holes: The holes, in the order of the computation.
        metadata: Where the function takes word numbers in place of texts, as its input
            ``"words"``, what `describe` says of them.

    Raises:
        ValueError: The model has something that the function cannot hold.
    """

    def __init__(self, model: keras.Model, output_names: list[str]) -> None:
        self.model, self.output_names = model, output_names
        self.inputs: dict[str, Any] = {}
        for tensor in model.inputs:
            self._add_input(tensor.name, tensor.shape, tensor.dtype)
        self.texts = [it.name for it in model.inputs if it.dtype == "string"]
        self.holes: list[Hole] = []
        self.metadata: dict[str, str] = {}
        self.layers = [
            (layer, native_operator(layer) if layer.built else None)
            if isinstance(layer, keras.layers.RNN)
            else (layer, None)
            for layer in find_layers(model, (keras.layers.RNN, NgramWeights, TEXT))
        ]
        readers = [layer for layer, _ in self.layers if type(layer) is TEXT]
        for layer in readers:
            if len(readers) > 1 or len(self.texts) != 1:
                raise ValueError(f"{layer.name} {NO_TEXTS}")
            self.metadata = describe(layer)
        own = list(self.inputs.values())
        tf.function(self._call, autograph=False).get_concrete_function(*own)
        for name in self.texts:  # the words are there in its place
            del self.inputs[name]
        self.function = tf.function(self._call, autograph=False)

    def _add_input(self, name, shape, dtype):
        self.inputs[name] = tf.TensorSpec(shape, dtype, name=name)

    def _call(self, *tensors):
        self.graph = tf.compat.v1.get_default_graph()
        self.given = dict(zip(self.inputs, tensors, strict=True))
        self.holes, self.outputs = [], {}
        with contextlib.ExitStack() as stack:
            for layer, operator in self.layers:
                if replaced := self._replacement(layer, operator):
                    stack.enter_context(_replaced(layer, *replaced))
            results = self.model(self._arranged_inputs(), training=False)
        results = keras.tree.flatten(results)
        return dict(zip(self.output_names, results, strict=True)) | self.outputs

    def _arranged_inputs(self):
        """Return the inputs as the model takes them: as a list, or as a dict, too."""
        inputs = [self._given_or_text(it.name) for it in self.model.inputs]
        if isinstance(self.model, keras.Sequential):
            return inputs
        return keras.tree.pack_sequence_as(self.model.input, inputs)

    def _given_or_text(self, name):
        """Return an input; in the second trace, where there is no text, any text."""
        if name in self.given:
            return self.given[name]
        return tf.fill(tf.shape(self.given["words"])[:1], "")

    def _replacement(self, layer, operator):
        """Return the name of a layer's method to replace and the new one, or None."""
        if operator:
            return "inner_loop", self._make_hole(layer, operator)
        if type(layer) is NgramWeights:
            return "call", lambda words: look_up(layer, words)
        if type(layer) is TEXT:
            return "call", self._take_words(layer)
        return None

    def _fill(self, name, static, dynamic, dtype):
        """Return what fills a hole; in the first trace, zeros of the same shape."""
        if name not in self.given:
            self._add_input(name, static, dtype)
            return tf.ensure_shape(tf.zeros(dynamic, dtype), static)
        return self.given[name]

    def _make_hole(self, layer, operator):
        keras_loop = layer.inner_loop

        def inner_loop(sequences, initial_state, mask=None, training=False):
            if tf.compat.v1.get_default_graph() is not self.graph:
                return keras_loop(sequences, initial_state, mask, training)
            mask = mask[0] if keras.tree.is_nested(mask) else mask
            name = f"loop_{len(self.holes) + 1}"
            states = [f"{name}_state_{n + 1}" for n in range(len(initial_state))]
            hole = Hole(
                layer=layer,
                operator=operator,
                x=f"{name}_x",
                mask=None if mask is None else f"{name}_mask",
                states=states,
                output=f"{name}_output",
                new_states=[f"{state}_at_end" for state in states],
            )
            self.holes.append(hole)
            self.outputs |= {hole.x: sequences}
            self.outputs |= dict(zip(states, initial_state, strict=True))
            if mask is not None:
                self.outputs[hole.mask] = mask
            batch, steps = sequences.shape[:2]
            sizes = tf.unstack(tf.shape(sequences)[:2])
            units, dtype = layer.cell.units, sequences.dtype
            if not layer.return_sequences:
                output = self._fill(
                    hole.output, (batch, units), (sizes[0], units), dtype
                )
                last, outputs = output, output[:, None]
            else:
                outputs = self._fill(
                    hole.output, (batch, steps, units), (*sizes, units), dtype
                )
                last = outputs[:, -1]
            new_states = [
                self._fill(state, (batch, units), (sizes[0], units), dtype)
                for state in hole.new_states
            ]
            return last, outputs, new_states

        return inner_loop

    def _take_words(self, layer):
        call = layer.call

        def take_words(texts):
            if "words" in self.given:
                return self.given["words"]
            if not _is_input(texts):
                raise ValueError(f"{layer.name} {NO_TEXTS}")
            words = call(texts)
            self._add_input("words", words.shape, words.dtype)
            return words

        return take_words


def _is_input(tensor):
    """Return whether a tensor is an input of the graph, or what stands for one."""
    while tensor.op.type == "Identity":
        tensor = tensor.op.inputs[0]
    return tensor.op.type in ("Placeholder", "Fill")


@contextlib.contextmanager
def _replaced(layer, name, method):
    """Put another method in place of a layer's own, for a while."""
    setattr(layer, name, method)
    try:
        yield
    finally:
        delattr(layer, name)


def look_up(layer: NgramWeights, words: Any) -> Any:
    """Return what `NgramWeights` returns, in operations that ONNX has, too.

    tf2onnx can neither search a sorted table nor sort numbers as large as these: it
    makes float32 of them. So the table is halved until an n-gram is found, and an
    n-gram is compared with all those further on in the text.

    Args:
        layer: The layer.
        words: Word numbers ``(batch, words)``.

    Returns:
        The weights ``(batch, words, longest, kinds)``.
    """
    place = tf.range(tf.shape(words)[1])
    is_further = place[:, None] <= place[None] - 1
    asked = []
    for numbers in layer._ngrams(words):
        is_same = numbers[:, :, None] == numbers[:, None]
        again = tf.reduce_any(is_same & is_further, axis=2)
        asked.append(tf.where(again, tf.constant(NONE, tf.int64), numbers))
    return _weights_of(tf.stack(asked, axis=-1), layer)


def _weights_of(asked, layer):
    """Return the weights of n-grams, zeros for those that are not in the table."""
    numbers, weights = layer.table
    # Filled up to a power of two with n-grams that no text holds.
    halvings = len(numbers).bit_length()
    missing = 2**halvings - len(numbers)
    numbers = tf.constant(np.pad(numbers, [0, missing], constant_values=LIMIT - 1))
    weights = tf.constant(np.pad(weights, [[0, missing], [0, 0]]))
    place = tf.zeros_like(asked)
    for halving in reversed(range(halvings)):
        further = place + 2**halving
        place = tf.where(tf.gather(numbers, further) <= asked, further, place)
    is_known = tf.equal(tf.gather(numbers, place), asked)
    found = tf.cast(tf.gather(weights, place), layer.compute_dtype)
    return tf.where(is_known[..., None], found, tf.zeros_like(found))
