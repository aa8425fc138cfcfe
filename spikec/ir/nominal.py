"""The graph at one nominal input: the shape of every value, what it is made from, and, where no activation is
involved (positions, masks, shapes, rotary tables), its numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import onnx_graphsurgeon as gs

from . import graph as graphs
from . import numeric
from .nominal_shapes import Shape, shapes_of
from .nominal_sizes import LENGTH, Sizes
from .weights import array

INPUT, TOKEN, POSITION, PADDING, EMBEDDED, WEIGHTED, SHAPED = (1 << i for i in range(7))
"""What a value is made from: a real input, token ids, positions or segments, an attention mask, a row looked
up by token, a product with weights, the size of something. No bit: constants alone."""
ACTIVATION = EMBEDDED | WEIGHTED
DATA = ACTIVATION | INPUT

SHORTER = (64, 32, 16, 8, 4)
"""Lengths to try when a table of positions is shorter than the usual one."""
SEARCHED = 6
"""Free sizes that are looked for one by one."""
LARGEST = 1 << 22
"""Elements of an array worth computing."""
SIZED = {"Reshape", "Expand", "Slice", "Split", "Tile", "Squeeze", "Unsqueeze", "Pad"}
"""Operators of one value; the other inputs only say which part or how often."""
PRODUCTS = {"MatMul", "Gemm", "Conv", "ConvTranspose", "Einsum"}


@dataclass(eq=False)
class Nominal:
    """Facts by `id` of the tensor; the tensors are kept so that no id is given anew."""

    shapes: dict[int, Shape] = field(default_factory=dict)
    arrays: dict[int, np.ndarray] = field(default_factory=dict)
    origins: dict[int, int] = field(default_factory=dict)
    position: dict[int, int] = field(default_factory=dict)
    """Place of a node in the order of the graph, by id of the node."""
    conflicts: list[gs.Node] = field(default_factory=list)
    """Nodes whose operands do not fit at this size."""
    kept: list[object] = field(default_factory=list)
    inputs: list[gs.Variable] = field(default_factory=list)
    length: int = LENGTH
    sizes: dict[str, int] = field(default_factory=dict)
    """Sizes of free dimensions that were chosen, by symbol."""
    free: list[str] = field(default_factory=list)

    def origin(self, tensor: gs.Tensor) -> int:
        return self.origins.get(id(tensor), 0)

    def is_activation(self, tensor: gs.Tensor) -> bool:
        return bool(self.origin(tensor) & ACTIVATION)

    def is_data(self, tensor: gs.Tensor) -> bool:
        """Whether the tensor is an activation or a real input, which may be one."""
        return bool(self.origin(tensor) & DATA)

    def shape(self, tensor: gs.Tensor) -> Shape | None:
        return tuple(tensor.shape) if isinstance(tensor, gs.Constant) else self.shapes.get(id(tensor))

    def value(self, tensor: gs.Tensor) -> np.ndarray | None:
        """The numbers of a value that no activation is in, as far as they are worth computing."""
        if isinstance(tensor, gs.Constant):
            if math.prod(tensor.shape) > LARGEST:
                return None
            values = array(tensor)
            wide = values.dtype.kind == "V" or values.dtype == np.float16
            return values.astype(np.float32) if wide else values
        return self.arrays.get(id(tensor))

    def hints(self) -> list[int]:
        """Sizes that the first conflict speaks of: an exporter may have written its own into the graph."""
        found: list[int] = []
        for tensor in self.conflicts[0].inputs if self.conflicts else ():
            value = self.value(tensor)
            if value is not None and value.size <= 8 and np.issubdtype(value.dtype, np.integer):
                found += [int(n) for n in value.reshape(-1)] + [int(value.sum())]
            found += [int(n) for n in self.shape(tensor) or ()]
        return [n for n in dict.fromkeys(found) if 1 < n < 4 * LENGTH]

    def evaluate(self, result: gs.Tensor, known: dict[int, np.ndarray], stale: int = 0) -> np.ndarray | None:
        """`result` given the arrays in `known`, which is also the memory of what was computed; None when it
        depends on anything else. Values made from a `stale` origin are computed again."""
        stack = [result]
        failed: set[int] = set()
        while stack:
            tensor = stack[-1]
            if id(tensor) in known or id(tensor) in failed:
                stack.pop()
                continue
            given = None if self.origin(tensor) & stale else self.value(tensor)
            node = graphs.producer(tensor)
            if given is not None:
                known[id(tensor)] = given
            elif node is None or node.op not in numeric.OPERATORS:
                failed.add(id(tensor))
            else:
                inputs = [i for i in node.inputs if isinstance(i, gs.Constant) or i.name]
                if any(id(i) in failed for i in inputs):
                    failed.add(id(tensor))
                elif missing := [i for i in inputs if id(i) not in known]:
                    stack.extend(missing)
                    continue
                else:
                    outputs = numeric.apply(node, [known.get(id(i)) for i in node.inputs])
                    if not outputs:
                        failed.add(id(tensor))
                    else:
                        known.update((id(o), v) for o, v in zip(node.outputs, outputs, strict=False))
            stack.pop()
        return known.get(id(result))


def trace_fitting(graph: gs.Graph) -> Nominal:
    """The graph at the usual sizes or, where its nodes do not fit each other at these, at some that do:
    position tables may be shorter, and exporters write sizes of their own into graphs."""
    nominal = first = trace(graph)
    for length in SHORTER if first.conflicts else ():
        other = trace(graph, {"": length}, fitting=True)
        if not other.conflicts:
            return other
    for _ in range(SEARCHED):
        if not nominal.conflicts:
            return nominal
        better = _better(graph, nominal)
        if better is None:
            break
        nominal = better
    return first if nominal.conflicts else nominal


def _better(graph: gs.Graph, nominal: Nominal) -> Nominal | None:
    """The first change of one free size, to one that the first conflict speaks of, that gets beyond it."""
    place = nominal.position[id(nominal.conflicts[0])]
    for size in nominal.hints():
        for symbol in nominal.free:
            other = trace(graph, {**nominal.sizes, symbol: size}, fitting=True)
            if not other.conflicts or other.position[id(other.conflicts[0])] > place:
                return other
    return None


def trace(graph: gs.Graph, sizes: dict[str, int] | None = None, fitting: bool = False) -> Nominal:
    """One pass over the sorted graph, given up at the first conflict when it must be `fitting`. `sizes` are
    those of free dimensions by symbol; by "" that of a sequence."""
    free = Sizes(graph, sizes or {})
    nominal = Nominal(length=free.length, sizes=dict(sizes or {}))
    for tensor in graph.inputs:
        if isinstance(tensor, gs.Variable):
            nominal.inputs.append(tensor)
            _give(nominal, tensor, free.shape(tensor))
    nominal.free = list(free.symbols)
    for index, node in enumerate(graph.nodes):
        nominal.position[id(node)] = index
        nominal.kept.append(node)
        _step(nominal, node)
        if fitting and nominal.conflicts:
            break
    return nominal


def _step(nominal: Nominal, node: gs.Node) -> None:
    inputs = [*node.inputs, *graphs.subgraph_inputs(node)]
    bits = 0
    for index, tensor in enumerate(inputs):
        origin = nominal.origins.get(id(tensor), 0)
        bits |= origin & ~SHAPED if index and node.op in SIZED else origin
    if node.op in ("Shape", "Size"):
        bits = SHAPED
    elif node.op == "Gather" and nominal.origin(node.inputs[1]) & TOKEN and is_table(nominal, node.inputs[0]):
        bits |= EMBEDDED
    elif node.op in PRODUCTS and weight_index(nominal, node) is not None:
        bits |= WEIGHTED
    shapes = [nominal.shape(tensor) for tensor in node.inputs]
    values: list[np.ndarray] | None = None
    if not bits & ACTIVATION and node.op in numeric.OPERATORS:
        values = _values(nominal, node, shapes)
    for tensor in node.outputs:
        nominal.origins[id(tensor)] = bits
        nominal.kept.append(tensor)
    if values is None:
        try:
            found = shapes_of(node, shapes, [nominal.value(i) if _small(i) else None for i in node.inputs])
        except (ValueError, IndexError, KeyError, TypeError, AttributeError):
            found = []
            if None not in shapes:
                nominal.conflicts.append(node)
        for tensor, shape in zip(node.outputs, found, strict=False):
            if shape is not None:
                nominal.shapes[id(tensor)] = shape
        for tensor in node.outputs:
            told = tensor.shape is not None and all(isinstance(n, int) and n >= 0 for n in tensor.shape)
            if told and id(tensor) not in nominal.shapes:
                nominal.shapes[id(tensor)] = tuple(tensor.shape)
        return
    for tensor, value in zip(node.outputs, values, strict=False):
        nominal.arrays[id(tensor)] = value
        nominal.shapes[id(tensor)] = value.shape


def _small(tensor: gs.Tensor) -> bool:
    """Whether the tensor may hold sizes or indices: worth reading where only shapes are asked for."""
    return not isinstance(tensor, gs.Constant) or math.prod(tensor.shape) <= 1 << 16


def _values(nominal: Nominal, node: gs.Node, shapes: list[Shape | None]) -> list[np.ndarray] | None:
    """The outputs' numbers where every operand is known and the work is small."""
    if node.op == "Shape":
        return None if shapes[0] is None else numeric.apply(node, [np.broadcast_to(np.int8(0), shapes[0])])
    if node.op == "Size":
        return None if shapes[0] is None else [np.array(math.prod(shapes[0]), np.int64)]
    work = 0
    for tensor, shape in zip(node.inputs, shapes, strict=True):
        named = isinstance(tensor, gs.Constant) or bool(tensor.name)
        if named and (shape is None or (id(tensor) not in nominal.arrays and nominal.value(tensor) is None)):
            return None
        work += math.prod(shape or ())
    if work > LARGEST and node.op not in numeric.MOVES:
        return None
    operands = [nominal.value(i) if isinstance(i, gs.Constant) or i.name else None for i in node.inputs]
    outputs = numeric.apply(node, operands)
    if outputs is None:
        nominal.conflicts.append(node)
    return outputs or None


