"""Einsum, any Gemm and a matrix on the left-hand side become MatMul with moves around
it, and softmax works along the last axis: a product has one spelling, and its weights one side."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from spikec.ir import graph as graphs
from spikec.ir.nominal import Nominal, trace_fitting
from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Program
from spikec.ir.weights import dtype_of

from .einsum import Plan, plan


@compiler_pass(after=["split_gemm"])
def spell_products(program: Program) -> None:
    spelled = 0
    ranks = Ranks(program)
    for node in [node for node in program.graph.nodes if node.op in SPELLED]:
        speller = Speller(program, node, ranks)
        if node.op == "Gemm":
            spelled += speller.gemm()
        elif node.op == "Einsum":
            spelled += speller.einsum()
        elif node.op == "Softmax":
            spelled += speller.softmax()
        elif _turned(node):
            spelled += speller.turn()
    if spelled:
        graphs.prune(program.graph)
        graphs.sort(program.graph)


Step = tuple[str, list[gs.Tensor], dict[str, object]]
"""An operator, its other inputs and its attributes."""
SPELLED = ("Gemm", "Einsum", "MatMul", "Softmax")
KEEPERS = ("MatMul", "Softmax")
"""Operators that bear the name and the decision of the node they stand for."""


def _turned(node: gs.Node) -> bool:
    """Whether a matrix of weights stands on the left of an activation."""
    left, right = node.inputs
    weighs = isinstance(left, gs.Constant) and len(left.shape) == 2 and left.shape[1] > 1
    return weighs and not isinstance(right, gs.Constant)


class Ranks:
    """How many dimensions a value has; where the file does not say, by tracing the graph once."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.nominal: Nominal | None = None

    def __call__(self, tensor: gs.Tensor) -> int | None:
        if tensor.shape is not None:
            return len(tensor.shape)
        if self.nominal is None:
            self.nominal = trace_fitting(self.program.graph)
        shape = self.nominal.shape(tensor)
        return None if shape is None else len(shape)


