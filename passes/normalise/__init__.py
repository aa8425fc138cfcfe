"""One plain vocabulary of operators, whatever exporter the graph came from."""

from . import constants, gemm, opset, take_constants, types  # noqa: F401

NORMALISE = ("take_constants", "modernise", "fold_constants", "split_gemm", "infer_types")
"""The passes of this folder; their declared order decides."""
