"""Control flow whose course is known is written out: the branch taken, a loop's trips one after another."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from spikec.ir import graph as graphs
from spikec.ir.order import bodies
from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Program
from spikec.ir.weights import array

from .bodies import copied, holds_body, size, splice
from .constants import fold_constants
from .rewiring import constant_input, forget, integers, ordered

MOST_NODES = 20_000
"""A loop is written out up to this many nodes."""
ROUNDS = 8
WEIGHING = {
    "MatMul", "Gemm", "Conv", "Einsum", "Attention", "MultiHeadAttention", "GroupQueryAttention", "Softmax",
    "LayerNormalization", "SkipLayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization",
    "Gelu", "Erf", "Tanh", "Sigmoid", "Relu",
}  # fmt: skip
"""What makes a branch the larger of two."""
ATTENDING = {"Softmax", "Attention", "MultiHeadAttention", "GroupQueryAttention"}
"""What makes a branch a transformer."""
CARRYING = {"Cast", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Flatten", "Gather", "Slice", "Not"}
"""What may stand between a truth value that is an input and the choice that it makes."""


@compiler_pass(after=["take_constants", "modernise", "widen", "dequantise"])
def write_out(program: Program) -> None:
    if not holds_body(program.graph):
        return
    for _ in range(ROUNDS):
        fold_constants(program)
        if not any([_settle(program, node) for node in holds_body(program.graph)]):
            break
        ordered(program)


def _settle(program: Program, node: gs.Node) -> bool:
    """Writes the node's body out if its course is known; whether it did."""
    if node.op == "If":
        return _branch(program, node)
    made = _loop(node) if node.op == "Loop" else _scan(node)
    if made is None:
        return False
    forget(program, node, "folded: its trips are written out one after the other")
    splice(program, program.graph, node, *made)
    return True


def _branch(program: Program, node: gs.Node) -> bool:
    known = constant_input(node, 0)
    if known is not None:
        taken, why = bool(array(known).all()), "folded: its condition is constant"
    else:
        source, turned = _input_behind(node.inputs[0])
        if source is None or not any(_attends(body) for body in (_of(node, True), _of(node, False))):
            return False
        taken = larger(node)
        value = taken != turned
        text = f"compiled for {source.name} = {str(value).lower()}: the other branch of this If is dropped"
        program.tell("SPK431", node.name, text)
        why = f"folded: the branch for {source.name} = {str(value).lower()}"
        program.settings.setdefault("chosen", {})[source.name] = value
    body = _of(node, taken)
    forget(program, node, why)
    splice(program, program.graph, node, body.nodes, list(body.outputs))
    return True


def _of(node: gs.Node, taken: bool) -> gs.Graph:
    return node.attrs["then_branch" if taken else "else_branch"]


def _attends(body: gs.Graph) -> bool:
    return any(node.op in ATTENDING for inner in bodies(body) for node in inner.nodes)


def larger(node: gs.Node) -> bool:
    """The branch that computes more; of two alike the one for true, which goes on from a cache."""
    weights = [
        sum(n.op in WEIGHING for inner in bodies(_of(node, taken)) for n in inner.nodes)
        for taken in (False, True)
    ]
    return weights[1] >= weights[0]


def _input_behind(condition: gs.Tensor) -> tuple[gs.Variable | None, bool]:
    """The graph's own input that makes the choice, and whether it is negated on the way."""
    turned, current = False, condition
    while (maker := graphs.producer(current)) is not None:
        if maker.op not in CARRYING:
            return None, False
        turned ^= maker.op == "Not"
        current = maker.inputs[0]
    one = current.shape is not None and all(size in (1, "1") for size in current.shape)
    boolean = (
        isinstance(current, gs.Variable) and current.dtype is not None and np.dtype(current.dtype) == bool
    )
    return (current, turned) if boolean and one else (None, False)


Written = tuple[list[gs.Node], list[gs.Tensor]]


