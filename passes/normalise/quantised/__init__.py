"""Quantised models: integer weights become the real numbers they stand for, integer products real ones."""

from . import blockwise, dynamic, linear, real  # noqa: F401
