"""What the steps of one sequence share, prepared once: weights, masks, parameters."""

import contextlib
import threading
import types
import typing
import weakref

import keras
from keras import ops

if keras.backend.backend() == "tensorflow":
    from custom_layers.engine import tensorflow_cpu  # imports TensorFlow


class Product(typing.NamedTuple):
    """``(x ⊙ x_mask) W + b`` and ``(h⁻ ⊙ h_mask) U``, of one gate or of several.

    ``U`` may be narrower than ``W``: the last gates then see no ``h⁻``.
    """

    x_mask: typing.Any  # (batch, features), or None
    W: typing.Any  # (features, n·units)
    b: typing.Any  # (n·units,), or None
    h_mask: typing.Any  # (batch, units), or None
    U: typing.Any  # (units, m·units), m ≤ n
    matmul: typing.Callable = ops.matmul  # of h⁻ ⊙ h_mask and U

    def times_W(self, x):
        """Return ``(x ⊙ x_mask) W``."""
        return ops.matmul(x if self.x_mask is None else x * self.x_mask, self.W)

    def times_U(self, h):
        """Return ``(h ⊙ h_mask) U``."""
        return self.matmul(h if self.h_mask is None else h * self.h_mask, self.U)


def unchanged(x):
    """Return x: ``p.clip`` and ``p.norm`` of a cell without these options."""
    return x


class NoPeephole:
    """The p of a gate without peephole: ``z + p * c`` is z, at no cost."""

    __array_ufunc__ = None  # NumPy asks __radd__, too

    def __mul__(self, c):
        """Return nothing to add."""
        return self

    def __radd__(self, z):
        """Return z."""
        return z


class Prepared(typing.NamedTuple):
    """A step of a cell as a function of tensors alone."""

    gates: tuple  # their names, in the order of the products' columns
    products: list  # one `Product` for all gates, or one for each
    vectors: dict  # weights (units,), or repeated (batch, units), by name
    constants: dict  # what else the equations need, by name
    equations: typing.Callable  # (z, p, states) -> everything computed, by name
    around: typing.Any = None  # what options do around them, an `options.Around`

    @property
    def levels(self):
        """Return a list of itself, as a stack has of its levels."""
        return [self]

    def values(self, x, states, zoneout_masks=None):
        """Take one step; return all gates and new states, by name."""
        p = self.p(self.vectors)
        if self.around is not None:
            z = self.around.pre_activations(self.products, x, states[0])
            values = self.equations(self.by_gate([z]), p, states)
            return self.around.after(values, states, zoneout_masks)
        sums = []
        for product in self.products:
            U, W, b = product.U, product.W, product.b
            from_x, from_h = product.times_W(x), product.times_U(states[0])
            if U.shape[-1] == W.shape[-1]:
                z = from_x + from_h
                sums.append(z if b is None else ops.add(z, b))
            else:
                from_x = from_x if b is None else ops.add(from_x, b)
                first, rest = ops.split(from_x, [U.shape[-1]], axis=-1)
                sums += [first + from_h, rest]
        return self.equations(self.by_gate(sums), p, states)

    def by_gate(self, sums):
        """Return pre-activations, several gates side by side, as z of each gate."""
        units = sum(product.W.shape[-1] for product in self.products) // len(self.gates)
        counts = [z.shape[-1] // units for z in sums]
        parts = [
            part
            for z, count in zip(sums, counts, strict=True)
            for part in (ops.split(z, count, axis=-1) if count > 1 else [z])
        ]
        return types.SimpleNamespace(**dict(zip(self.gates, parts, strict=True)))

    def p(self, vectors):
        """Return the parameters of the equations, with these vectors."""
        return types.SimpleNamespace(**self.constants, **vectors)


class Masks(typing.NamedTuple):
    """Dropout masks of a sequence: each a tensor, a list with one a gate, or None."""

    x: typing.Any = None  # of the inputs, (batch, features)
    h: typing.Any = None  # of the state, (batch, units)
    U: typing.Any = None  # of the recurrent weights, as they are


class Sequence:
    """What one call of a recurrent layer keeps between its steps.

    It is kept by thread and, where TensorFlow builds a graph, by graph: no other call
    sees it. ``keras.layers.RNN`` does not say when a call failed. What it leaves behind
    in a graph goes with that graph; outside a graph it keeps masks alone, no weights.

    Args:
        in_layer: Whether a `RecurrentLayer` reads the sequence: it says when a call
            failed.
        training: Whether dropout is on, None if that is not known.
        from_zero: Whether the first states are known to be zeros.

    Attributes:
        masks: The `Masks` drawn so far.
        prepared: The steps: a `Prepared` for each value of ``training``.
        levels: The sequences of a stack's levels.
    """

    def __init__(self, in_layer=False, training=None, from_zero=False):
        self.in_layer, self.training, self.from_zero = in_layer, training, from_zero
        self.masks, self.prepared, self.levels = Masks(), {}, ()


_of_thread = threading.local()


def _slot(cell):
    """Return the list that holds a cell's `Sequence` in this thread and graph."""
    if keras.backend.backend() == "tensorflow":
        if (graph := tensorflow_cpu.current_graph()) is not None:
            # The graph of a loop's body inherits the collections of the one around.
            name = f"custom_layers/{threading.get_ident()}/{id(cell)}"
            return graph.get_collection_ref(name)
    if not hasattr(_of_thread, "slots"):
        _of_thread.slots = weakref.WeakKeyDictionary()
    return _of_thread.slots.setdefault(cell, [])


def current_sequence(cell, begin=False):
    """Return the `Sequence` that the cell reads in this thread and graph, or None."""
    slot = _slot(cell)
    if not slot and begin:
        slot.append(Sequence())
    return slot[0] if slot else None


def forget_sequence(cell):
    """Forget the `Sequence` of this thread and graph."""
    _slot(cell).clear()


@contextlib.contextmanager
def one_sequence(cell, sequence):
    """Keep a `Sequence` of a cell while the block runs, and no longer."""
    slot = _slot(cell)
    before = list(slot)
    slot[:] = [sequence]
    try:
        yield sequence
    finally:
        slot[:] = before
