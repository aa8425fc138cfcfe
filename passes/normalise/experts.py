"""A product with a stack of matrices, one for each expert, becomes as many products with one matrix each."""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx_graphsurgeon as gs

from spikec.ir import graph as graphs
from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Program
from spikec.ir.weights import dtype_of

from .types import Types

MOST = 256
"""Experts of one stack that are spread out."""


@compiler_pass(after=["spell_products"])
def spread_experts(program: Program) -> None:
    stacks = [node for node in program.graph.nodes if node.op == "MatMul" and _stack(node.inputs[1])]
    if not stacks:
        return
    types = Types(program.graph)
    for node in stacks:
        # not at the nominal input: a batch that happens to have this size there may have another one
        shape = types.shape(node.inputs[0])
        experts = node.inputs[1].shape[0]
        if shape is not None and len(shape) > 2 and shape[-3] in (1, experts):
            _spread(program, node, len(shape) - 3, shape[-3] == experts)
    graphs.prune(program.graph)
    graphs.sort(program.graph)


def _stack(tensor: gs.Tensor) -> bool:
    if not isinstance(tensor, gs.Constant) or len(tensor.shape) != 3:
        return False
    return bool(1 < tensor.shape[0] <= MOST)


def _spread(program: Program, node: gs.Node, axis: int, apart: bool) -> None:
    """Each expert's matrix with its own part of the activation, or all with the same; put together again."""
    source, stack = node.inputs
    experts, *shape = stack.shape
    result = node.outputs[0]
    split: dict[int, str] = program.settings.setdefault("split", {})
    origin = program.origin.get(node.name, node.name)
    node.outputs.clear()

    def add(
        op: str, name: str, inputs: list[gs.Tensor], outputs: list[gs.Variable], told: str, **attrs: object
    ) -> None:
        made = gs.Node(op, name, attrs=dict(attrs), inputs=inputs, outputs=outputs)
        split[id(made)] = told
        program.origin.setdefault(name, origin)
        program.graph.nodes.append(made)

    parts: list[gs.Tensor] = [source] * experts
    if apart:
        pieces = [gs.Variable(f"{result.name}/part{e}", source.dtype) for e in range(experts)]
        sizes = program.constant(f"spikec/ones_{experts}", np.ones(experts, np.int64))
        add("Split", f"{node.name}/split", [source, sizes], pieces, "", axis=axis)
        parts = list(pieces)
    products = []
    for e, part in enumerate(parts):
        weight = program.derive(f"{stack.name}/expert{e}", [stack], partial(_one, e), shape, dtype_of(stack))
        products.append(gs.Variable(f"{result.name}/expert{e}", result.dtype))
        add(
            "MatMul",
            node.name if e == 0 else f"{node.name}/expert{e}",
            [part, weight],
            products[-1:],
            "MatMul",
        )
    add("Concat", f"{node.name}/concat", list(products), [result], "", axis=axis)


def _one(expert: int, stack: np.ndarray) -> np.ndarray:
    return stack[expert]