def _loop(node: gs.Node) -> Written | None:
    body, trips, going = node.attrs["body"], constant_input(node, 0), node.inputs[1:2]
    if trips is None or not _goes_on(body):
        return None
    if going and going[0].name and not (isinstance(going[0], gs.Constant) and array(going[0]).all()):
        return None
    count, carried = int(array(trips).item()), list(node.inputs[2:])
    if count < 1 or count * size(body) > MOST_NODES:
        return None
    true = gs.Constant(f"{node.name}/true", np.asarray(True))
    nodes: list[gs.Node] = []
    rows: list[list[gs.Tensor]] = [[] for _ in body.outputs[1 + len(carried) :]]
    for trip in range(count):
        number = integers(f"{node.name}/trip_{trip}", trip)
        mapping = {id(i): value for i, value in zip(body.inputs, [number, true, *carried], strict=True)}
        nodes += copied(body.nodes, mapping, f"/trip_{trip}")
        results = [mapping.get(id(o), o) for o in body.outputs]
        carried = results[1 : 1 + len(carried)]
        for row, value in zip(rows, results[1 + len(carried) :], strict=True):
            row.append(value)
    return nodes, carried + [stacked(node, nodes, row, index, 0) for index, row in enumerate(rows)]


def _goes_on(body: gs.Graph) -> bool:
    """Whether the body never stops the loop by itself."""
    current = body.outputs[0]
    while (maker := graphs.producer(current)) is not None and maker.op == "Identity":
        current = maker.inputs[0]
    return (
        current is body.inputs[1]
        or (isinstance(current, gs.Constant) and bool(array(current).all()))
        or _true(maker)
    )


def _true(maker: gs.Node | None) -> bool:
    value = maker.attrs.get("value") if maker is not None and maker.op == "Constant" else None
    return value is not None and bool(array(value).all())


def _scan(node: gs.Node) -> Written | None:
    body, taken = node.attrs["body"], int(node.attrs["num_scan_inputs"])
    kept = len(node.inputs) - taken
    carried, sequences = list(node.inputs[:kept]), list(node.inputs[kept:])
    axes = node.attrs.get("scan_input_axes") or [0] * taken
    given = len(body.outputs) - kept
    ways = [
        *(node.attrs.get("scan_input_directions") or [0] * taken),
        *(node.attrs.get("scan_output_directions") or [0] * given),
    ]
    shape = sequences[0].shape
    count = shape[axes[0]] if shape is not None else None
    if any(ways) or not isinstance(count, int) or not 0 < count * size(body) <= MOST_NODES:
        return None
    nodes: list[gs.Node] = []
    rows: list[list[gs.Tensor]] = [[] for _ in range(given)]
    for trip in range(count):
        number, slices = integers(f"{node.name}/trip_{trip}", trip), []
        for index, (sequence, axis) in enumerate(zip(sequences, axes, strict=True)):
            nodes.append(slice_of(sequence, number, axis, f"{node.name}/slice_{index}_{trip}"))
            slices.append(nodes[-1].outputs[0])
        mapping = {id(i): value for i, value in zip(body.inputs, [*carried, *slices], strict=True)}
        nodes += copied(body.nodes, mapping, f"/trip_{trip}")
        results = [mapping.get(id(o), o) for o in body.outputs]
        carried = results[:kept]
        for row, value in zip(rows, results[kept:], strict=True):
            row.append(value)
    out_axes = node.attrs.get("scan_output_axes") or [0] * given
    written = [
        stacked(node, nodes, row, i, axis) for i, (row, axis) in enumerate(zip(rows, out_axes, strict=True))
    ]
    return nodes, carried + written


def slice_of(sequence: gs.Tensor, number: gs.Constant, axis: int, name: str) -> gs.Node:
    return gs.Node("Gather", name, {"axis": axis}, [sequence, number], [gs.Variable(name)])


def stacked(node: gs.Node, nodes: list[gs.Node], row: list[gs.Tensor], index: int, axis: int) -> gs.Variable:
    """What every trip gave, along a new axis."""
    place = integers(f"{node.name}/axis_{index}", [axis])
    lifted = []
    for trip, value in enumerate(row):
        name = f"{node.name}/row_{index}_{trip}"
        lifted.append(gs.Variable(name))
        nodes.append(gs.Node("Unsqueeze", name, {}, [value, place], [lifted[-1]]))
    result = gs.Variable(f"{node.name}/rows_{index}")
    nodes.append(gs.Node("Concat", result.name, {"axis": axis}, lifted, [result]))
    return result
