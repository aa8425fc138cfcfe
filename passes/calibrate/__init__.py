"""Calibration: what activations look like at every site, and which thresholds follow."""

from . import layerwise, observe, thresholds  # noqa: F401
