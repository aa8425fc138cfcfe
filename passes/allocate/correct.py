"""Least squares: the weights that read spikes are made to give what the ANN's weights give from its values.

For the linear layer y = x·W, whose spikes decode to x̂ in the converted network (everything before it already
converted and corrected), W and a bias b become

    argmin Σ_tokens ω·‖x̂·W' + b - (x·W + e)‖² + ridge·‖diag(C)^½ (W' - W)‖²,      C = Σ ω·x̂ᵀx̂ (centred)

with ω = `row_weights`, x the ANN's own values, and e, where y is added to a residual stream, what the stream
has lost so far (ANN minus converted). Spiking noise outside the space that activations live in is filtered
out, and errors of earlier blocks are taken back; it costs no event. The weights are an asymmetric, sequential
form of the calibration of GPTQ-like methods (Frantar et al. 2023); Wiener filter where x̂ is x plus noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from spikec.ir import graph as graphs
from spikec.ir.inputs import Feed
from spikec.ir.program import Finding, Program
from spikec.ir.stream import Stream
from spikec.ir.weights import array

from . import surrogate
from .statistics import row_weights
from .surrogate import Setting

RIDGE = 0.01


@dataclass(frozen=True)
class Correction:
    """New weights `[fan_in, fan_out]` and a bias `[fan_out]` of one linear layer."""

    weight: np.ndarray
    bias: np.ndarray


def correct(
    program: Program,
    ann: Path,
    feeds: list[Feed],
    settings: dict[str, Setting],
    digits: int,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, Correction], onnx.ModelProto]:
    """A Correction of every linear layer by the name of its result, and the surrogate with them in place."""
    layers: dict[str, list[Finding]] = {}
    for finding in program.of("linear"):
        layers.setdefault(finding.sources[0].name, []).append(finding)
    streams = _residual_streams(program)
    original = Stream(ann, str(program.source))
    model = surrogate.build(Stream(ann, str(program.source)).model, program, digits)
    converted = Stream(model, str(program.source), surrogate.session_options)
    kept = [name for name in dict.fromkeys(streams.values()) if name in original.values]
    fixed = surrogate.settings_feed(program.statistics["roles"], settings)
    left = original.stages(feeds, [*layers, *kept], list(layers))
    decoded = [f"{site}/decoded" for site in layers]
    right = converted.stages([feed | fixed for feed in feeds], [*decoded, *kept], decoded)
    seen: dict[str, list[np.ndarray]] = {}
    found: dict[str, list[np.ndarray]] = {}
    corrections: dict[str, Correction] = {}
    for stage in right:
        found |= stage
        for name in [name for name in stage if name.endswith("/decoded") and name in decoded]:
            site = name.removesuffix("/decoded")
            while site not in seen:
                seen |= next(left)
            x, spikes = _rows(seen.pop(site)), _rows(found.pop(name))
            for finding in layers[site]:
                stream = streams.get(finding.name, "")
                lost = (
                    _rows(seen[stream]) - _rows(found[stream])
                    if {stream} <= seen.keys() & found.keys()
                    else None
                )
                made = _solve(x, spikes, array(finding.facts["weight"]), lost)
                corrections[finding.name] = made
                surrogate.corrected(converted.tensors, finding.name, made.weight, made.bias)
            if progress:
                progress(len(corrections), len(program.of("linear")))
    return corrections, model


def _rows(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([part.reshape(-1, part.shape[-1]) for part in parts])


def _residual_streams(program: Program) -> dict[str, str]:
    """The other addend of the residual sum that a linear layer's result goes to, a bias aside."""
    linear = {finding.result.name for finding in program.of("linear")}
    streams = {}
    for finding in program.of("residual"):
        for branch, other in (finding.sources, finding.sources[::-1]):
            maker = graphs.producer(branch)
            while maker is not None and maker.op == "Add" and maker.outputs[0].name not in linear:
                variables = [t for t in maker.inputs if graphs.producer(t) is not None]
                if len(variables) != 1:
                    break
                maker = graphs.producer(variables[0])
            if maker is not None and maker.outputs[0].name in linear:
                streams[maker.outputs[0].name] = other.name
    return streams


def _solve(x: np.ndarray, spikes: np.ndarray, weight: np.ndarray, lost: np.ndarray | None) -> Correction:
    weight = np.asarray(weight, np.float32)
    rows = row_weights(np.einsum("tc,tc->t", x, x, dtype=np.float64))
    if lost is not None:
        rows = rows * row_weights(np.einsum("tc,tc->t", lost, lost, dtype=np.float64) + 1e-9)
    share = (rows / rows.sum()).astype(np.float32)[:, None]
    gap = x - spikes
    mean, mean_gap = (spikes * share).sum(0), (gap * share).sum(0)
    centred = spikes - mean
    weighted = centred * share
    second = (weighted.T @ centred).astype(np.float64)
    wanted = (weighted.T @ gap) @ weight
    target = mean_gap @ weight
    if lost is not None:
        wanted += weighted.T @ lost
        target = target + (lost * share).sum(0)
    diagonal = second.diagonal().copy()
    second[np.diag_indices_from(second)] += RIDGE * diagonal + 1e-6 * max(float(diagonal.mean()), 1e-30)
    change = np.linalg.solve(second, wanted.astype(np.float64)).astype(np.float32)
    return Correction(weight + change, (target - mean @ change).astype(np.float32))
