"""Thresholds and initial membranes of one site that bring what it decodes to the original activation: all
candidates at once, first the whole site, then every channel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spikec.custom_ops.catalogue import OPS

from .integrate import with_thresholds
from .neuron import Neuron
from .respond import at

COARSE = np.array([1.0, 0.62, 0.7, 0.78, 0.86, 0.93, 1.08, 1.17, 1.28, 1.4])
FINE = np.array([1.0, 0.7, 0.8, 0.88, 0.94, 1.06, 1.14, 1.25, 1.4])
MEMBRANES = np.array([0.5, 0.2, 0.3, 0.4, 0.45, 0.55, 0.6, 0.7, 0.8])
"""θ as factors of what it was, and v₀ in θ; on a tie the first wins."""
AT_ONCE = 1 << 22
"""Values that one evaluation holds, of all candidates."""


def alignment(
    neuron: Neuron,
    theta: np.ndarray,
    v0: np.ndarray,
    running: Sequence[np.ndarray],
    target: np.ndarray,
    timesteps: int,
) -> np.ndarray:
    """‖Σ_t ŷ_t - y‖² `[K, C]` of each channel, for candidates θ and v₀ (float32 `[K, C]` or `[K, 1]`),
    running values `[N, C]` a step and the original activation y `[N, C]`."""
    many = max(1, AT_ONCE // max(target.size, 1))
    parts = [
        _alignment(neuron, theta[start : start + many], v0[start : start + many], running, target, timesteps)
        for start in range(0, len(theta), many)
    ]
    return np.concatenate(parts)


def _alignment(
    neuron: Neuron,
    theta: np.ndarray,
    v0: np.ndarray,
    running: Sequence[np.ndarray],
    target: np.ndarray,
    timesteps: int,
) -> np.ndarray:
    rule = neuron.step
    assert rule is not None
    op = OPS[rule.op]
    given = neuron.constants | rule.constants | {"theta": theta[:, None], "v0": v0[:, None]}
    code: np.ndarray = np.zeros((), np.int32)
    for step in range(timesteps):
        wires = given | {"X": at(running, step), "code": code, "t": np.array(step + 1, np.int64)}
        code = code + op.numpy(*(wires[name] for name in op.inputs)) + np.int32(rule.offset)
    worth = theta[:, None] / neuron.constants["rate"]
    return np.asarray(((code[0] * worth - target) ** 2).sum(1, dtype=np.float64))


def tune(
    neuron: Neuron,
    running: Sequence[np.ndarray],
    target: np.ndarray,
    importance: np.ndarray | None,
    timesteps: int,
) -> tuple[Neuron, Neuron]:
    """(coarse, fine): one factor of the thresholds of the whole site, of least error weighted by the
    channels' importance `[C]`; then, from there, a factor and after it an initial membrane, for every channel
    where the neuron has one a channel, else for the site."""
    theta, v0 = (np.atleast_1d(neuron.constants[name])[None] for name in ("theta", "v0"))
    weight = np.ones(target.shape[-1]) if importance is None else importance

    def best(thetas: np.ndarray, starts: np.ndarray, columns: int) -> np.ndarray:
        """The number of the best candidate, of each channel where there are `columns` of them."""
        thetas, starts = (np.ascontiguousarray(part, np.float32) for part in (thetas, starts))
        error = alignment(neuron, thetas, starts, running, target, timesteps)
        return np.asarray((error if columns > 1 else (error @ weight)[:, None]).argmin(0))

    def repeated(row: np.ndarray, times: np.ndarray) -> np.ndarray:
        return np.repeat(row, len(times), 0)

    pick = best(theta * COARSE[:, None], repeated(v0, COARSE), 1)
    theta = (theta * COARSE[pick]).astype(np.float32)
    coarse = _shaped(neuron, theta, v0)
    pick = best(theta * FINE[:, None], repeated(v0, FINE), theta.shape[1])
    theta = (theta * FINE[pick]).astype(np.float32)
    starts = np.repeat(MEMBRANES[:, None], v0.shape[1], 1)
    pick = best(repeated(theta, MEMBRANES), starts, v0.shape[1])
    return coarse, _shaped(neuron, theta, MEMBRANES[pick][None])


def _shaped(neuron: Neuron, theta: np.ndarray, v0: np.ndarray) -> Neuron:
    shapes = (neuron.constants[name].shape for name in ("theta", "v0"))
    theta, v0 = (
        part.reshape(shape).astype(np.float32) for part, shape in zip((theta, v0), shapes, strict=True)
    )
    return with_thresholds(neuron, theta, v0)
