"""What a stepped neuron answers to the running values of its input: its own running values, step by step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spikec.custom_ops.catalogue import OPS

from .neuron import Neuron


def at(running: Sequence[np.ndarray], step: int) -> np.ndarray:
    """The running value in a step, from 0; one that never changes stands alone."""
    return running[step] if len(running) > 1 else running[0]


def respond(
    neuron: Neuron, running: Sequence[np.ndarray], timesteps: int
) -> tuple[list[np.ndarray], np.ndarray]:
    """(decoded running values, float32 `[...]` each, one a step or a single one that never changes; the last
    code `[...]`) for the running values of the site, alike, by the catalogue's definitions."""
    rule, scale = neuron.step, _worth(neuron)
    assert rule is not None
    if rule.op == "DeltaStep":  # whatever came before, its code is that of the running value
        codes = [_packed(neuron, x) for x in running]
        return [(code * scale).astype(np.float32) for code in codes], codes[-1]
    op, given = OPS[rule.op], neuron.constants | rule.constants
    code, decoded = np.zeros((), np.int64), []
    for step in range(timesteps):
        x = at(running, step)
        wires = given | {"X": x, "code": code, "t": np.array(step + 1, np.int64)}
        if "Q" in op.inputs:
            wires["Q"] = _packed(neuron, x)[None]
        spikes = op.numpy(*(wires[name] for name in op.inputs)).astype(np.int64)
        code = code + spikes * (rule.weights[step] if rule.weights else 1) + rule.offset
        worth = rule.worth[step] if rule.worth else 1.0
        decoded.append((code[0] * (scale * worth)).astype(np.float32))
    return decoded, code[0]


def quantised(neuron: Neuron, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(decoded, code) of the quantiser that the neuron is under a constant input."""
    code = _packed(neuron, x)
    return (code * _worth(neuron)).astype(np.float32), code


def _packed(neuron: Neuron, x: np.ndarray) -> np.ndarray:
    code: np.ndarray = OPS[neuron.op].numpy(x, *neuron.constants.values(), **neuron.attributes)[0]
    return code.astype(np.int64)


def _worth(neuron: Neuron) -> np.ndarray:
    """What code 1 is worth after the last step, float64."""
    return np.float64(neuron.scale) * np.asarray(
        1.0 if neuron.channels is None else neuron.channels, np.float64
    )
