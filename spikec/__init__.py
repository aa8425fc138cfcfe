"""spikec: a compiler from an LLM exported to ONNX to a spiking LLM in ONNX."""

from pathlib import Path

__version__ = "0.1.0"

_checkout = Path(__file__).resolve().parent.parent
if (_checkout / "passes").is_dir() and (_checkout / "pyproject.toml").is_file():
    __path__.append(str(_checkout))
