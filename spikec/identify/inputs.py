"""What a model is fed and how it enters: tokens, positions, patches, sound; and which weights serve twice."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable

import numpy as np
import onnx_graphsurgeon as gs

from ..ir import graph as graphs
from ..ir import region
from ..ir.inputs import FILLERS
from ..ir.program import Finding
from ..ir.weights import DerivedValues, MappedValues, read
from .wiring import LOOK, Wiring, operands, value_of
from .words import Features

MOVES = {
    "Reshape",
    "Transpose",
    "Flatten",
    "Concat",
    "Expand",
    "Cast",
    "Identity",
    "Unsqueeze",
    "Squeeze",
    "Slice",
    "Tile",
}
SAMPLE = 64
LARGEST = 1 << 22
"""Bytes of a weight inside the model file that are looked at: those in files of their own cost nothing."""
COUNTING = {"CumSum", "Range", "Shape", "Size"}
TYPES = 4
"""A table of fewer rows than this tells kinds of tokens apart, not tokens or positions."""


def input_features(out: Features, wiring: Wiring) -> None:
    _tables(out, wiring)
    _convolutions(out, wiring)
    _shared(out, wiring)
    _experts(out, wiring)
    program = wiring.program
    if len(program.of("matmul_dynamic")) > 2 * len(program.of("attention")) + 1:
        out.add("disentangled", "products of activations beyond scores and mixing")


def _tables(out: Features, wiring: Wiring) -> None:
    embeddings = wiring.program.of("embedding")
    roles = [(f, _role(f)) for f in embeddings]
    tokens = [f for f, role in roles if role == "tokens"]
    if not tokens:
        return
    out.add("tokens", "token ids look up a table")
    width = tokens[0].facts["weight"].shape[-1]
    for f, role in roles:
        rows, columns = f.facts["weight"].shape[-2:]
        if role == "positions" and columns == width and rows >= TYPES:
            out.add("learned-positions", f"a table of {rows} positions")
        if f not in tokens[:1] and columns == width and rows < TYPES:
            out.add("token-types", f"a table of {rows} token types")
    if any(_scaled(f.result) for f in tokens):
        out.add("embedding-scale", "embeddings are scaled up")
    if any(_added_constant(f.result) for f in tokens):
        out.add("learned-positions", "a constant vector for each position is added")
    first = next((f for f in wiring.program.findings if "weight" in f.facts and f.kind != "embedding"), None)
    if first is not None and first.facts["label"] != "linear" and _straight(first.sources[0], tokens, wiring):
        fan_in, fan_out = first.facts["weight"].shape[-2:]
        if width in (fan_in, fan_out) and fan_in != fan_out:
            out.add("embedding-projection", "embeddings are projected to the width of the layers")


def _straight(tensor: gs.Tensor, tokens: list[Finding], wiring: Wiring) -> bool:
    stopped, passed = wiring.back([tensor], lambda f: f.kind == "embedding")
    return any(f in tokens for f in stopped) and all(f.kind in ("layernorm", "residual") for f in passed)


def _role(embedding: Finding) -> str:
    """What looks the table up: "tokens" when an input's own values do, "positions" when they are counted."""
    seen: set[int] = set()
    stack, named = [embedding.sources[0]], False
    while stack and len(seen) < LOOK:
        tensor = stack.pop()
        node = graphs.producer(tensor)
        if node is None:
            named = named or (
                isinstance(tensor, gs.Variable) and bool(tensor.name) and tensor.name not in FILLERS
            )
        elif id(node) not in seen:
            seen.add(id(node))
            if node.op in COUNTING:
                return "positions"
            stack.extend(operands(node))
    return "tokens" if named else "positions"


def _scaled(tensor: gs.Tensor) -> bool:
    return any(
        user.op == "Mul"
        and any(
            isinstance(i, gs.Constant) and math.prod(i.shape) == 1 and region.constant_value(i) > 1
            for i in user.inputs
        )
        for user in tensor.outputs
    )


def _added_constant(tensor: gs.Tensor) -> bool:
    """Whether a constant with a row for each position joins the value, moves aside."""
    for reached in region.descendants(tensor, 6, MOVES):
        for user in reached.outputs:
            if user.op == "Add" and any(
                isinstance(i, gs.Constant) and len(i.shape) > 1 and math.prod(i.shape) > i.shape[-1]
                for i in user.inputs
            ):
                return True
    return False


def _convolutions(out: Features, wiring: Wiring) -> None:
    for node in wiring.program.graph.nodes:
        if node.op != "Conv" or len(node.inputs) < 2 or node.inputs[1].shape is None:
            continue
        if graphs.producer(value_of(node.inputs[0])) is not None:
            continue  # not the model's input
        kernel = list(node.inputs[1].shape)[2:]
        strides = list(node.attrs.get("strides", [1] * len(kernel)))
        if len(kernel) == 2 and strides == kernel:
            out.add("patches", f"a convolution of {kernel[0]}x{kernel[1]} patches")
            if _added_constant(node.outputs[0]):
                out.add("learned-positions", "a constant vector for each position is added")
        elif len(kernel) == 1:
            out.add("sound", "convolutions over time")


def _shared(out: Features, wiring: Wiring) -> None:
    weights = Counter(_stored(f) for f in wiring.program.of("linear"))
    weights.pop("", None)
    if weights and np.mean([n > 1 for n in weights.values()]) > 0.5:
        out.add("shared-layers", f"{len(weights)} weight matrices serve {sum(weights.values())} products")
    tables = {_stored(f) for f in wiring.program.of("embedding")}
    if any(
        _stored(f) in tables for f in wiring.program.findings if f.facts["label"] in ("head", "other_linear")
    ):
        out.add("tied-head", "the head is the embedding's table")


def _stored(finding: Finding) -> Hashable:
    """What tells a weight from others, however it is turned: its size and its first numbers."""
    weight = finding.facts.get("weight")
    if not isinstance(weight, gs.Constant):
        return ""
    values = weight._values
    while isinstance(values, DerivedValues):
        values = values.sources[0]
    if isinstance(values, MappedValues) or values.nbytes <= LARGEST:
        sample = read(values).reshape(-1)[:SAMPLE]
        if (sample != sample[:1]).any():
            return tuple(values.shape), sample.tobytes()
    return str(weight.name).removesuffix("/transposed")


def _experts(out: Features, wiring: Wiring) -> None:
    within = {id(f.facts.get("softmax")) for f in wiring.program.of("attention")}
    for softmax in wiring.program.of("softmax"):
        ahead = region.descendants(softmax.result, 4, MOVES)
        if id(softmax) not in within and any(user.op == "TopK" for t in ahead for user in t.outputs):
            out.add("router", "a softmax chooses experts")
    if any(node.op == "TopK" for node in wiring.program.graph.nodes) and wiring.program.of("attention"):
        out.add("router", "the largest of some scores choose experts")