class Speller:
    """Writes the nodes that stand for one node: the product bears its name and decision, the others none."""

    def __init__(self, program: Program, node: gs.Node, ranks: Ranks) -> None:
        self.program, self.node, self.ranks, self.count = program, node, ranks, 0
        self.result: gs.Variable = node.outputs[0]
        self.split: dict[int, str] = program.settings.setdefault("split", {})

    def add(
        self, op: str, inputs: list[gs.Tensor], output: gs.Variable | None = None, **attrs: object
    ) -> gs.Variable:
        """One more node; the product keeps the name."""
        self.count += 1
        product = op in KEEPERS
        name = self.node.name if product else f"{self.node.name}/{op.lower()}{self.count}"
        if output is None:
            output = gs.Variable(f"{self.result.name}/{op.lower()}{self.count}", inputs[0].dtype)
        made = gs.Node(op, name, attrs=dict(attrs), inputs=inputs, outputs=[output])
        self.split[id(made)] = self.node.op if product else ""
        self.program.origin.setdefault(name, self.program.origin.get(self.node.name, self.node.name))
        self.program.graph.nodes.append(made)
        return output

    def finish(self, value: gs.Variable, steps: Sequence[Step]) -> int:
        """Applies the remaining steps, the last of which makes the node's own result."""
        self.node.outputs.clear()
        for index, (op, others, attrs) in enumerate(steps):
            value = self.add(op, [value, *others], self.result if index == len(steps) - 1 else None, **attrs)
        return 1

    def gemm(self) -> int:
        node = self.node
        a, b, *rest = node.inputs
        alpha, beta = float(node.attrs.get("alpha", 1.0)), float(node.attrs.get("beta", 1.0))
        a = self.transposed(a, [1, 0]) if node.attrs.get("transA", 0) else a
        b = self.transposed(b, [1, 0]) if node.attrs.get("transB", 0) else b
        steps: list[Step] = [("MatMul", [b], {})]
        if alpha != 1:
            steps.append(("Mul", [self.scalar(alpha, a)], {}))
        if rest and (isinstance(rest[0], gs.Constant) or rest[0].name) and beta != 0:
            steps.append(("Add", [self.scaled(rest[0], beta)], {}))
        return self.finish(a, steps)

    def scaled(self, tensor: gs.Tensor, factor: float) -> gs.Tensor:
        if factor == 1:
            return tensor
        if not isinstance(tensor, gs.Constant):
            return self.add("Mul", [tensor, self.scalar(factor, tensor)])
        kind = dtype_of(tensor)
        return self.program.derive(
            f"{tensor.name}/times_{factor!r}",
            [tensor],
            lambda b: (b * factor).astype(kind),
            tensor.shape,
            kind,
        )

    def scalar(self, value: float, like: gs.Tensor) -> gs.Constant:
        kind = np.dtype(np.float32) if like.dtype is None else np.dtype(like.dtype)
        return self.program.constant(f"spikec/{kind.name}_{value!r}", np.array(value, kind))

    def transposed(self, tensor: gs.Tensor, perm: list[int]) -> gs.Tensor:
        if perm == sorted(perm):
            return tensor
        if not isinstance(tensor, gs.Constant):
            return self.add("Transpose", [tensor], perm=perm)
        name = f"{tensor.name}/transposed" + ("" if len(perm) == 2 else "_" + "".join(map(str, perm)))
        shape = [tensor.shape[axis] for axis in perm]
        return self.program.derive(name, [tensor], lambda w: np.transpose(w, perm), shape, dtype_of(tensor))

    def turn(self) -> int:
        """W·x is (xᵀ·Wᵀ)ᵀ."""
        left, right = self.node.inputs
        rank = self.ranks(right)
        if rank is None or rank < 2:
            return 0
        perm = [*range(rank - 2), rank - 1, rank - 2]
        weight = self.transposed(left, [1, 0])
        return self.finish(
            self.transposed(right, perm), [("MatMul", [weight], {}), ("Transpose", [], {"perm": perm})]
        )

    def softmax(self) -> int:
        axis, rank = self.node.attrs.get("axis", -1), self.ranks(self.node.inputs[0])
        if axis == -1 or rank is None:
            return 0
        if axis % rank == rank - 1:
            self.node.attrs["axis"] = -1
            return 0
        perm = list(range(rank))
        perm[axis], perm[-1] = perm[-1], perm[axis]
        turned = self.transposed(self.node.inputs[0], perm)
        return self.finish(turned, [("Softmax", [], {"axis": -1}), ("Transpose", [], {"perm": perm})])

    def einsum(self) -> int:
        node = self.node
        if len(node.inputs) != 2:
            return 0
        ranks = [self.ranks(i) for i in node.inputs]
        constant = [isinstance(i, gs.Constant) for i in node.inputs]
        found = plan(str(node.attrs["equation"]), ranks, constant)
        if found is None:
            return 0
        left, right = (node.inputs[i] for i in found.order)
        if found.weight:
            assert isinstance(right, gs.Constant)
            return self.weighted(found, left, right)
        a = self.stretched(self.transposed(left, found.left_perm), found.left_new)
        b = self.stretched(self.transposed(right, found.right_perm), found.right_new)
        steps: list[Step] = [("MatMul", [b], {})]
        if found.drop:
            steps.append(("Squeeze", [self.integers(found.drop)], {}))
        if found.out_perm != sorted(found.out_perm):
            steps.append(("Transpose", [], {"perm": found.out_perm}))
        return self.finish(a, steps)

    def stretched(self, tensor: gs.Tensor, axes: list[int]) -> gs.Tensor:
        """The tensor with axes of one, where only the other operand has these indices."""
        if not axes:
            return tensor
        if isinstance(tensor, gs.Constant):
            shape = list(tensor.shape)
            for axis in axes:
                shape.insert(axis, 1)
            name = f"{tensor.name}/as_" + "x".join(map(str, shape))
            return self.program.derive(name, [tensor], lambda w: w.reshape(shape), shape, dtype_of(tensor))
        return self.add("Unsqueeze", [tensor, self.integers(axes)])

    def integers(self, values: Sequence[int]) -> gs.Constant:
        name = "spikec/ints_" + "_".join(map(str, values))
        return self.program.constant(name, np.array(values, np.int64))

    def weighted(self, found: Plan, left: gs.Tensor, right: gs.Constant) -> int:
        """An activation and weights without common indices but those added up: a plain linear layer."""
        shape = [right.shape[axis] for axis in found.right_perm]
        inner, outer = shape[: found.added], shape[found.added :]
        flat = (math.prod(inner), math.prod(outer))
        perm = found.right_perm
        weight = right
        if perm != sorted(perm) or len(shape) != 2:
            name = f"{right.name}/matrix_" + "".join(map(str, perm)) + f"_{flat[0]}x{flat[1]}"
            weight = self.program.derive(
                name, [right], lambda w: np.transpose(w, perm).reshape(flat), flat, dtype_of(right)
            )
        x = self.transposed(left, found.left_perm)
        lead = [0] * (len(found.left_perm) - found.added)
        if found.added > 1:
            x = self.add("Reshape", [x, self.integers([*lead, flat[0]])])
        steps: list[Step] = [("MatMul", [weight], {})]
        if len(outer) != 1:
            steps.append(("Reshape", [self.integers([*lead, *outer])], {}))
        if found.out_perm != sorted(found.out_perm):
            steps.append(("Transpose", [], {"perm": found.out_perm}))
        return self.finish(x, steps)
