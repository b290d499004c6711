"""How the gradient of the loss flows back through time."""

import dataclasses

import numpy as np
import tensorflow as tf

from recipes.comparison.tasks.adding import Adding, make_adding


@dataclasses.dataclass(frozen=True)
class GradientFlow(Adding):
    """The adding problem, and the norm of ∂loss/∂h_t at each step.

    The loss is at the last step, so that the norm says how much of what the loss asks
    for reaches a step: Hochreiter & Schmidhuber 1997, section 3; Pascanu et al. 2013
    (arXiv 1211.5063), section 2. It is taken before and after training.
    """

    def observe(self, model):
        """Return the mean norm of ∂loss/∂h_t over a hundred test sequences, ``(T,)``.

        Each sequence has its own squared error as loss.
        """
        x, y = self.test()[:2]
        norms = gradient_norms(model, x[:100], y[:100])
        return [float(f"{norm:.4g}") for norm in norms]


def gradient_norms(model, x, y):
    """Return the norm of ∂loss/∂h_t at each step, the mean over the sequences.

    To each output h_t a shift of zeros is added, in the state too that the next step
    reads. The gradient by the shift is ∂loss/∂h_t, by all ways on which h_t reaches the
    loss. What the cell passes on beside h_t, such as c_t, stays as it is.

    Args:
        model: A network of `Task.make_model` that has one output, after the last step.
        x: Sequences ``(batch, T, features)``.
        y: Targets ``(batch, 1)``.

    Returns:
        Array ``(T,)`` of float64.
    """
    _, layer, dense = model.layers
    sequences = tf.constant(x, layer.compute_dtype)
    states = layer.get_initial_state(len(x))
    shifts = tf.zeros((x.shape[1], len(x), layer.units), layer.compute_dtype)
    with tf.GradientTape() as tape:
        tape.watch(shifts)
        for t, shift in enumerate(tf.unstack(shifts)):
            h, states = layer.cell(sequences[:, t], states, training=False)
            shifted = h + shift
            states = [shifted if state is h else state for state in states]
            if all(state is not shifted for state in states):
                raise TypeError(
                    f"no state of {type(layer.cell).__name__} is its output"
                )
            h = shifted
        loss = tf.reduce_sum((dense(h) - y) ** 2)
    norms = tf.norm(tape.gradient(loss, shifts), axis=-1)
    return np.mean(norms, axis=1, dtype="float64")


def make_gradient(T, steps):
    """Return the observation of the gradient in the adding problem of T steps."""
    adding = make_adding(T, steps, GradientFlow)
    return dataclasses.replace(adding, name="gradient", published=())
