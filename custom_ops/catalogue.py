"""Every spiking op, once. Compiler, runtime, documentation and tests all read this table."""

from __future__ import annotations

from . import decode, function, layer_norm, linear, matmul, multiply, oat_encode, rms_norm, softmax
from .spec import SpikingOp

OPS: dict[str, SpikingOp] = {
    module.OP.name: module.OP
    for module in (oat_encode, decode, linear, matmul, multiply, function, softmax, rms_norm, layer_norm)
}
