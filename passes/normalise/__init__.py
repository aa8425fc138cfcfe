"""One plain vocabulary of operators, whatever exporter the graph came from."""

from . import constants, gemm  # noqa: F401

NORMALISE = ("fold_constants", "split_gemm")
"""The passes of this folder; their declared order decides."""
