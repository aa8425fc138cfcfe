"""The compiler's own data: graph, weights, Program, region evaluation, pipeline, diagnostics."""
