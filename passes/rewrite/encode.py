"""One encoder per site: however many layers read an activation, it is turned into spikes once."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from spikec.custom_ops.catalogue import OPS
from spikec.ir.program import Program

from ..calibrate.thresholds import Threshold


def train(program: Program, tensor: gs.Tensor) -> tuple[gs.Variable, Threshold]:
    """The spike train of `tensor`, added to the graph on first use, and its threshold."""
    trains: dict[str, gs.Variable] = program.settings.setdefault("trains", {})
    threshold = program.thresholds[tensor.name]
    if tensor.name not in trains:
        attributes = packed_attributes(threshold, program.settings["timesteps"])
        name = f"{tensor.name}/spikes"
        trains[tensor.name] = program.node(OPS["OATEncode"], [tensor], name, np.int32, **attributes)
    return trains[tensor.name], threshold


def packed_attributes(threshold: Threshold, bits: int) -> dict[str, float]:
    """OATEncode's attributes for a one-step train; `unroll` adjusts them to the execution."""
    ranges = {"scale": threshold.scale, "bits": bits, "ratio": threshold.ratio, "ranges": threshold.ranges}
    return ranges | {"steps": 1, "radix": 2**bits, "to": onnx.TensorProto.INT32}


def sample(
    program: Program, tensor: gs.Tensor, shape: tuple[int, ...], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(values like the site's, their code as a one-step train), for certificates."""
    x = program.statistics["sites"][tensor.name].draw(np.random.default_rng(seed), shape)
    attributes = packed_attributes(program.thresholds[tensor.name], program.settings["timesteps"])
    return x, OPS["OATEncode"].numpy(x, **attributes)


def worst_step(threshold: Threshold, x: np.ndarray, bits: int) -> np.ndarray:
    """Half a step of the range each value falls in: the encoder's error bound."""
    z = np.abs(x) / threshold.scale
    step = np.full(x.shape, threshold.scale)
    for weight in threshold.weights[1:]:
        step = np.where(z >= (2**bits - 0.5) * weight / threshold.ratio, weight * threshold.scale, step)
    return step / 2
