"""What stands inside control flow whose course is not known: counted on a copy with one way through it
written out, and left where it is."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from spikec.ir import graph as graphs
from spikec.ir import pipeline
from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Program
from spikec.ir.weights import array

from .normalise.bodies import bodies_of, copied_graph, holds_body, size, splice
from .normalise.branches import ROUNDS, larger, slice_of, stacked
from .recognise import RECOGNISE

PLAIN = ("fold_constants", "take_apart", "split_gemm", "spell_products", "infer_types")
"""The passes that work on the outermost graph alone."""
LARGEST = 20_000
"""Nodes of the largest copy that is looked at."""


@compiler_pass(after=["recognise_blocks"])
def look_inside(program: Program) -> None:
    """`program.settings["whole"]`: the copy with its findings. A Loop of known length counts every trip."""
    held = holds_body(program.graph)
    if not held or size(program.graph) > LARGEST:
        return
    whole, trips = _written_out(program)
    pipeline.run(whole, (*PLAIN, *RECOGNISE), {})
    for finding in whole.findings:
        maker = graphs.producer(finding.result)
        times = trips.get(whole.origin.get(maker.name, ""), 1) if maker is not None else 1
        if times > 1:
            finding.facts["count"] = finding.facts.get("count", 1) * times
    program.settings["whole"] = whole
    if len(whole.findings) > len(program.findings):
        for node in held:
            text = f"{node.op} holds part of the model: it is counted, and stays an ordinary operator"
            program.tell("SPK430", node.name, text)


def _written_out(program: Program) -> tuple[Program, dict[str, int]]:
    """A copy with the larger branch of every If and one trip of every loop; the trips by the loop's name."""
    mapping: dict[int, gs.Tensor] = {}
    for constant in graphs.constants(program.graph):
        mapping[id(constant)] = gs.Constant(constant.name, constant._values)
    whole = Program(program.source, copied_graph(program.graph, mapping, ""))
    whole.settings["method"] = program.settings["method"]
    trips: dict[str, int] = {}
    for _ in range(ROUNDS):
        held = holds_body(whole.graph)
        for node in held:
            if node.op == "If":
                body = node.attrs["then_branch" if larger(node) else "else_branch"]
                splice(whole, whole.graph, node, body.nodes, list(body.outputs))
            else:
                name, (nodes, results, count) = node.name, _one_trip(node)
                trips[name] = count * trips.get(whole.origin.get(name, ""), 1)
                splice(whole, whole.graph, node, nodes, results)
        if not held:
            break
    graphs.prune(whole.graph)
    graphs.sort(whole.graph)
    return whole, trips


def _one_trip(node: gs.Node) -> tuple[list[gs.Node], list[gs.Tensor], int]:
    """The body once, on what the loop begins with, and how often it runs (once if nobody knows)."""
    (body,) = bodies_of(node)
    first: list[gs.Node] = []
    last: list[gs.Node] = []
    axes: list[int] = []
    zero = gs.Constant(f"{node.name}/first", np.asarray(0, np.int64))
    if node.op == "Loop":
        trips = node.inputs[0]
        count = int(array(trips).item()) if isinstance(trips, gs.Constant) else 1
        given = [zero, gs.Constant(f"{node.name}/true", np.asarray(True)), *node.inputs[2:]]
        results, kept = list(body.outputs[1:]), len(node.inputs) - 2
    else:
        taken = int(node.attrs["num_scan_inputs"])
        kept = len(node.inputs) - taken
        axes = node.attrs.get("scan_input_axes") or [0] * taken
        shape = node.inputs[kept].shape
        size_of = shape[axes[0]] if shape is not None else None
        count = size_of if isinstance(size_of, int) else 1
        given = list(node.inputs[:kept])
        for index, (sequence, axis) in enumerate(zip(node.inputs[kept:], axes, strict=True)):
            first.append(slice_of(sequence, zero, axis, f"{node.name}/slice_{index}"))
            given.append(first[-1].outputs[0])
        results, axes = list(body.outputs), node.attrs.get("scan_output_axes") or []
    for inner, value in zip(body.inputs, given, strict=True):
        for user in list(inner.outputs):
            for place, tensor in enumerate(user.inputs):
                if tensor is inner:
                    user.inputs[place] = value
        results = [value if result is inner else result for result in results]
    rows = []
    for index, value in enumerate(results[kept:]):
        rows.append(stacked(node, last, [value], index, axes[index] if axes else 0))
    return [*first, *body.nodes, *last], results[:kept] + rows, max(count, 1)
