"""Puts ONNX's recurrent operators into the holes of a graph."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from custom_layers.export.tracing import Hole

END = np.iinfo("int64").min  # of a slice that goes backwards


class Nodes:
    """Nodes of one hole, and their constants.

    Args:
        prefix: What all their names begin with.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value, dtype="int64", name=""):
        """Add a constant; return its name."""
        name = f"{self.prefix}/{name or f'constant_{len(self.constants)}'}"
        array = np.ascontiguousarray(value, dtype)
        if not np.ndim(value):
            array = array.reshape(())
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def add(self, operator, *inputs, outputs=None, **attributes):
        """Add a node; return the name of its output, or a list of them."""
        name = f"{self.prefix}/{operator}_{len(self.nodes)}"
        names = [f"{name}:{n}" for n in range(outputs or 1)]
        node = helper.make_node(operator, inputs, names, name=name, **attributes)
        self.nodes.append(node)
        return names if outputs else names[0]

    def rename(self, output, name):
        """Give an output of a node the name by which the graph knows it."""
        self.nodes.append(helper.make_node("Identity", [output], [name]))


def fill(hole: Hole) -> Nodes:
    """Return the nodes that compute what fills a hole, as Keras does.

    A masked step changes no state, and repeats the output before. An operator of ONNX
    has the lengths of sequences instead, which must come first. So the steps that are
    not masked are moved to the front, whatever mask it is, and each output is fetched
    from where its step went.
    """
    layer, operator = hole.layer, hole.operator
    nodes = Nodes(hole.output.removesuffix("_output"))
    add, constant = nodes.add, nodes.constant
    backwards = layer.go_backwards
    x, lengths = hole.x, ""
    if hole.mask:
        is_step = add("Cast", hole.mask, to=onnx.TensorProto.INT64)
        count = add("ReduceSum", is_step, constant([1]), keepdims=1)
        steps = add("Gather", add("Shape", x), constant([1]))
        _, order = add("TopK", is_step, steps, axis=1, outputs=2)  # equal ones in order
        order = add("Unsqueeze", order, constant([2]))
        x = add("GatherND", x, order, batch_dims=1)
        least = add("Max", count, constant(1))
        least = add("Squeeze", least, constant([1]))
        lengths = add("Cast", least, to=onnx.TensorProto.INT32)
    weights = {
        name: constant(value, "float32", name)
        for name, value in operator.weights.items()
    }
    first = constant([0])
    states = [add("Unsqueeze", state, first) for state in hole.states]
    inputs = [add("Transpose", x, perm=[1, 0, 2]), *(weights[it] for it in "WRB")]
    inputs += [lengths, *states, *([weights["P"]] if "P" in weights else [])]
    every, *new_states = add(
        operator.name,
        *inputs,
        outputs=1 + len(states),
        direction="reverse" if backwards else "forward",
        **operator.attributes,
    )
    last, *others = [add("Squeeze", state, first) for state in new_states]
    final = [last, *others]
    every = add("Transpose", add("Squeeze", every, constant([1])), perm=[1, 0, 2])
    if hole.mask:
        zero, zeros = constant(0), constant(0.0, "float32")
        is_any = add("Greater", count, zero)
        final = [
            add("Where", is_any, new, old)
            for new, old in zip(final, hole.states, strict=True)
        ]
        # The number of steps read so far; those backwards are ONNX's last ones first.
        read = add("CumSum", is_step, constant(1), reverse=int(backwards))
        began = add("Greater", read, zero)
        place = add("Sub", *((count, read) if backwards else (read, constant(1))))
        place = add("Unsqueeze", add("Where", began, place, zero), constant([2]))
        shown = hole.mask if layer.zero_output_for_mask else began
        every = add("GatherND", every, place, batch_dims=1)
        every = add("Where", add("Unsqueeze", shown, constant([2])), every, zeros)
        at_end = add("Gather", shown, constant([0 if backwards else -1]), axis=1)
        last = add("Where", at_end, last, zeros)
    if backwards:  # the outputs come in the order of reading
        every = add(
            "Slice",
            every,
            constant([-1]),
            constant([END]),
            constant([1]),
            constant([-1]),
        )
    nodes.rename(every if layer.return_sequences else last, hole.output)
    for state, name in zip(final, hole.new_states, strict=True):
        nodes.rename(state, name)
    return nodes


def join(graph: onnx.GraphProto, holes: list[Hole], outputs: list[str]) -> None:
    """Fill the holes of a graph, in place, and drop what nothing needs.

    Args:
        graph: The graph, which has the holes' names among its inputs and outputs.
        holes: The holes.
        outputs: The names of the outputs that remain.
    """
    nodes, constants = list(graph.node), list(graph.initializer)
    filled = set()
    for hole in holes:
        filling = fill(hole)
        nodes += filling.nodes
        constants += filling.constants
        filled |= {hole.output, *hole.new_states}
    nodes = list(in_order(nodes, outputs))
    needed = {*outputs, *(name for node in nodes for name in read_by(node))}
    inputs = [it for it in graph.input if it.name not in filled]
    by_name = {it.name: it for it in graph.output}
    kept = [by_name[name] for name in outputs]
    constants = [it for it in constants if it.name in needed]
    for field, values in (
        ("node", nodes),
        ("initializer", constants),
        ("input", inputs),
        ("output", kept),
        ("value_info", []),
    ):
        graph.ClearField(field)
        getattr(graph, field).extend(values)


def read_by(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the names that a node reads; of the graphs in it, those in them, too."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            yield from (it.name for it in graph.output)
            for inner in graph.node:
                yield from read_by(inner)


def in_order(
    nodes: list[onnx.NodeProto], outputs: list[str]
) -> Iterator[onnx.NodeProto]:
    """Yield the nodes that outputs need, each after those that it reads from."""
    maker = {name: node for node in nodes for name in node.output if name}
    done: set[int] = set()
    stack = [(name, False) for name in reversed(outputs)]
    while stack:
        name, is_ready = stack.pop()
        node = maker.get(name)
        if node is None or id(node) in done:
            continue
        if is_ready:
            done.add(id(node))
            yield node
            continue
        stack.append((name, True))
        stack += [(it, False) for it in read_by(node)]


def describe_shapes(
    graph: onnx.GraphProto, inputs: dict[str, Any], outputs: list[Any]
) -> None:
    """Name the sizes of inputs and outputs that are not fixed: the first is the batch.

    Args:
        graph: The graph.
        inputs: Dict from names to tensors, or what has their shapes; others may be in
            it.
        outputs: The same of all outputs, in order.
    """
    tensors = [(it, inputs[it.name]) for it in graph.input]
    by_name = zip(graph.output, outputs, strict=True)
    for value, tensor in [*tensors, *by_name]:
        names = ["batch"] + [f"{value.name}_{n}" for n in range(1, len(tensor.shape))]
        shape = [
            name if size is None else size
            for name, size in zip(names, tensor.shape, strict=False)
        ]
        kind = value.type.tensor_type.elem_type
        value.CopyFrom(helper.make_tensor_value_info(value.name, kind, shape))


def unknown_operators(graph: onnx.GraphProto) -> list[str]:
    """Return the names of operators that are none of ONNX's, in it and its bodies."""
    unknown = set()
    for node in graph.node:
        if not onnx.defs.has(node.op_type, node.domain):
            unknown.add(node.op_type)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                unknown |= set(unknown_operators(inner))
    return sorted(unknown)
