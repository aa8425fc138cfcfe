"""Recognisers add findings and never edit the graph; each proves what it claims on probe inputs."""

from . import activation, attention, block, linear, norm, rope, softmax  # noqa: F401
