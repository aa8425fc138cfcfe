"""Whether this ONNX Runtime takes the native custom-op library, and what it runs on."""

from __future__ import annotations

import ctypes
from functools import cache

import onnxruntime as ort

from spikec.custom_ops.native import library_path as path


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
