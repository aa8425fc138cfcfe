"""Fused products of matrices: transposes, scale and activation beside a plain MatMul or Gemm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx_graphsurgeon as gs

from .parts import Kept, Parts, Results


def fused_matmul(parts: Parts) -> Results:
    sides = [
        _turned(
            parts, parts.need(i), bool(parts.attr(f"trans{s}", 0)), bool(parts.attr(f"transBatch{s}", 0)), s
        )
        for i, s in enumerate("AB")
    ]
    product = parts.add("MatMul", *sides, part="product")
    alpha = float(parts.attr("alpha", 1.0))
    if alpha != 1:
        product = parts.add("Mul", product, parts.like(alpha, product), part="scaled")
    return [activated(parts, product)]


def _turned(parts: Parts, x: gs.Tensor, last: bool, batch: bool, side: str) -> gs.Tensor:
    """Transposes as asked: `batch` puts the first axis before the last one, `last` swaps the last two."""
    if not last and not batch:
        return x
    rank = parts.rank(x, f"input {side}")
    if rank < 2:
        return x
    order = [*range(1, rank - 1), 0, rank - 1] if batch else list(range(rank))
    if last:
        order[-2:] = order[:-3:-1]
    return parts.add("Transpose", x, part=f"{side.lower()}_turned", perm=order)


def fused_gemm(parts: Parts) -> Results:
    inputs = [parts.need(0), parts.need(1)] + ([parts.need(2)] if parts.given(2) is not None else [])
    keep = {key: value for key, value in parts.node.attrs.items() if not key.startswith("activation")}
    keep.pop("leaky_relu_alpha", None)
    return [activated(parts, parts.add("Gemm", *inputs, part="product", **keep))]


def fused_conv(parts: Parts) -> Results:
    """A convolution, what is added to it (input 3), and an activation."""
    inputs = [parts.need(0), parts.need(1)] + ([parts.need(2)] if parts.given(2) is not None else [])
    keep = {key: value for key, value in parts.node.attrs.items() if not key.startswith("activation")}
    made = parts.add("Conv", *inputs, part="product", **keep)
    if parts.given(3) is not None:
        made = parts.add("Add", made, parts.need(3), part="sum")
    return [activated(parts, made)]


def activated(parts: Parts, x: gs.Tensor) -> gs.Tensor:
    kind = parts.attr("activation", "")
    kind = kind.decode() if isinstance(kind, bytes) else kind
    if not kind:
        return x
    if kind not in ATTRIBUTES:
        raise Kept("SPK402", f"its activation {kind} is not known")
    listed = parts.attr("activation_params", [])
    numbers: dict[str, Any] = {
        name: float(listed[index] if index < len(listed) else parts.attr(source))
        for index, (name, source) in enumerate(ATTRIBUTES[kind].items())
        if index < len(listed) or parts.attr(source) is not None
    }
    if kind == "Clip":
        bounds = [parts.like(numbers[name], x) for name in ("min", "max")]
        return parts.add("Clip", x, *bounds, part="clip")
    return parts.add(kind, x, part=kind.lower(), **numbers)


ATTRIBUTES: dict[str, dict[str, str]] = {
    "Relu": {},
    "Tanh": {},
    "Sigmoid": {},
    "Softplus": {},
    "Softsign": {},
    "LeakyRelu": {"alpha": "activation_alpha"},
    "Elu": {"alpha": "activation_alpha"},
    "Clip": {"min": "activation_alpha", "max": "activation_beta"},
    "HardSigmoid": {"alpha": "activation_alpha", "beta": "activation_beta"},
}
"""Activations that ONNX Runtime fuses, and where their own attributes stand."""

FORMS: dict[tuple[str, str], Callable[[Parts], Results]] = {
    ("com.microsoft", "FusedMatMul"): fused_matmul,
    ("com.microsoft", "TransposeMatMul"): fused_matmul,
    ("com.microsoft", "FusedMatMulActivation"): fused_matmul,
    ("com.microsoft", "FusedGemm"): fused_gemm,
    ("com.microsoft", "FusedConv"): fused_conv,
}
