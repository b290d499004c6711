"""How the gradient of the loss flows back through time."""

import dataclasses

import numpy as np
import tensorflow as tf

from recipes.comparison.tasks.adding import Adding, make_adding


@dataclasses.dataclass(frozen=True)
class GradientFlow(Adding):
    """The adding problem, and the norm of the gradient of the loss at each step.

    The loss is at the last step. Hochreiter & Schmidhuber 1997, section 3, and Pascanu
    et al. 2013 (arXiv 1211.5063), section 2, follow its gradient back. It is taken
    before and after training: ∂loss/∂h_t, by the output of a step, and ∂loss/∂s_t, by
    all that a step hands to the next one, c_t and the lower level's states among it.
    Only the second compares all cells: an LSTM remembers with c_t, a GRU with h_t.
    """

    def observe(self, model):
        """Return mean norms over a hundred test sequences: lists of T numbers.

        Each sequence has its own squared error as loss.

        Returns:
            Dict of ``"h"`` and ``"s"``.
        """
        x, y = self.test()[:2]
        of_h, of_s = gradient_norms(model, x[:100], y[:100])
        return {
            name: [float(f"{norm:.4g}") for norm in norms]
            for name, norms in (("h", of_h), ("s", of_s))
        }


def gradient_norms(model, x, y):
    """Return the norms of ∂loss/∂h_t and ∂loss/∂s_t, the means over the sequences.

    To each output h_t, and to each other state after that step, a shift of zeros is
    added; the next step reads the shifted ones. The gradient by a shift is that by h_t
    or by the state, by all ways on which it reaches the loss. s_t is all states
    together; a clock, which no loss has a gradient by, adds nothing.

    Args:
        model: A network of `Task.make_model` that has one output, after the last step.
        x: Sequences ``(batch, T, features)``.
        y: Targets ``(batch, 1)``.

    Returns:
        Two arrays ``(T,)`` of float64.
    """
    _, layer, dense = model.layers
    sequences = tf.constant(x, layer.compute_dtype)
    states = layer.get_initial_state(len(x))
    of_h, of_others = [], []  # the shifts
    with tf.GradientTape() as tape:
        for t in range(x.shape[1]):
            h, states = layer.cell(sequences[:, t], states, training=False)
            if all(state is not h for state in states):
                raise TypeError(
                    f"no state of {type(layer.cell).__name__} is its output"
                )
            others = [state for state in states if state is not h]
            shifts = [tf.zeros_like(state) for state in (h, *others)]
            tape.watch(shifts)
            of_h.append(shifts[0])
            of_others += shifts[1:]
            by_id = {
                id(state): state + shift
                for state, shift in zip((h, *others), shifts, strict=True)
            }
            h, states = by_id[id(h)], [by_id[id(state)] for state in states]
        loss = tf.reduce_sum((dense(h) - y) ** 2)
    gradients = tape.gradient(
        loss, [of_h, of_others], unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    squares, others = (
        [np.sum(np.square(gradient, dtype="float64"), axis=-1) for gradient in them]
        for them in gradients
    )
    squares = np.array(squares)  # (T, batch)
    others = np.reshape(others, (len(squares), -1, len(x))).sum(axis=1)
    return tuple(np.sqrt(it).mean(axis=1) for it in (squares, squares + others))


def make_gradient(T, steps):
    """Return the observation of the gradient in the adding problem of T steps."""
    adding = make_adding(T, steps, GradientFlow)
    return dataclasses.replace(adding, name="gradient", published=())
