"""What depends on constants or known sizes alone is computed: shape arithmetic, scales, layout of weights."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx_graphsurgeon as gs

from spikec.ir import graph as graphs
from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Program
from spikec.ir.weights import array, derived, dtype_of

from . import numeric
from .identities import passes_on
from .rewiring import constant_input, detach, each_node, forget, is_standard, ordered, output_ids, redirect
from .types import Dim, Types

Kept = dict[tuple[object, ...], tuple[list[gs.Constant], list[gs.Constant]]]
"""What has been derived already, by operator and sources (held on to, so that their ids stay theirs)."""
ROUNDS = 4
"""Folding makes more shapes known, and those more foldable; exports settle after two."""

MOVING = {
    "Transpose", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Slice", "Split", "Flatten", "Identity", "Concat",
}  # fmt: skip
SCALING = {"Mul", "Add", "Sub", "Div", "Neg"}
MADE_OF_POSITIONS = {
    "Cos",
    "Sin",
    "Where",
    "Trilu",
    "Expand",
    "Tile",
    "ConstantOfShape",
    "Max",
    "Min",
    "Clip",
}
"""What masks and tables of angles are made with: computed although these are matrices of real numbers."""


@compiler_pass(after=["take_constants", "modernise", "widen"])
def fold_constants(program: Program) -> None:
    for _ in range(ROUNDS):
        types = program.settings["types"] = Types(program.graph)
        if not fold(program, types):
            break
    ordered(program)


def fold(program: Program, types: Types) -> int:
    """One sweep in graph order; how many nodes it took away."""
    outputs = output_ids(program.graph)
    top = {id(node) for node in program.graph.nodes}
    gone = 0
    kept: Kept = {}

    def rewrite(node: gs.Node) -> list[gs.Node] | None:
        nonlocal gone
        if not is_standard(node) or any(id(o) in outputs for o in node.outputs):
            return None
        why, values = "folded: passes its input on unchanged", passes_on(node, types)
        if values is None:
            why, values = "folded: all it depends on is constant", _computed(node, kept)
        if values is None:
            why, values = "folded: a size that is known", _sizes(node, types)
        if values is None:
            return None
        for output, value in zip(node.outputs, values, strict=False):
            redirect(output, value)
        detach(node)
        gone += 1
        if id(node) in top:
            forget(program, node, why)
        return []

    each_node(program.graph, rewrite)
    return gone


def is_matrix(constant: gs.Constant) -> bool:
    """Real numbers in two or more axes: weights and tables, whose arithmetic is the model's own."""
    real = np.issubdtype(dtype_of(constant), np.floating)
    return real and sum(size > 1 for size in constant.shape) >= 2


def _computed(node: gs.Node, kept: Kept) -> list[gs.Constant] | None:
    """The node's outputs when all its inputs are constant and it may be computed before the model runs."""
    given = [i for i in node.inputs if i.name]
    if not all(isinstance(i, gs.Constant) for i in given) or (not given and node.op != "ConstantOfShape"):
        return None
    if any(is_matrix(i) for i in given) and node.op not in MADE_OF_POSITIONS:
        if node.op == "Gather":
            lookup = given[0].shape and len(given[1].shape) > 0
            return None if lookup else _later(node, given, kept)
        return _later(node, given, kept) if node.op in MOVING or node.op in SCALING else None
    if any(math.prod(i.shape) > numeric.LARGEST for i in given):
        return _later(node, given, kept) if node.op in MOVING else None
    if node.op in ("Expand", "Tile") and _result_size(node) > numeric.LARGEST:
        return None
    values = numeric.evaluate(node, [array(i) if isinstance(i, gs.Constant) else None for i in node.inputs])
    if values is None or any(v.size > numeric.LARGEST for v in values):
        return None
    return [
        gs.Constant(o.name, np.ascontiguousarray(v).reshape(v.shape))
        for o, v in zip(node.outputs, values, strict=False)
    ]


