"""Findings become spiking operators, each with a certificate of what was compared and how close it came."""

from . import activation, norm, products, softmax, ssa  # noqa: F401
