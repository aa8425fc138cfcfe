"""One plain vocabulary of operators, whatever exporter the graph came from."""

from . import branches, constants, fused, gemm, opset, products, quantised, take_constants, types, widen  # noqa: F401

NORMALISE = (
    "take_constants", "modernise", "widen", "dequantise", "write_out", "take_apart", "fold_constants",
    "split_gemm", "spell_products", "infer_types",
)  # fmt: skip
"""The passes of this folder; their declared order decides."""
