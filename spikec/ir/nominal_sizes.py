"""How large the free dimensions of a model's inputs are taken to be when it is looked at without data."""

from __future__ import annotations

import ast
import operator

import numpy as np
import onnx_graphsurgeon as gs

LENGTH, PAST = 128, 16
"""Tokens of a sequence, and those cached before it."""
SYMBOLIC = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv,
}  # fmt: skip


class Sizes:
    """A batch of one, `LENGTH` tokens, `PAST` cached ones, unless `chosen` says otherwise. A symbol means the
    same everywhere, and sums of symbols are added up."""

    def __init__(self, graph: gs.Graph, chosen: dict[str, int]) -> None:
        self.chosen = chosen
        self.length = chosen.get("", LENGTH)
        self.symbols: dict[str, int] = {}
        inputs = [t for t in graph.inputs if isinstance(t, gs.Variable)]
        self.cached = any(_is_cache(t) for t in inputs)
        # a mask is as long as cache and tokens together: other inputs give the symbols their sizes first
        for tensor in sorted(inputs, key=lambda t: "mask" in t.name):
            for axis in range(len(tensor.shape or ())):
                self.size(tensor, axis)

    def shape(self, tensor: gs.Variable) -> tuple[int, ...]:
        return tuple(self.size(tensor, axis) for axis in range(len(tensor.shape or ())))

    def size(self, tensor: gs.Variable, axis: int) -> int:
        dim = tensor.shape[axis]
        if isinstance(dim, int) and dim > 0:
            return dim
        symbol = dim if isinstance(dim, str) and dim else f"{tensor.name} {axis}"
        known = _evaluate(symbol, self.symbols)
        if known is None:
            known = self.symbols[symbol] = self.chosen.get(symbol, self._usual(tensor, axis))
        return known

    def _usual(self, tensor: gs.Variable, axis: int) -> int:
        if axis == 0:
            return 1
        if _is_cache(tensor):
            return PAST
        if "mask" in tensor.name and axis == len(tensor.shape) - 1:
            return self.length + (PAST if self.cached else 0)
        return self.length if axis == 1 else 1


def _is_cache(tensor: gs.Variable) -> bool:
    real = tensor.dtype is None or np.dtype(tensor.dtype).kind in "fV"
    return real and len(tensor.shape or ()) in (4, 5) and "past" in tensor.name.lower()


def _evaluate(text: str, symbols: dict[str, int]) -> int | None:
    """The size that a symbol, or an expression of symbols such as "past + sequence", stands for."""
    if text in symbols:
        return symbols[text]
    try:
        tree: ast.expr = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError):
        return None

    def value(node: ast.expr) -> int | None:
        if isinstance(node, ast.Constant) and isinstance(node.value, int):
            return node.value
        if isinstance(node, ast.Name):
            return symbols.get(node.id)
        if isinstance(node, ast.BinOp) and type(node.op) in SYMBOLIC:
            left, right = value(node.left), value(node.right)
            return None if left is None or right is None else int(SYMBOLIC[type(node.op)](left, right))
        return None

    found = value(tree)
    return found if found is not None and found > 0 else None
