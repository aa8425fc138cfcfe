"""Every spiking op, once. Compiler, runtime, documentation and tests all read this table."""

from __future__ import annotations

from . import (
    burst_encode,
    decode,
    delta_step,
    few_spikes_encode,
    function,
    gif_encode,
    if_encode,
    if_step,
    int2spike,
    is_encode,
    is_step,
    layer_norm,
    lif_encode,
    linear,
    matmul,
    multi_threshold_step,
    multiply,
    oat_encode,
    rms_norm,
    self_attention,
    sign_split_encode,
    softmax,
    stbif_step,
    step_linear,
    step_matmul,
)
from .spec import SpikingOp

MODULES = (
    oat_encode,
    sign_split_encode,
    few_spikes_encode,
    gif_encode,
    int2spike,
    is_encode,
    burst_encode,
    decode,
    linear,
    matmul,
    multiply,
    function,
    softmax,
    rms_norm,
    layer_norm,
    lif_encode,
    self_attention,
    if_encode,
    # once a timestep, inside the loop of a streaming model
    delta_step,
    stbif_step,
    if_step,
    is_step,
    multi_threshold_step,
    step_linear,
    step_matmul,
)
OPS: dict[str, SpikingOp] = {module.OP.name: module.OP for module in MODULES}
