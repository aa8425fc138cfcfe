"""Rotary position embedding: features turned in pairs by an angle that depends on the position alone.

Where an activation is multiplied by values that know only positions, the smallest region around is evaluated
on probes; it is a rotation when each pair, read as a complex number, is multiplied by the same number
whatever the activation. Linear in x, so it stays as it is, named.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from spikec.ir import graph as graphs
from spikec.ir import numeric, region
from spikec.ir.nominal import INPUT, Nominal
from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Finding, Program

MOVES = numeric.MOVES.keys() | {"Neg", "Cast", "Identity"}
JOINS = MOVES | {"Add", "Sub"}
DEPTH = 12
LARGEST = 1 << 21
TOLERANCE = 1e-4
SLIGHTEST = 1e-9
"""Sine of the least angle that a feature must turn by at some position."""
LAYOUTS = ("halves", "neighbours")


@compiler_pass(after=["split_gemm", "trace_values"])
def recognise_rope(program: Program) -> None:
    nominal: Nominal = program.settings["nominal"]
    claimed: set[int] = set()
    outputs = {id(o) for o in program.graph.outputs}
    for node in program.graph.nodes:
        if node.op not in ("Add", "Sub") or id(node) in claimed:
            continue
        if any(_product(nominal, i) is None for i in node.inputs):
            continue
        finding = _rotation(nominal, node, outputs)
        if finding is not None:
            claimed |= {id(inner) for inner in finding.nodes}
            program.findings.append(finding)


def _product(nominal: Nominal, tensor: gs.Tensor) -> gs.Node | None:
    """The Mul of an activation by values that are none, which this tensor is, signs and moves aside."""
    for _ in range(4):
        node = graphs.producer(tensor)
        if node is None:
            return None
        if node.op == "Mul" and len(node.inputs) == 2:
            turning = [i for i in node.inputs if not nominal.is_activation(i)]
            if len(turning) == 1 and math.prod(nominal.shape(turning[0]) or (2,)) > 1:
                return node
            return None
        if node.op not in ("Neg", "Cast", "Unsqueeze", "Reshape"):
            return None
        tensor = node.inputs[0]
    return None


def _rotation(nominal: Nominal, anchor: gs.Node, outputs: set[int]) -> Finding | None:
    """The smallest closed region around the sum that is a rotation."""
    for source in _sources(nominal, anchor):
        for result in _results(nominal, anchor):
            nodes = _between(nominal, source, result)
            if nodes is None or all(n is not anchor for n in nodes) or _leaks(nodes, result, outputs):
                continue
            if (facts := _facts(nominal, source, result)) is not None:
                angles = [i for n in nodes if n.op == "Mul" for i in n.inputs if not nominal.is_activation(i)]
                given = any(nominal.origin(i) & INPUT for i in angles)
                if not facts["keeps_norm"] and not given:
                    continue
                sides = {id(i): i for i in angles}
                sources = (source, *sides.values())
                return Finding("rope", sources, result, tuple(nodes), facts, float(facts["error"]))
    return None


def _leaks(nodes: list[gs.Node], result: gs.Tensor, outputs: set[int]) -> bool:
    """Whether an interior value is read elsewhere; its shape may be."""
    inside = {id(node) for node in nodes}
    for tensor in (o for node in nodes for o in node.outputs):
        if tensor is result:
            continue
        if id(tensor) in outputs:
            return True
        if any(id(user) not in inside and user.op not in ("Shape", "Size") for user in tensor.outputs):
            return True
    return False


def _sources(nominal: Nominal, anchor: gs.Node) -> Iterator[gs.Tensor]:
    """Values that both products come from by moves alone, nearest first."""
    reached: list[dict[int, gs.Tensor]] = []
    for tensor in anchor.inputs:
        product = _product(nominal, tensor)
        assert product is not None
        turned = next(i for i in product.inputs if nominal.is_activation(i))
        found: dict[int, gs.Tensor] = {}
        for above in region.ancestors(turned, DEPTH, MOVES | {"Mul"}):
            if nominal.is_activation(above):
                found[id(above)] = above
        reached.append(found)
    for key, tensor in reached[0].items():
        if key in reached[1]:
            yield tensor


def _results(nominal: Nominal, anchor: gs.Node) -> Iterator[gs.Tensor]:
    yield from region.descendants(anchor.outputs[0], 6, JOINS)


def _between(nominal: Nominal, source: gs.Tensor, result: gs.Tensor) -> list[gs.Node] | None:
    """The nodes that carry activations from the source to the result; None when others come in."""
    order: list[gs.Node] = []
    seen: set[int] = set()
    stack: list[tuple[gs.Tensor, bool]] = [(result, False)]
    while stack:
        tensor, done = stack.pop()
        if tensor is source or not nominal.is_activation(tensor):
            continue
        node = graphs.producer(tensor)
        if node is None or node.op not in JOINS | {"Mul"} or len(order) > 64:
            return None
        if done:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((tensor, True))
            stack.extend((i, False) for i in node.inputs)
    return order


def _facts(nominal: Nominal, source: gs.Tensor, result: gs.Tensor) -> dict[str, Any] | None:
    """Proof on two probes that the region rotates: which features, how they are paired, whether the norm is
    kept."""
    shape, out = nominal.shape(source), nominal.shape(result)
    if shape is None or out is None or math.prod(shape) != math.prod(out) or math.prod(shape) > LARGEST:
        return None
    rng = np.random.default_rng(0)
    probes = [rng.uniform(0.5, 2, shape) * rng.choice([-1.0, 1.0], shape) for _ in range(2)]
    turned = []
    for probe in probes:
        value = nominal.evaluate(result, {id(source): probe})
        if value is None:
            return None
        turned.append(value)
    width = shape[-1] * shape[-2] if shape[-1] == 2 and len(shape) > 1 else shape[-1]
    before = [p.reshape(-1, width) for p in probes]
    after = [_rows(t, width, shape) for t in turned]
    if any(a is None or a.shape != b.shape for a, b in zip(after, before, strict=True)):
        return None
    return _turn(before, after, width)  # type: ignore[arg-type]


def _rows(turned: np.ndarray, width: int, shape: tuple[int, ...]) -> np.ndarray | None:
    """One row of features per position, like the source's."""
    size = turned.shape[-1]
    if size == 2 and turned.ndim > 1 and width != 2:
        size *= turned.shape[-2]
    return turned.reshape(-1, width) if size == width else None


