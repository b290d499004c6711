"""Runs an exported model with onnxruntime alone: no Keras, no TensorFlow."""

import json

import numpy as np

from recipes.run.command_line import UserError


class OnnxModel:
    """An ONNX file that `custom_layers.to_onnx` wrote, of either recipe.

    Args:
        path: The file.

    Attributes:
        recipe: ``"mnist"`` or ``"imdb"``, or None: the recipe whose model it is.

    Raises:
        UserError: onnxruntime is not installed.
        Exception: The file is damaged, in one of many ways.
    """

    def __init__(self, path):
        try:
            import onnxruntime
        except ImportError as error:
            raise UserError(
                f"to predict with {path} the package onnxruntime is needed: "
                "`make .venv/ready-export` installs it"
            ) from error
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # errors become exceptions
        options.intra_op_num_threads = 1  # more take longer to start than to compute
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        metadata = self._session.get_modelmeta().custom_metadata_map
        self.recipe = self._recipe(metadata)
        if self.recipe == "imdb":
            words = metadata["vocabulary"].split("\n")
            self._vocabulary = {word: number for number, word in enumerate(words)}
            characters = json.loads(metadata["characters"])
            self._limit = characters.pop("")
            self._characters = str.maketrans(characters)

    def _recipe(self, metadata):
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) == 1 and len(outputs) == 1:
            texts = metadata.keys() >= {"vocabulary", "characters"}
            if inputs[0].name == "words" and outputs[0].shape[1:] == [1] and texts:
                return "imdb"
            if inputs[0].shape[1:] == [28, 28] and outputs[0].shape[1:] == [10]:
                return "mnist"
        return None

    def word_numbers(self, text):
        """Return the numbers of a text's words, as the tokenizer gives them."""
        known = "".join(letter for letter in text if ord(letter) < self._limit)
        # As TensorFlow does it: at ASCII's white space alone.
        words = known.translate(self._characters).encode().split()
        return [self._vocabulary.get(word.decode(), 1) for word in words]

    def predict_on_batch(self, inputs):
        """Return what the Keras model returns for images, or for a list of texts."""
        (given,) = self._session.get_inputs()
        if self.recipe == "imdb":
            numbers = [self.word_numbers(text) for text in inputs]
            inputs = np.zeros((len(numbers), max(map(len, numbers))), "int64")
            for row, of_text in zip(inputs, numbers, strict=True):
                row[: len(of_text)] = of_text
        return self._session.run(None, {given.name: inputs})[0]
