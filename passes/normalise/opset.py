"""Graphs of opset 11 to 17 are rewritten as opset 18: the few operators whose form or meaning changed."""

from __future__ import annotations

import math

import onnx
import onnx_graphsurgeon as gs

from spikec.ir.diagnostics import SpikecError
from spikec.ir.order import bodies
from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Program

from .rewiring import Replacement, each_node, has_input, integers, is_standard
from .types import infer_types

MODERN = 18
"""The opset of the spiking operators' bodies; newer graphs stay as they are."""

REDUCTIONS = {
    "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare",
    "ReduceLogSum", "ReduceLogSumExp", "ReduceSum",
}  # fmt: skip
AXES_BECAME_INPUT = REDUCTIONS | {"Squeeze", "Unsqueeze"}
FLATTENING = {"Softmax", "LogSoftmax", "Hardmax"}


@compiler_pass(after=["take_constants"])
def modernise(program: Program) -> None:
    opset = program.graph.opset
    if opset >= MODERN:
        return

    flattening = [node for body in bodies(program.graph) for node in body.nodes if node.op in FLATTENING]
    if opset < 13 and any(node.inputs[0].shape is None for node in flattening):
        infer_types(program)

    def rewrite(node: gs.Node) -> list[gs.Node] | None:
        if not is_standard(node):
            return None
        if node.op in AXES_BECAME_INPUT and "axes" in node.attrs:
            _add_input(node, 1, "axes", node.attrs.pop("axes"))
        elif node.op == "Split":
            if "split" in node.attrs:
                _add_input(node, 1, "split", node.attrs.pop("split"))
            elif not has_input(node, 1):
                node.attrs["num_outputs"] = len(node.outputs)
        elif node.op == "Dropout" and "ratio" in node.attrs:
            del node.attrs["ratio"]  # inference: it passes its input on
        elif node.op == "RoiAlign" and opset < 16:
            node.attrs.setdefault("coordinate_transformation_mode", "output_half_pixel")
        elif node.op in FLATTENING and opset < 13:
            return _softmax(program, node)
        return None

    each_node(program.graph, rewrite)
    set_opset(program.graph, MODERN)


def _add_input(node: gs.Node, index: int, what: str, values: list[int]) -> None:
    while len(node.inputs) <= index:
        node.inputs.append(gs.Variable.empty())
    node.inputs[index] = integers(f"{node.outputs[0].name}/{what}", values)


def _softmax(program: Program, node: gs.Node) -> list[gs.Node] | None:
    """Until opset 12 it worked over all axes from `axis` (1) on together: the same when that is the last."""
    axis = node.attrs.get("axis", 1)
    shape = node.inputs[0].shape if node.inputs[0].shape is not None else node.outputs[0].shape
    if axis == -1 or (shape is not None and axis % max(len(shape), 1) == len(shape) - 1):
        node.attrs["axis"] = -1
        return None
    if shape is None and axis < 0:
        raise SpikecError(
            f"{node.op} {node.name!r} flattens a tensor of unknown rank from axis {axis} on",
            where=str(program.source),
            why=f"that is what it means in opset {program.graph.opset}",
            fix="export the model with opset 13 or newer",
        )
    new, source, name = Replacement(program, node), node.inputs[0], node.outputs[0].name
    known = [d for d in (shape or [])[axis:] if isinstance(d, int)]
    if shape is not None and len(known) == len(shape[axis:]):
        flat = new.add(
            "Reshape", [source, integers(f"{name}/flat", [0] * (axis % len(shape)) + [math.prod(known)])]
        )
        turned = new.add(node.op, [flat], axis=-1)
        back = integers(f"{name}/back", [0] * (axis % len(shape)) + known)
        return new.finish(new.add("Reshape", [turned, back], "back"))
    flat = new.add("Flatten", [source], axis=axis)
    turned = new.add(node.op, [flat], axis=-1)
    return new.finish(new.add("Reshape", [turned, new.add("Shape", [source])], "back"))


def set_opset(graph: gs.Graph, version: int) -> None:
    """The standard operators' version of the graph and all that hang on it; other domains' stay."""
    others = [o for o in graph.import_domains or () if o.domain not in ("", "ai.onnx")]
    graph.opset, graph.import_domains = version, [onnx.helper.make_opsetid("", version), *others]
