"""Finds the native custom-op library and tells whether this ONNX Runtime takes it."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import onnxruntime as ort

import spikec.custom_ops

NAME = "libspikec_ops.so"


def path() -> Path | None:
    """The built library, wherever the install put it (an editable one keeps it apart from the sources)."""
    for folder in spikec.custom_ops.__path__:
        candidate = Path(folder) / NAME
        if candidate.is_file():
            return candidate
    return None


@cache
def problem() -> str:
    """Why the library cannot be used here, or "" when it can."""
    library = path()
    if library is None:
        return "not built: there was no C++ compiler when spikec was installed"
    options = ort.SessionOptions()
    try:
        options.register_custom_ops_library(str(library))
    except Exception as error:
        return str(error).splitlines()[0]
    return ""


def isa() -> str:
    """The instruction set its kernels run on here; SPIKEC_ISA overrides it."""
    library = path()
    if library is None:
        return "none"
    handle = ctypes.CDLL(str(library))
    handle.spikec_isa.restype = ctypes.c_char_p
    return str(handle.spikec_isa().decode())
