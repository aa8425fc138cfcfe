"""Attention: a softmax whose scores come from products of two activations and whose weights go into another.

Whatever stands between (scale, mask, cap, casts, guards, reshapes) is walked through along the activations
only, so masks and biases are never mistaken for scores; what it does is then measured (`attention_facts.py`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from spikec.ir import graph as graphs
from spikec.ir import numeric
from spikec.ir.nominal import Nominal
from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Finding, Program

from .attention_facts import measure

THROUGH = numeric.ELEMENTWISE.keys() | numeric.MOVES.keys() | {"Trilu", "ReduceMax"}
"""What may stand between a softmax and the products before and after it."""
LARGEST_ARRAY = 1 << 22
LARGEST = 96
"""Nodes between a softmax and its products."""


@dataclass
class Walk:
    """What a walk from a softmax came to: products, and everything else that it ended at."""

    products: list[Finding] = field(default_factory=list)
    nodes: list[gs.Node] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    entries: list[gs.Tensor] = field(default_factory=list)
    """The operands by which the products were come to."""


@compiler_pass(after=["recognise_softmax", "recognise_products", "recognise_rope"])
def recognise_attention(program: Program) -> None:
    nominal: Nominal = program.settings["nominal"]
    products = {id(f.nodes[0]): f for f in program.findings if f.facts["label"] == "matmul_dynamic"}
    outputs = {id(o): o.name for o in program.graph.outputs}
    turned = {id(f.result): f.sources[0] for f in program.of("rope")}
    for softmax in program.of("softmax"):
        before = _back(nominal, softmax, products)
        after = _ahead(softmax, products, outputs)
        if not before.products or not after.products or not _weighs(nominal, softmax, after):
            _not_attention(program, softmax, before, bool(after.products))
            continue
        for finding in before.products:
            finding.facts["label"] = "qk"
        scores = max(before.products, key=lambda f: _weight(nominal, f))
        context = after.products[0]
        context.facts["label"] = "av"
        facts: dict[str, Any] = {
            "label": "attention",
            "scores": scores,
            "more_scores": tuple(f for f in before.products if f is not scores),
            "softmax": softmax,
            "context": context,
            "extra_uses": tuple(sorted(set(after.others + _hidden(before, scores, softmax, outputs)))),
            "modified_by": tuple(before.others),
        }
        finding = Finding("attention", scores.sources, context.result, (), facts)
        facts |= measure(nominal, finding, before.nodes, turned)
        facts["unproved"] += _changed(nominal, softmax, after)
        program.findings.append(finding)
        for reason in facts["unproved"]:
            program.tell("SPK121", finding.name, f"attention converted part by part: {reason}")


def _weighs(nominal: Nominal, softmax: Finding, after: Walk) -> bool:
    """Whether the product adds up over the axis along which the weights add up to one; where shapes are not
    known that is taken for granted."""
    shape = nominal.shape(softmax.result)
    if shape is None or not shape or math.prod(shape) > LARGEST_ARRAY:
        return True
    marks = np.broadcast_to(np.arange(1, shape[-1] + 1, dtype=np.float32), shape)
    weights = after.entries[0]
    axis = -1 if weights is after.products[0].sources[0] else -2
    seen = nominal.evaluate(weights, {id(softmax.result): marks})
    if seen is None or seen.ndim < 2:
        return True
    along = np.moveaxis(seen, axis, -1).reshape(-1, seen.shape[axis])
    told_apart = along.shape[1] < 2 or along.size == 0 or bool(np.ptp(along[0]))
    return told_apart and bool((along == along[:1]).all())


def _changed(nominal: Nominal, softmax: Finding, after: Walk) -> tuple[str, ...]:
    """What is wrong when the weights are more than moved and scaled on their way to the values."""
    ahead = {id(node) for node in after.nodes}
    way: dict[int, gs.Node] = {}
    stack = [after.entries[0]]
    while stack:
        node = graphs.producer(stack.pop())
        if node is not None and id(node) in ahead and id(node) not in way:
            way[id(node)] = node
            stack.extend(node.inputs)
    made = {id(softmax.result), *(id(o) for node in way.values() for o in node.outputs)}
    for node in way.values():
        if any(nominal.is_data(i) and id(i) not in made for i in node.inputs):
            return (f"weights: {node.op} {node.name!r} combines them with another value of the data",)
    shape = nominal.shape(softmax.result)
    if shape is None or math.prod(shape) > LARGEST_ARRAY:
        return ()
    drawn = np.random.default_rng(0).uniform(0.1, 1, shape).astype(np.float32)
    nothing, once, twice = (
        nominal.evaluate(after.entries[0], {id(softmax.result): np.float32(by) * drawn}) for by in (0, 1, 2)
    )
    if nothing is None or once is None or twice is None:
        return ("weights: what is done to them before the values cannot be evaluated",)
    if nothing.any() or not np.allclose(twice, 2 * once, rtol=1e-3):
        return ("weights: they are changed by more than a scale before the values",)
    return ()


def _weight(nominal: Nominal, finding: Finding) -> tuple[int, int]:
    """Of several products of scores, the one of content with content: neither side made of constants."""
    data = sum(nominal.is_data(s) for s in finding.sources)
    straight = all(user.op not in ("GatherElements", "Gather", "GatherND") for user in finding.result.outputs)
    return data, int(straight)


def _back(nominal: Nominal, softmax: Finding, products: dict[int, Finding]) -> Walk:
    walk, stack, seen = Walk(), [softmax.sources[0]], set()
    while stack:
        tensor = stack.pop()
        node = graphs.producer(tensor)
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        if id(node) in products:
            walk.products.append(products[id(node)])
        elif node.op not in THROUGH or len(walk.nodes) >= LARGEST:
            walk.others.append(node.name)
        else:
            walk.nodes.append(node)
            stack.extend(i for i in node.inputs if nominal.is_data(i))
    walk.products.sort(key=lambda f: nominal.position[id(f.nodes[0])])
    walk.others.sort()
    return walk


def _ahead(softmax: Finding, products: dict[int, Finding], outputs: dict[int, str]) -> Walk:
    walk, stack, seen = Walk(), [softmax.result], set()
    while stack:
        tensor = stack.pop()
        if id(tensor) in outputs:
            walk.others.append(f"output {outputs[id(tensor)]}")
        for node in tensor.outputs:
            if id(node) in seen:
                continue
            seen.add(id(node))
            if id(node) in products:
                walk.products.append(products[id(node)])
                walk.entries.append(tensor)
            elif node.op in ("Shape", "Size"):
                continue
            elif node.op not in THROUGH or len(walk.nodes) >= LARGEST:
                walk.others.append(node.name)
            else:
                walk.nodes.append(node)
                stack.extend(node.outputs)
    return walk


def _hidden(walk: Walk, scores: Finding, softmax: Finding, outputs: dict[int, str]) -> list[str]:
    """Readers of the scores, raw or masked, outside the way to the softmax: harmless, as every value on it
    stays in the graph, but worth naming."""
    inside = {id(node) for node in (*walk.nodes, *softmax.nodes)}
    tensors = [scores.result, *(o for node in walk.nodes for o in node.outputs)]
    found = [f"output {outputs[id(t)]}" for t in tensors if id(t) in outputs]
    for tensor in tensors:
        found += [n.name for n in tensor.outputs if id(n) not in inside and n.op not in ("Shape", "Size")]
    return found


def _not_attention(program: Program, softmax: Finding, before: Walk, multiplied: bool) -> None:
    """Says what a softmax is for when it weighs no values; a router's stays dense, with its router."""
    routers = {id(f.nodes[0]) for f in program.of("router")}
    stack, chosen = [softmax.sources[0]], False
    seen: set[int] = set()
    while stack and len(seen) < LARGEST:
        node = graphs.producer(stack.pop())
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        chosen |= id(node) in routers or node.op == "TopK"
        if node.op in THROUGH or node.op == "TopK":
            stack.extend(node.inputs)
    if chosen:
        softmax.kind = "router"
        text = "softmax of a router: kept dense, so that the same experts are chosen"
    elif before.products and multiplied:
        text = (
            "softmax is not part of an attention of two products: "
            "its weights are added up over another axis than the one along which they sum to one"
        )
    elif before.products:
        text = "softmax is not part of an attention of two products: its weights go into no product"
    else:
        text = "softmax is not part of an attention of two products (a router, or another use)"
    program.tell("SPK105", softmax.name, text)
