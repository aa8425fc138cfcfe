"""Runs the original model on calibration inputs and gathers statistics at every site where spikes will be
made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs

from spikec.ir import graph as graphs
from spikec.ir.inputs import Feed
from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Program
from spikec.ir.session import reference_session, with_outputs
from spikec.ir.weights import array

from .statistics import SiteStatistics

SITES_PER_RUN = 256
"""Sites fetched in one run of the model: bounds memory at the price of running it again."""


@compiler_pass(after=["classify"])
def observe(
    program: Program, *, model: Path, feeds: list[Feed], progress: Callable[[int, int], None] | None = None
) -> None:
    """`program.statistics["sites"]`: SiteStatistics by the name of the encoded tensor;
    `["activation_inputs"]`: (lowest, highest) by the name of what a scalar function reads."""
    sites = encoded_sites(program)
    present = {name for node in graphs.read(model).graph.node for name in node.output}
    ranges: dict[str, tuple[float, float]] = {}
    read = {f.sources[0].name for f in program.of("activation")} & present
    names = list(dict.fromkeys([*sites, *sorted(read)]))
    groups = [names[i : i + SITES_PER_RUN] for i in range(0, len(names), SITES_PER_RUN)]
    done, total = 0, len(groups) * len(feeds)
    for group in groups:
        probe = with_outputs(model, group, model.with_name("calibrate.onnx"))
        session = reference_session(probe, str(program.source))
        for feed in feeds:
            for name, value in zip(group, session.run(group, feed), strict=True):
                if name in sites:
                    sites[name].add(value)
                if name in read and value.size:
                    low, high = ranges.get(name, (np.inf, -np.inf))
                    ranges[name] = min(low, float(value.min())), max(high, float(value.max()))
            done += 1
            if progress:
                progress(done, total)
        probe.unlink()
    program.statistics |= {"sites": sites, "activation_inputs": ranges}


def encoded_sites(program: Program) -> dict[str, SiteStatistics]:
    """Every tensor that will be encoded; inputs of linear layers carry the importance of their channels."""
    weights: dict[str, np.ndarray] = {}
    for finding in program.of("linear"):
        name = finding.sources[0].name
        weights[name] = weights.get(name, 0.0) + _row_energy(finding.facts["weight"])
    sites = {name: SiteStatistics(weight) for name, weight in weights.items()}
    for finding in program.of("matmul_dynamic"):
        for source in finding.sources:
            sites.setdefault(source.name, SiteStatistics())
        if finding.facts["label"] == "av":
            sites[finding.sources[0].name].bound = 1.0  # attention weights: however few tokens there may be
    return sites


def _row_energy(weight: gs.Constant) -> np.ndarray:
    values = array(weight)
    return np.einsum("kn,kn->k", values, values, dtype=np.float64, optimize=False)
