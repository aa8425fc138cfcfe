"""Where the native library is, when it was built."""

from __future__ import annotations

from pathlib import Path

from . import __path__ as folders


def library_path() -> Path | None:
    """The path to give to `register_custom_ops_library`; None where only the ONNX bodies can run."""
    # Not beside __file__: in an editable install this file is in the checkout and the library is not.
    candidates = (Path(folder) / "libspikec_ops.so" for folder in folders)
    return next((path for path in candidates if path.is_file()), None)
