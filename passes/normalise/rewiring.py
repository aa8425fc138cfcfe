"""How normalisation moves a graph's edges: in linear time, in subgraphs too, with a word on what is gone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from spikec.ir import graph as graphs
from spikec.ir.order import bodies
from spikec.ir.program import Decision, Program


def output_ids(graph: gs.Graph) -> set[int]:
    """Tensors that leave the graph or one of its subgraphs: their names and makers must stay."""
    return {id(tensor) for current in bodies(graph) for tensor in current.outputs}


def redirect(old: gs.Tensor, new: gs.Tensor) -> None:
    """Lets every user of `old` read `new`. (The lists' own setters search through all users each time.)"""
    seen: set[int] = set()
    for user in list.__iter__(old.outputs):
        if id(user) in seen:
            continue
        seen.add(id(user))
        for index, tensor in enumerate(user.inputs):
            if tensor is old:
                list.__setitem__(user.inputs, index, new)
                list.append(new.outputs, user)
    list.clear(old.outputs)


def is_standard(node: gs.Node) -> bool:
    return node.domain in (None, "", "ai.onnx")


def constant_input(node: gs.Node, index: int) -> gs.Constant | None:
    """The node's input at `index` when it is a constant."""
    given = node.inputs[index] if index < len(node.inputs) else None
    return given if isinstance(given, gs.Constant) else None


def has_input(node: gs.Node, index: int) -> bool:
    return index < len(node.inputs) and bool(node.inputs[index].name)


def integers(name: str, values: Sequence[int] | int) -> gs.Constant:
    return gs.Constant(name, np.asarray(values, np.int64))


def forget(program: Program, node: gs.Node, why: str) -> None:
    """Says what became of a node that normalisation takes away."""
    program.decisions[node.name] = Decision(node.name, node.op, "linear", why)


def detach(node: gs.Node) -> None:
    """Cuts a node out; compared by identity, since the lists' own removal compares nodes part by part."""
    for tensors, field in ((node.inputs, "outputs"), (node.outputs, "inputs")):
        for tensor in {id(t): t for t in list.__iter__(tensors)}.values():
            others = getattr(tensor, field)
            list.__setitem__(others, slice(None), [other for other in others if other is not node])
        list.clear(tensors)


class Replacement:
    """New nodes in a node's place: `add` them one after the other, then `finish`."""

    def __init__(self, program: Program, node: gs.Node) -> None:
        self.program, self.node = program, node
        self.made: list[gs.Node] = []

    def add(self, op: str, inputs: Sequence[gs.Tensor], suffix: str = "", **attributes: Any) -> gs.Variable:
        """One node; its output. `suffix` tells it apart from others of the same operator."""
        name = f"{self.node.name}/{suffix or op.lower()}"
        output = gs.Variable(name)
        self.made.append(gs.Node(op, name, attrs=attributes, inputs=list(inputs), outputs=[output]))
        return output

    def finish(self, *values: gs.Variable) -> list[gs.Node]:
        """The new nodes; `values` take the names, types and users of the node's outputs, their makers come
        from it, and the last of them bears its name."""
        outputs = list(self.node.outputs)
        detach(self.node)
        for value, output in zip(values, outputs, strict=False):
            maker = value.inputs[0]
            index = next(i for i, o in enumerate(maker.outputs) if o is value)
            redirect(value, output)
            list.__setitem__(maker.outputs, index, output)
            list.append(output.inputs, maker)
        origin = self.program.origin
        for made in self.made[:-1]:
            origin[made.name] = origin.get(self.node.name, self.node.name)
        self.made[-1].name = self.node.name
        return self.made


def each_node(graph: gs.Graph, rewrite: Callable[[gs.Node], list[gs.Node] | None]) -> None:
    """Lets `rewrite` put other nodes (or none) in a node's place, in subgraphs too; None leaves it."""
    for current in bodies(graph):
        nodes: list[gs.Node] = []
        for node in current.nodes:
            made = rewrite(node)
            nodes.extend([node] if made is None else made)
        current.nodes[:] = nodes


def ordered(program: Program) -> None:
    """Drops what nothing reads and puts producers first, after a pass that moved edges."""
    before = list(program.graph.nodes)
    graphs.prune(program.graph)
    graphs.sort(program.graph)
    kept = {id(node) for node in program.graph.nodes}
    for node in before:
        if id(node) not in kept:
            forget(program, node, "folded: nothing reads its result any more")