def _turn(before: list[np.ndarray], after: list[np.ndarray], width: int) -> dict[str, Any] | None:
    moved = np.flatnonzero(np.any([a != b for a, b in zip(after, before, strict=True)], axis=(0, 1)))
    if moved.size == 0:
        return None
    for low, high in _spans(moved, width):
        for layout_in in LAYOUTS:
            for layout_out in LAYOUTS:
                z = [_pairs(b[:, low:high], layout_in) for b in before]
                w = [_pairs(a[:, low:high], layout_out) for a in after]
                first, second = w[0] / z[0], w[1] / z[1]
                error = float(np.abs(first - second).max())
                if not np.isfinite(error) or error > TOLERANCE * max(1.0, float(np.abs(first).max())):
                    continue
                if not np.abs(first.imag).max(0)[np.abs(first - 1).max(0) > 0].min(initial=1) > SLIGHTEST:
                    continue  # scaled, not turned
                length = np.abs(first)
                return {
                    "label": "rope",
                    "features": (low, high, width),
                    "pairs": layout_in if layout_in == layout_out else f"{layout_in} to {layout_out}",
                    "keeps_norm": bool(np.ptp(length) <= 1e-3 * float(length.max())),
                    "error": error,
                }
    return None


def _spans(moved: np.ndarray, width: int) -> Iterator[tuple[int, int]]:
    """Even ranges of features that hold all those that move: the tightest, then from either end, then all."""
    low, high = int(moved[0]), int(moved[-1]) + 1
    seen = set()
    for span in ((low - low % 2, high + high % 2), (0, high + high % 2), (low - low % 2, width), (0, width)):
        if span not in seen and span[1] <= width and (span[1] - span[0]) % 2 == 0:
            seen.add(span)
            yield span


def _pairs(x: np.ndarray, layout: str) -> np.ndarray:
    """Features as complex numbers: the first half with the second, or each even one with the next."""
    if layout == "halves":
        half = x.shape[1] // 2
        return x[:, :half] + 1j * x[:, half:]
    return x[:, 0::2] + 1j * x[:, 1::2]
