"""The findings by the tensors they touch, for walks between them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import onnx_graphsurgeon as gs

from ..ir import graph as graphs
from ..ir.program import Finding, Program

LOOK = 400
"""Nodes that a walk through the graph looks at before it gives up."""
MOVES_FIRST = {
    "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Split", "Expand", "Gather", "Flatten", "Tile",
    "Pad", "Identity", "Cast", "CumSum", "Trilu", "Clip",
}  # fmt: skip
"""Operators whose first input is the value; the others say how it is moved."""
SEEN_THROUGH = {"Cast", "Identity", "Dropout", "Reshape"}
NORMS = ("layernorm", "rmsnorm")
STOPS = {"linear", "head", "other_linear", "embedding", "residual"}


class Wiring:
    """The findings by the tensors and nodes they touch, for walks between them."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.by_result = {id(f.result): f for f in program.findings if f.kind != "attention"}
        self.owner = program.owner()
        self.residuals = {id(f.result) for f in program.of("residual")}
        self.joined = {id(value_of(s)) for f in program.of("residual") for s in f.sources}
        self.activations: dict[int, list[Finding]] = {}
        for f in program.of("activation"):
            self.activations.setdefault(f.block, []).append(f)

    def back(
        self, start: Iterable[gs.Tensor], stop: Callable[[Finding], bool]
    ) -> tuple[list[Finding], list[Finding]]:
        """(findings that stopped the walk, findings passed) from these tensors against the flow."""
        stopped: list[Finding] = []
        passed: list[Finding] = []
        seen: set[int] = set()
        stack = list(start)
        while stack and len(seen) < LOOK:
            tensor = stack.pop()
            finding = self.by_result.get(id(tensor))
            node = graphs.producer(tensor)
            if node is None or id(node) in seen:
                continue
            seen.add(id(node))
            if finding is not None and stop(finding):
                stopped.append(finding)
                continue
            if finding is not None:
                passed.append(finding)
                stack.extend(finding.sources[:1] if finding.kind == "rope" else finding.sources)
            else:
                stack.extend(operands(node))
        return stopped, passed

    def linears(self, tensors: Iterable[gs.Tensor]) -> tuple[list[Finding], list[Finding]]:
        """The linear layers that made these tensors, and what lies between."""
        return self.back(tensors, lambda f: f.kind in STOPS or f.facts["label"] in STOPS)

    def streams(self, tensors: Iterable[gs.Tensor]) -> set[int]:
        """The residual sums, tables and inputs of the model that these tensors are made from, by id."""
        found: set[int] = set()
        seen: set[int] = set()
        stack = list(tensors)
        while stack and len(seen) < LOOK:
            tensor = stack.pop()
            node, finding = graphs.producer(tensor), self.by_result.get(id(tensor))
            if node is None or (finding is not None and finding.kind in ("residual", "embedding")):
                if isinstance(tensor, gs.Variable) and tensor.name:
                    found.add(id(tensor))
            elif id(node) not in seen:
                seen.add(id(node))
                sources = finding.sources[:1] if finding is not None and finding.kind == "rope" else None
                stack.extend(operands(node) if sources is None else sources)
        return found

    def activations_of(self, block: int) -> list[Finding]:
        return self.activations.get(block, [])

    def unnormed(self, tensor: gs.Tensor) -> gs.Tensor:
        """What the norm read whose result this is; any other tensor itself."""
        tensor = value_of(tensor)
        norm = self.by_result.get(id(tensor))
        return value_of(norm.sources[0]) if norm is not None and norm.kind in NORMS else tensor


def operands(node: gs.Node) -> list[gs.Tensor]:
    """The inputs whose values a node's result holds; none of one that only counts them."""
    if node.op in ("Shape", "Size"):
        return []
    return list(node.inputs[:1] if node.op in MOVES_FIRST else node.inputs)


def value_of(tensor: gs.Tensor) -> gs.Tensor:
    """The value before casts and reshapes."""
    for _ in range(LOOK):
        node = graphs.producer(tensor)
        if node is None or node.op not in SEEN_THROUGH:
            break
        tensor = node.inputs[0]
    return tensor