def _result_size(node: gs.Node) -> int:
    amounts = array(node.inputs[1])
    if node.op == "Expand":
        return math.prod(np.broadcast_shapes(tuple(node.inputs[0].shape), tuple(amounts.tolist())))
    return math.prod(node.inputs[0].shape) * int(amounts.prod())


def _later(node: gs.Node, given: list[gs.Constant], kept: Kept) -> list[gs.Constant] | None:
    """The outputs as constants that are only computed when somebody looks: weights are never copied here."""
    if len(given) != len(node.inputs):
        return None
    key = (node.op, repr(sorted(node.attrs.items())), *(id(i._values) for i in given))
    if key in kept:
        return kept[key][1]
    forms = _forms(node, given)
    if forms is None:
        return None
    frozen = gs.Node(node.op, node.name, attrs=dict(node.attrs), domain=node.domain)
    count = len(node.outputs)
    made = []
    for index, (output, (shape, dtype)) in enumerate(zip(node.outputs, forms, strict=True)):
        made.append(derived(output.name, given, _output(frozen, count, index), shape, dtype))
    kept[key] = given, made
    return made


def _forms(node: gs.Node, given: list[gs.Constant]) -> list[tuple[tuple[int, ...], np.dtype]] | None:
    """Shape and type of every output, without the numbers."""
    first, dtype = tuple(given[0].shape), dtype_of(given[0])
    if node.op in SCALING:
        return [(np.broadcast_shapes(*(tuple(i.shape) for i in given)), dtype)]
    if node.op == "Concat":
        axis = node.attrs["axis"] % len(first)
        total = sum(i.shape[axis] for i in given)
        return [((*first[:axis], total, *first[axis + 1 :]), dtype)]
    if node.op == "Gather":
        axis = node.attrs.get("axis", 0) % len(first)
        return [(first[:axis] + first[axis + 1 :], dtype)]
    if node.op == "Cast":
        cast = numeric.evaluate(node, [np.zeros((), dtype)])
        return None if cast is None else [(first, cast[0].dtype)]
    views = [np.broadcast_to(np.zeros((), dtype), first), *(array(i) for i in given[1:])]
    made = numeric.evaluate(node, views)
    return None if made is None else [(value.shape, value.dtype) for value in made]


def _output(node: gs.Node, count: int, index: int) -> Callable[..., np.ndarray]:
    function = numeric.OPERATORS[node.op]

    def compute(*operands: np.ndarray) -> np.ndarray:
        made = function(node.attrs, *operands, **({"count": count} if node.op == "Split" else {}))
        return np.asarray(made[index] if isinstance(made, list) else made)

    return compute


def _sizes(node: gs.Node, types: Types) -> list[gs.Constant] | None:
    """Sizes read off a known shape: all of it, or the entries that a Gather or Slice picks."""
    if node.op in ("Shape", "Size"):
        shape = types.shape(node.inputs[0])
        picked = _part(node, shape) if shape is not None else None
        sizes = [d for d in picked or () if isinstance(d, int)]
        if picked is None or len(sizes) < len(picked):
            return None
        value = np.asarray(math.prod(sizes) if node.op == "Size" else sizes, np.int64)
        return [gs.Constant(node.outputs[0].name, value)]
    maker = graphs.producer(node.inputs[0]) if node.op in ("Gather", "Slice") else None
    if maker is None or maker.op != "Shape" or not is_standard(maker):
        return None
    shape = types.shape(maker.inputs[0])
    if shape is None or any(constant_input(node, i) is None for i in range(1, len(node.inputs))):
        return None
    entries = _part(maker, shape)
    places = numeric.evaluate(node, [np.arange(len(entries)), *(array(i) for i in node.inputs[1:])])
    if places is None or not all(isinstance(entries[i], int) for i in places[0].reshape(-1)):
        return None
    value = np.asarray([entries[i] for i in places[0].reshape(-1)], np.int64).reshape(places[0].shape)
    return [gs.Constant(node.outputs[0].name, value)]


def _part(node: gs.Node, shape: list[Dim]) -> list[Dim]:
    return shape if node.op == "Size" else shape[node.attrs.get("start", 0) : node.attrs.get("end")]
