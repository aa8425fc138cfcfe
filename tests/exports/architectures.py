"""Every architecture of the matrix by name."""

from __future__ import annotations

from exports import decoders, encoders, experts, layers, more, seq2seq, vision
from exports.case import Build

ARCHITECTURES: dict[str, Build] = {
    name: build
    for family in (decoders, encoders, seq2seq, vision, layers, experts, more)
    for name, build in family.ARCHITECTURES.items()
}
