"""One plain vocabulary of operators, whatever exporter the graph came from."""

from . import (  # noqa: F401
    branches,
    constants,
    experts,
    fused,
    gemm,
    opset,
    pointwise,
    products,
    quantised,
    take_constants,
    types,
    widen,
)

NORMALISE = (
    "take_constants", "modernise", "widen", "dequantise", "write_out", "take_apart",
    "spell_convolutions", "fold_constants", "split_gemm", "spell_products", "spread_experts",
    "infer_types",
)  # fmt: skip
"""The passes of this folder; their declared order decides."""
