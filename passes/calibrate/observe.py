"""Runs the model on calibration inputs, a stretch of it at a time, and gathers statistics at every site
where spikes will be made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs

from spikec.ir.inputs import Feed
from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Program
from spikec.ir.stream import Stream
from spikec.ir.weights import pieces

from .statistics import SiteStatistics


@compiler_pass(after=["classify"])
def observe(
    program: Program, *, model: Path, feeds: list[Feed], progress: Callable[[int, int], None] | None = None
) -> None:
    """`program.statistics["sites"]`: the method's SiteStatistics by the name of the encoded tensor, and
    `["roles"]` what each is read as (`Site.role`); `["activation_inputs"]`: (lowest, highest) by the name of
    what a scalar function reads."""
    roles = encoded_sites(program)
    sites = site_statistics(program, roles)
    stream = Stream(model, str(program.source))
    ranges: dict[str, tuple[float, float]] = {}
    read = {f.sources[0].name for f in program.of("activation")} & stream.values
    names = list(dict.fromkeys([*sites, *sorted(read)]))
    for _, name, value in stream.fetch(feeds, names, progress):
        if name in sites:
            sites[name].add(value)
        if name in read and value.size:
            low, high = ranges.get(name, (np.inf, -np.inf))
            ranges[name] = min(low, float(value.min())), max(high, float(value.max()))
    program.statistics |= {"sites": sites, "roles": roles, "activation_inputs": ranges}


ROLES = {"qk": ("q", "k"), "av": ("p", "v")}


def encoded_sites(program: Program) -> dict[str, str]:
    """The role of every tensor that will be encoded, by name (`Site.role`)."""
    roles = {finding.sources[0].name: "linear" for finding in program.of("linear")}
    for finding in program.of("matmul_dynamic"):
        for source, role in zip(
            finding.sources, ROLES.get(finding.facts["label"], ("left", "right")), strict=True
        ):
            roles.setdefault(source.name, role)
    return roles


def site_statistics(program: Program, roles: dict[str, str]) -> dict[str, SiteStatistics]:
    """Empty statistics of every site; inputs of linear layers carry the importance of their channels."""
    weights: dict[str, np.ndarray] = {}
    for finding in program.of("linear"):
        name = finding.sources[0].name
        weights[name] = weights.get(name, 0.0) + _row_energy(finding.facts["weight"])
    method, options = program.settings["method"], program.settings["options"]
    asked = (method.statistics_if[name] for name in method.statistics_if if options[name])
    start = next(asked, method.statistics)
    sites: dict[str, SiteStatistics] = {name: start(role, weights.get(name)) for name, role in roles.items()}
    for finding in program.of("linear"):
        sites[finding.sources[0].name].readers.append(finding.facts["weight"])
    for finding in program.of("matmul_dynamic"):
        if finding.facts["label"] == "av":
            sites[finding.sources[0].name].bound = 1.0  # attention weights: however few tokens there may be
    return sites


def _row_energy(weight: gs.Constant) -> np.ndarray:
    parts = (
        np.einsum("kn,kn->k", rows, rows, dtype=np.float64, optimize=False) for rows in pieces(weight._values)
    )
    return np.concatenate(list(parts))
