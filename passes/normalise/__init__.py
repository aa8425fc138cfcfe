"""One plain vocabulary of operators, whatever exporter the graph came from."""

from . import constants, gemm  # noqa: F401
