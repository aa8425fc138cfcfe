"""Compiler passes, one idea per file; importing this package registers them all in
`spikec.ir.pipeline.PASSES`."""
# ruff: noqa: F401

from . import (
    calibrate,
    check,
    classify,
    describe,
    inside,
    normalise,
    recognise,
    rewrite,
    shapes,
    stream,
    unroll,
)
