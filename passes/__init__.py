"""Compiler passes, one idea per file; importing this package registers them all in
`spikec.ir.pipeline.PASSES`."""

from . import calibrate, check, classify, describe, inside, normalise, recognise, rewrite, shapes, unroll  # noqa: F401
