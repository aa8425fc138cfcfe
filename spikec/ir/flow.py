"""Closed regions by dominators: which values every path into a value passes, which every use of it ends in.

A region of one entry and one exit is a pair of values of which the first dominates the second. All of them
are found by two walks over the graph, so recognition stays near-linear in the number of nodes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from . import graph as graphs
from . import region
from .nominal import Nominal
from .operators import SCALAR_OPS

REACH = 24
"""How many values up or down a region is sought; longer chains are taken in pieces."""
ENTRIES = 6
"""How many of them are tried to tell why a region was refused."""
LARGEST = 64
"""Nodes of the largest region."""

Admit = Callable[["Flow", gs.Node], bool]


@dataclass(frozen=True)
class Region:
    """`result` is computed from `source` and constants alone by `nodes` (producers first), whose other values
    nobody else reads."""

    source: gs.Tensor
    result: gs.Tensor
    nodes: tuple[gs.Node, ...]


class Flow:
    """Dominators (`above`) and post-dominators (`below`) among the values of the nodes that `admit` takes."""

    def __init__(self, graph: gs.Graph, admit: Admit, nominal: Nominal | None = None) -> None:
        self.nominal = nominal
        self.outputs = {id(o) for o in graph.outputs}
        self.admitted: set[int] = set()
        self.level: dict[int, int] = {}
        """Nodes on the longest path to a node, by its id: an order that no file order shows in."""
        self._computed: dict[int, np.ndarray | None] = {}
        self._fixed: set[int] = set()
        self._above: dict[int, gs.Tensor | None] = {}
        self._below: dict[int, gs.Tensor | None] = {}
        self._down(graph, admit)
        self._up(graph)

    def _down(self, graph: gs.Graph, admit: Admit) -> None:
        depth: dict[int, int] = {}
        for node in graph.nodes:
            makers = (graphs.producer(i) for i in node.inputs)
            self.level[id(node)] = 1 + max((self.level.get(id(m), 0) for m in makers if m), default=0)
            moving = self.moving(node)
            if not moving and node.inputs and node.op in SCALAR_OPS:
                self._fixed |= {id(o) for o in node.outputs}
                continue
            parent = None
            if moving and len(node.outputs) == 1 and admit(self, node):
                self.admitted.add(id(node))
                parent = moving[0]
                for other in moving[1:]:
                    parent = _meet(self._above, depth, parent, other) if parent is not None else None
            for o in node.outputs:
                self._above[id(o)] = parent
                depth[id(o)] = depth.get(id(parent), 0) + 1 if parent is not None else 0

    def _up(self, graph: gs.Graph) -> None:
        depth: dict[int, int] = {}
        for node in reversed(graph.nodes):
            for o in node.outputs:
                parent = None
                if id(o) not in self.outputs and all(id(user) in self.admitted for user in o.outputs):
                    ends = [user.outputs[0] for user in o.outputs]
                    parent = ends[0] if ends else None
                    for other in ends[1:]:
                        parent = _meet(self._below, depth, parent, other) if parent is not None else None
                self._below[id(o)] = parent
                depth[id(o)] = depth.get(id(parent), 0) + 1 if parent is not None else 0

    def shape(self, tensor: gs.Tensor) -> Sequence[int | str] | None:
        """The shape as the model tells it, else at the nominal input."""
        return told_shape(self.nominal, tensor)

    def nominal_shape(self, tensor: gs.Tensor) -> tuple[int, ...] | None:
        """The shape at the nominal input."""
        return self.nominal.shape(tensor) if self.nominal is not None else None

    def is_fixed(self, tensor: gs.Tensor) -> bool:
        """Whether the value comes from constants alone."""
        return isinstance(tensor, gs.Constant) or id(tensor) in self._fixed

    def moving(self, node: gs.Node) -> list[gs.Tensor]:
        """The operands that are not constant."""
        return [i for i in region.operands_of(node) if i.name and not self.is_fixed(i)]

    def fixed(self, node: gs.Node) -> list[gs.Tensor]:
        """The operands that are constant."""
        return [i for i in region.operands_of(node) if i.name and self.is_fixed(i)]

    def constant(self, tensor: gs.Tensor, largest: int) -> np.ndarray | None:
        """The value of a fixed tensor of up to `largest` elements."""
        if isinstance(tensor, gs.Constant):
            return region.constant_value(tensor) if math.prod(tensor.shape) <= largest else None
        if id(tensor) not in self._computed:
            self._computed[id(tensor)] = region.evaluate(tensor, {}, largest_constant=2**16)
        value = self._computed[id(tensor)]
        return value if value is not None and value.size <= largest else None

    def above(self, tensor: gs.Tensor) -> Iterator[gs.Tensor]:
        """The values that `tensor` is a function of, nearest first, itself left out."""
        return _chain(self._above, tensor)

    def below(self, tensor: gs.Tensor) -> Iterator[gs.Tensor]:
        """The values that take in every use of `tensor`, nearest first, itself left out."""
        return _chain(self._below, tensor)

    def closed(self, source: gs.Tensor, result: gs.Tensor, barred: Collection[int] = ()) -> Region | None:
        """The region between two values, if nobody else reads what is inside."""
        one = self.span(source, result, barred)
        return one if one is not None and not self.leak(one) else None

    def leak(self, one: Region) -> str:
        """The interior value that is read elsewhere, if there is one."""
        inside = {id(node) for node in one.nodes}
        for node in one.nodes:
            for o in node.outputs:
                if o is not one.result and (
                    id(o) in self.outputs or any(id(user) not in inside for user in o.outputs)
                ):
                    return str(o.name)
        return ""

    def span(self, source: gs.Tensor, result: gs.Tensor, barred: Collection[int] = ()) -> Region | None:
        """The region between two values, whoever else reads what is inside."""
        seen: set[int] = set()
        order: list[gs.Node] = []
        stack: list[tuple[gs.Tensor, bool]] = [(result, False)]
        while stack:
            tensor, inputs_done = stack.pop()
            if tensor is source or self.is_fixed(tensor):
                continue
            node = graphs.producer(tensor)
            if node is None or id(node) not in self.admitted or id(node) in barred:
                return None
            if inputs_done:
                order.append(node)
            elif id(node) not in seen:
                seen.add(id(node))
                if len(seen) > LARGEST:
                    return None
                stack.append((tensor, True))
                stack.extend((i, False) for i in reversed(self.moving(node)))
        return Region(source, result, tuple(order))

    def around(self, node: gs.Node, barred: Collection[int] = ()) -> list[Region]:
        """The closed regions that hold `node`: the farthest exit first, and of its entries the nearest."""
        start = node.outputs[0]
        found: list[list[Region]] = []
        if id(node) not in self.admitted or id(node) in barred:
            return []
        before = {id(tensor) for tensor in self.above(start)}
        for result in (start, *self.below(start)):
            shared = [t for t in self.above(result) if id(t) in before]
            if not shared:
                break
            found.append([])
            for source in shared:
                one = self.closed(source, result, barred)
                if one is None:
                    break
                found[-1].append(one)
        return [one for group in reversed(found) for one in group]

    def open_around(self, node: gs.Node) -> Iterator[Region]:
        """Regions that hold `node` and are not closed, the largest first: to tell why one was refused."""
        before = {id(tensor) for tensor in self.above(node.outputs[0])}
        reached: list[gs.Tensor] = []
        frontier = [node.outputs[0]]
        seen = {id(node)}
        while frontier and len(reached) < LARGEST:
            tensor = frontier.pop(0)
            reached.append(tensor)
            for user in tensor.outputs:
                if id(user) in self.admitted and id(user) not in seen:
                    seen.add(id(user))
                    frontier.append(user.outputs[0])
        for result in reversed(reached):
            for source in [t for t in self.above(result) if id(t) in before][:ENTRIES]:
                one = self.span(source, result)
                if one is not None and self.leak(one):
                    yield one

    def cuts(self, whole: Region) -> list[gs.Tensor]:
        """The values that every path through a region passes, from its source to its result."""
        path = [whole.result]
        while path[-1] is not whole.source:
            path.append(next(self.above(path[-1])))
        return path[::-1]

    def evaluate(self, one: Region, x: np.ndarray, largest: int = 1) -> np.ndarray | None:
        """What the region computes of scalars, in float64; None when its operands do not fit."""
        known: dict[int, Any] = {id(one.source): np.asarray(x, np.float64)}
        for node in one.nodes:
            operands = [self._operand(i, known, largest) for i in region.operands_of(node)]
            value = region.apply(node, operands)
            if value is None:
                return None
            known[id(node.outputs[0])] = value
        value = np.asarray(known[id(one.result)], np.float64)
        return value if value.shape == np.shape(x) else None

    def _operand(self, tensor: gs.Tensor, known: Mapping[int, Any], largest: int) -> Any:
        if not tensor.name:
            return None
        return self.constant(tensor, largest) if self.is_fixed(tensor) else known[id(tensor)]

    def _bytes(self, tensor: gs.Tensor) -> bytes:
        value = self.constant(tensor, LARGEST)
        return value.tobytes() if value is not None else b""

    def spelling(self, one: Region) -> tuple[Any, ...]:
        """Equal for two regions of the same operators, wiring and small constants: what is found for one
        holds for the other."""
        number = {id(one.source): 0} | {id(n.outputs[0]): i for i, n in enumerate(one.nodes, 1)}
        return tuple(
            (
                node.op,
                repr(sorted(node.attrs.items())) if node.attrs else "",
                *(
                    "" if not i.name else number[id(i)] if id(i) in number else self._bytes(i)
                    for i in region.operands_of(node)
                ),
            )
            for node in one.nodes
        )


def _meet(
    parent: dict[int, gs.Tensor | None], depth: dict[int, int], a: gs.Tensor, b: gs.Tensor
) -> gs.Tensor | None:
    """The nearest value that both a and b lie under, within a bounded walk."""
    one: gs.Tensor | None = a
    two: gs.Tensor | None = b
    for _ in range(2 * LARGEST):
        if one is two or one is None or two is None:
            return one if one is two else None
        if depth.get(id(one), 0) >= depth.get(id(two), 0):
            one = parent.get(id(one))
        else:
            two = parent.get(id(two))
    return None


def _chain(parent: dict[int, gs.Tensor | None], tensor: gs.Tensor) -> Iterator[gs.Tensor]:
    current = parent.get(id(tensor))
    for _ in range(REACH):
        if current is None:
            return
        yield current
        current = parent.get(id(current))


def told_shape(nominal: Nominal | None, tensor: gs.Tensor) -> Sequence[int | str] | None:
    """The shape as the model tells it, else at the nominal input."""
    if tensor.shape is not None or nominal is None:
        return tensor.shape
    return nominal.shape(tensor)


def is_real(tensor: gs.Tensor) -> bool:
    """Whether the values are, or may be, real numbers."""
    kind = tensor.dtype
    if isinstance(kind, int):  # a type that numpy has not, such as bfloat16
        return kind not in (onnx.TensorProto.INT4, onnx.TensorProto.UINT4, onnx.TensorProto.STRING)
    return kind is None or np.issubdtype(kind, np.floating)


def data_tensors(graph: gs.Graph, inputs: bool = True) -> set[int]:
    """Ids of the values that depend on a table of vectors or a product with weights, or (with `inputs`) on a
    real-valued input; positions, masks and shapes do not. One walk over the sorted graph."""
    reached: set[int] = set()
    if inputs:
        reached = {id(t) for t in graph.inputs if t.dtype is not None and is_real(t)}
    for node in graph.nodes:
        if node.op in ("Shape", "Size"):
            continue
        if any(id(i) in reached for i in (*node.inputs, *graphs.subgraph_inputs(node))) or _looks_up(node):
            reached |= {id(o) for o in node.outputs}
    return reached


def _looks_up(node: gs.Node) -> bool:
    return node.op in ("MatMul", "Gemm", "Gather") and any(
        isinstance(i, gs.Constant) and len(i.shape) == 2 for i in node.inputs
    )
