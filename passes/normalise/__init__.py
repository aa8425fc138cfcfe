"""One plain vocabulary of operators, whatever exporter the graph came from."""

from . import constants, gemm, opset, take_constants, types, widen  # noqa: F401

NORMALISE = ("take_constants", "modernise", "widen", "fold_constants", "split_gemm", "infer_types")
"""The passes of this folder; their declared order decides."""