def is_table(nominal: Nominal, tensor: gs.Tensor) -> bool:
    """Whether a Gather of this looks up vectors: a matrix of reals made from constants alone."""
    shape = nominal.shape(tensor)
    return nominal.origin(tensor) == 0 and is_real(tensor) and shape is not None and len(shape) == 2


def is_real(tensor: gs.Tensor) -> bool:
    if tensor.dtype is None:
        return True
    dtype = np.dtype(tensor.dtype) if not isinstance(tensor.dtype, int) else numeric.dtype_of(tensor.dtype)
    return dtype.kind in "fV" or dtype.name == "bfloat16"


def weight_index(nominal: Nominal, node: gs.Node) -> int | None:
    """Which operand of a product is a weight: made from constants alone, with more than one row to add up
    (one row is no product: rotary frequencies times positions)."""
    operands = node.inputs[:2]
    if len(operands) < 2 or not all(is_real(t) for t in operands):
        return None
    fixed = [nominal.origin(t) == 0 for t in operands]
    for index in (1, 0):
        shape = nominal.shape(operands[index])
        data = nominal.is_data(operands[1 - index])
        if fixed[index] and shape is None and data and node.op == "MatMul":
            return index
        if not fixed[index] or shape is None or len(shape) < 2:
            continue
        if node.op == "MatMul" and shape[-2 if index else -1] == 1 and not data:
            continue
        if node.op == "Einsum" and math.prod(shape) == max(shape) and not data:
            continue
        if all(fixed) and len(nominal.shape(operands[1 - index]) or ()) < 2:
            continue
        return index
    return None


