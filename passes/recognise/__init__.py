"""Recognisers add findings and never edit the graph; each proves what it claims on probe inputs."""

from . import activation, attention, block, linear, norm, rope, softmax  # noqa: F401

RECOGNISE = (
    "trace_values", "recognise_activations", "recognise_norms", "recognise_softmax", "recognise_products",
    "recognise_attention", "recognise_rope", "recognise_blocks",
)  # fmt: skip
"""The passes of this folder; their declared order decides."""
