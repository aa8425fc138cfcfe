"""Region evaluation: what a piece of the graph computes, as numbers, whatever operators it is spelled with.

Recognition compares these numbers with known functions on probe inputs, so no exporter's spelling matters.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime as ort

from . import graph as graphs
from .operators import ELEMENTWISE, PARAMETRIC, REDUCTIONS, SCALAR_OPS, gelu_erf, gelu_tanh  # noqa: F401
from .weights import array

SPREADING = {"Expand", "Unsqueeze"}
"""Operators whose second input says only where the values of the first go."""


def reduced_axes(node: gs.Node, rank: int | None = None) -> tuple[int, ...] | None:
    """The axes a reduction works over, counted from the end (so that they hold for probes of another rank);
    None when they are not constant, or counted from the front of a tensor of unknown rank."""
    axes = node.attrs.get("axes")
    if axes is None and len(node.inputs) > 1 and node.inputs[1].name:
        if not isinstance(node.inputs[1], gs.Constant):
            return None
        axes = array(node.inputs[1]).reshape(-1).tolist()
    shape = node.inputs[0].shape
    rank = len(shape) if shape is not None else rank
    if not axes:
        if node.attrs.get("noop_with_empty_axes", 0):
            return ()
        return tuple(range(-rank, 0)) if rank is not None else None
    if rank is None and max(axes) >= 0:
        return None
    return tuple(sorted(axis if axis < 0 else axis - (rank or 0) for axis in axes))


def evaluate(
    result: gs.Tensor, known: dict[int, np.ndarray], used: set[int] | None = None, largest_constant: int = 1
) -> np.ndarray | None:
    """Value of `result` given tensors by id, in float64; None when it depends on anything else.

    Constants of up to `largest_constant` elements count as known. Ids of the nodes evaluated go into `used`.
    """
    memo: dict[int, np.ndarray | None] = dict(known)
    stack = [result]
    while stack:
        tensor = stack[-1]
        if id(tensor) in memo:
            stack.pop()
            continue
        node = graphs.producer(tensor)
        if isinstance(tensor, gs.Constant):
            memo[id(tensor)] = constant_value(tensor) if math.prod(tensor.shape) <= largest_constant else None
        elif node is None or not (node.op in SCALAR_OPS or node.op in REDUCTIONS):
            memo[id(tensor)] = None
        elif missing := [i for i in operands_of(node) if i.name and id(i) not in memo]:
            stack.extend(missing)
            continue
        else:
            operands = [memo[id(i)] if i.name else None for i in operands_of(node)]
            complete = all(
                v is not None or not i.name for v, i in zip(operands, operands_of(node), strict=True)
            )
            memo[id(tensor)] = apply(node, operands) if complete else None
            if used is not None and memo[id(tensor)] is not None:
                used.add(id(node))
        stack.pop()
    return memo[id(result)]


def constant_value(constant: gs.Constant) -> np.ndarray:
    """A constant in float64; one element of any rank counts as a scalar."""
    value = array(constant).astype(np.float64)
    return value.reshape(()) if value.size == 1 else value


def operands_of(node: gs.Node) -> list[gs.Tensor]:
    """The inputs a node's value depends on, in place: one left out has an empty name."""
    return [node.inputs[0]] if node.op in REDUCTIONS or node.op in SPREADING else list(node.inputs)


def apply(node: gs.Node, operands: list[Any]) -> np.ndarray | None:
    """One node in float64 numpy, None standing for an input left out; None when the operands do not fit."""
    with np.errstate(all="ignore"):
        if node.op in REDUCTIONS:
            if np.ndim(operands[0]) == 0:
                return None
            axes = reduced_axes(node)
            if axes is None or -min(axes, default=0) > np.ndim(operands[0]):
                return None
            return REDUCTIONS[node.op](operands[0], axis=axes, keepdims=bool(node.attrs.get("keepdims", 1)))
        if node.op in PARAMETRIC:
            return PARAMETRIC[node.op](node, operands[0])
        try:
            return ELEMENTWISE[node.op](*operands)
        except ValueError:
            return None


IR_VERSION = 9
"""Old enough for every ONNX Runtime that spikec runs on."""


def execute(source: gs.Tensor, result: gs.Tensor, x: np.ndarray, opset: int) -> np.ndarray:
    """What ONNX Runtime computes for a region of one input: a witness independent of this evaluator."""
    graph = gs.Graph(region_nodes(result, (source,)), inputs=[source], outputs=[result], opset=opset)
    model = graphs.whole(graph)
    model.ir_version = IR_VERSION
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.ClearField("shape")
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    del model.graph.value_info[:]
    settings = ort.SessionOptions()
    settings.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {source.name: x})[0])


def ancestors(
    tensor: gs.Tensor, depth: int, ops: frozenset[str] | set[str] = frozenset(SCALAR_OPS)
) -> Iterator[gs.Tensor]:
    """Variables that `tensor` is computed from through `ops`, nearest first, itself included."""
    seen, frontier = {id(tensor)}, [tensor]
    for _ in range(depth + 1):
        following = []
        for current in frontier:
            yield current
            node = graphs.producer(current)
            if node is not None and node.op in ops:
                for i in node.inputs:
                    if isinstance(i, gs.Variable) and i.name and id(i) not in seen:
                        seen.add(id(i))
                        following.append(i)
        frontier = following


def descendants(
    tensor: gs.Tensor, depth: int, ops: frozenset[str] | set[str] = frozenset(SCALAR_OPS)
) -> Iterator[gs.Tensor]:
    """Variables computed from `tensor` through `ops`, nearest first, itself included."""
    seen, frontier = {id(tensor)}, [tensor]
    for _ in range(depth + 1):
        following = []
        for current in frontier:
            yield current
            for node in current.outputs:
                if node.op in ops:
                    for o in node.outputs:
                        if id(o) not in seen:
                            seen.add(id(o))
                            following.append(o)
        frontier = following


def region_nodes(result: gs.Tensor, sources: tuple[gs.Tensor, ...]) -> list[gs.Node]:
    """Nodes between the sources and the result, producers first."""
    stop = {id(source) for source in sources}
    seen: set[int] = set()
    order: list[gs.Node] = []
    stack: list[tuple[gs.Tensor, bool]] = [(result, False)]
    while stack:
        tensor, inputs_done = stack.pop()
        node = graphs.producer(tensor)
        if node is None or id(tensor) in stop:
            continue
        if inputs_done:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((tensor, True))
            stack.extend((i, False) for i in node.inputs)
    return order


def leak(nodes: list[gs.Node], result: gs.Tensor, graph: gs.Graph) -> str:
    """Why the region is not closed: the name of an interior value used outside, or "" when it is closed."""
    inside = {id(node) for node in nodes}
    outputs = {id(o) for o in graph.outputs}
    for node in nodes:
        for o in node.outputs:
            if o is not result and (id(o) in outputs or any(id(user) not in inside for user in o.outputs)):
                return str(o.name)
    return ""