MASKS, POSITIONS = ("mask",), ("position", "segment", "token_type", "cache_position", "lang", "seqlen")


def _give(nominal: Nominal, tensor: gs.Variable, shape: Shape) -> None:
    """One graph input: its nominal shape, its kind and, unless it is large, numbers to try things with."""
    name = tensor.name.lower()
    nominal.shapes[id(tensor)] = shape
    nominal.kept.append(tensor)
    small = math.prod(shape) <= LARGEST
    dtype = np.dtype(tensor.dtype) if tensor.dtype is not None else np.dtype(np.float32)
    real = is_real(tensor)
    values: np.ndarray | None
    if any(word in name for word in MASKS) or dtype == np.bool_:
        nominal.origins[id(tensor)] = PADDING
        values = np.zeros(shape, np.float32) if real and len(shape) != 2 else np.ones(shape)
    elif real:
        nominal.origins[id(tensor)] = INPUT
        # alike along the last axis, as cosines and sines of positions are for both features of a pair
        rows = np.random.default_rng(len(nominal.kept)).standard_normal((*shape[:-1], 1)[: len(shape)])
        values = np.broadcast_to(rows, shape) if small else None
    elif any(word in name for word in POSITIONS) or not np.issubdtype(dtype, np.integer):
        nominal.origins[id(tensor)] = POSITION
        positions = "position" in name and shape
        values = np.broadcast_to(np.arange(shape[-1]), shape) if positions else np.zeros(shape)
    else:
        nominal.origins[id(tensor)] = TOKEN
        values = 3 + np.arange(math.prod(shape)).reshape(shape) % 29 if small else None
    if values is not None and small:
        nominal.arrays[id(tensor)] = values.astype(np.float32 if real else dtype)
