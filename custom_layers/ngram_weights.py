"""Looks up what is known of each word, pair and triple of a text."""

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

NONE = -1  # where no n-gram ends
LIMIT = 2**63  # the numbers of all n-grams are smaller


@keras.saving.register_keras_serializable("custom_layers")
class NgramWeights(keras.layers.Layer):
    """Weights of the word, the pair, the triple, … that end at each word of a text.

    A linear model of texts, naive Bayes for example, has a weight for each n-gram. This
    layer gives such weights to a network that reads the text word by word. `numbers`
    says which n-grams a text holds, for whoever computes the weights.

    A text holds an n-gram or does not: one that stands in it several times counts where
    it ends last, and nowhere else. The weight is 0 there, for an n-gram that holds
    padding, and for one that `set_table` did not name.

    Integers of 64 bits are needed: on JAX, switch ``jax_enable_x64`` on.

    Args:
        vocabulary: The number of words. They have the numbers 1 to ``vocabulary - 1``,
            and 0 is padding, as from ``keras.layers.TextVectorization``.
        longest: The number of words of the longest n-gram.
        kinds: The number of weights that each n-gram has.

    Shapes:
        Word numbers ``(batch, words)``; weights ``(batch, words, longest, kinds)``.

    Raises:
        ValueError: ``vocabulary ** longest`` is 2^63 or more, or an argument is not
            positive.

    Example:
        >>> import numpy as np
        >>> layer = NgramWeights(vocabulary=5, longest=2)
        >>> words = np.array([[2, 3, 3, 0]])
        >>> print(keras.ops.convert_to_numpy(layer.numbers(words))[0])
        [[ 2 -1]
         [-1 13]
         [ 3 18]
         [-1 -1]]
        >>> layer.set_table(np.array([3, 13]), np.array([[0.5], [-2.0]]))
        >>> print(keras.ops.convert_to_numpy(layer(words))[0, :, :, 0])
        [[ 0.   0. ]
         [ 0.  -2. ]
         [ 0.5  0. ]
         [ 0.   0. ]]
    """

    def __init__(
        self, vocabulary: int, longest: int = 3, kinds: int = 1, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.vocabulary, self.longest, self.kinds = vocabulary, longest, kinds
        for name, value in self._arguments().items():
            if not value >= 1:
                raise ValueError(f"{name} must be at least 1, got {value!r}")
        if vocabulary**longest >= LIMIT:
            raise ValueError(
                f"vocabulary ** longest must be below 2^63, got {vocabulary} ** "
                f"{longest}"
            )
        self.table = np.array([], "int64"), np.zeros((0, kinds), "float16")

    def _arguments(self):
        names = ("vocabulary", "longest", "kinds")
        return {name: getattr(self, name) for name in names}

    def numbers(self, words: npt.ArrayLike) -> Any:
        """Return the number of the n-gram that ends at each word.

        Its words are its digits, so that no two n-grams share a number.

        Args:
            words: Word numbers ``(texts, words)``.

        Returns:
            Integers ``(texts, words, longest)``: those of the word, the pair, …; -1
            where none ends, or one that stands in the text again further on.
        """
        of_lengths = [last_ones(numbers) for numbers in self._ngrams(words)]
        return ops.stack(of_lengths, axis=-1)

    def _ngrams(self, words):
        """Return the numbers of all words, of all pairs, …, each ``(texts, words)``."""
        last: Any = ops.cast(words, "int64")
        steps = ops.shape(last)[1]
        numbers, is_one, of_lengths = ops.zeros_like(last), last > 0, []
        for back in range(self.longest):
            earlier = ops.pad(last, [[0, 0], [back, 0]])[:, :steps]
            numbers = numbers + earlier * self.vocabulary**back
            is_one = ops.logical_and(is_one, earlier > 0)
            of_lengths.append(ops.where(is_one, numbers, NONE))
        return of_lengths

    def set_table(self, numbers: npt.ArrayLike, weights: npt.ArrayLike) -> None:
        """Say which weights n-grams have; it takes the place of an earlier table.

        Do it before ``fit`` or ``predict`` of a model that holds the layer: they
        compile the table in when they are first called.

        Args:
            numbers: The n-grams' numbers, ``(n,)``.
            weights: Their weights, ``(n, kinds)``; float16 is kept of them.
        """
        numbers, weights = np.asarray(numbers, "int64"), np.asarray(weights, "float16")
        if numbers.ndim != 1 or weights.shape != (len(numbers), self.kinds):
            raise ValueError(
                f"numbers must be (n,) and weights (n, {self.kinds}), got "
                f"{numbers.shape} and {weights.shape}"
            )
        order = np.argsort(numbers)
        self.table = numbers[order], weights[order]

    def call(self, inputs):
        """Return the weights of texts."""
        numbers, weights = self.table
        # One more n-gram, which no text holds, so that there is always one to find.
        numbers = ops.convert_to_tensor(np.append(numbers, LIMIT - 1))
        weights = np.pad(weights, [[0, 1], [0, 0]]).astype(self.compute_dtype)
        asked = self.numbers(inputs)
        shape = ops.shape(asked)
        asked = ops.reshape(asked, (-1,))
        place = ops.searchsorted(numbers, asked)
        is_known = ops.equal(ops.take(numbers, place), asked)
        found = ops.take(ops.convert_to_tensor(weights), place, axis=0)
        found = ops.where(ops.expand_dims(is_known, -1), found, 0)
        return ops.reshape(found, (*shape, self.kinds))

    def compute_output_spec(self, inputs):
        """Return shape and type of the weights of word numbers."""
        shape = (*inputs.shape, self.longest, self.kinds)
        return keras.KerasTensor(shape, self.compute_dtype)

    def save_own_variables(self, store):
        """Save the table."""
        store["numbers"], store["weights"] = self.table

    def load_own_variables(self, store):
        """Load the table."""
        self.table = np.array(store["numbers"]), np.array(store["weights"])

    def get_config(self):
        """Return the arguments as a dict that JSON can hold."""
        return {**super().get_config(), **self._arguments()}


def last_ones(numbers):
    """Return numbers ``(batch, words)``, -1 where the same number stands further on."""
    backwards = ops.flip(numbers, axis=1)
    order = ops.argsort(backwards, axis=1)  # equal ones stay in order
    ordered = ops.take_along_axis(backwards, order, axis=1)
    is_first = ops.not_equal(ordered[:, 1:], ordered[:, :-1])
    is_first = ops.pad(is_first, [[0, 0], [1, 0]], constant_values=True)
    is_last = ops.take_along_axis(is_first, ops.argsort(order, axis=1), axis=1)
    return ops.where(ops.flip(is_last, axis=1), numbers, NONE)
