"""The network that the spikes make, in plain float products: quick to run, its encoders switched and set per
run.

By the collapse theorem (methods §6.3 rule 6) the spiking network equals the ANN with every site replaced by
its decoded code; softmax, norms and activations are left exact. Every site gets an `If` of its own: switched
on, x ← θ·FewSpikesEncode(x; θ, boundaries, levels).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

from spikec.custom_ops.catalogue import OPS
from spikec.custom_ops.few_spikes_encode import execution
from spikec.custom_ops.native import library_path
from spikec.custom_ops.spec import DOMAIN, VERSION
from spikec.ir.inputs import Feed
from spikec.ir.program import Program
from spikec.ir.session import options

from .rounding import tables

OP = OPS["FewSpikesEncode"]
PARTS = {
    "on": TensorProto.BOOL,
    "theta": TensorProto.FLOAT,
    "boundaries": TensorProto.FLOAT,
    "levels": TensorProto.INT32,
    "patterns": TensorProto.INT32,
}
RANGES = 15
"""Each range twice as coarse as the one before: a value beyond the finest keeps its leading digits."""


@dataclass(frozen=True)
class Setting:
    """How one site is encoded: θ (a scalar or one a channel), λ of the rounding, the basis of the step
    weights, and how many steps."""

    theta: np.ndarray
    penalty: float
    basis: int
    digits: int

    def feed(self, site: str) -> Feed:
        values = (
            np.array(True),
            np.asarray(self.theta, np.float32),
            *tables(self.penalty, self.basis, self.digits),
        )
        return {f"{site}/{part}": value for part, value in zip(PARTS, values, strict=True)}


def silent(site: str) -> Feed:
    """What switches a site off: its values pass as they are."""
    values = (
        np.array(False),
        np.ones((), np.float32),
        np.full(1, 0.5, np.float32),
        np.arange(2, dtype=np.int32),
        np.zeros((1, 2), np.int32),
    )
    return {f"{site}/{part}": value for part, value in zip(PARTS, values, strict=True)}


def build(model: onnx.ModelProto, program: Program, digits: int) -> onnx.ModelProto:
    """`model`, the plain graph that the findings were made in, with every site encoded."""
    sites = {name: role for name, role in program.statistics["roles"].items()}
    readers = _readers(program)
    graph, nodes = model.graph, []
    made_by = {name: index for index, node in enumerate(graph.node) for name in node.output}
    by_index: dict[int, list[str]] = {}
    for site in sites:
        by_index.setdefault(made_by.get(site, -1), []).append(site)
    for index in range(-1, len(graph.node)):
        if index >= 0:
            nodes.append(graph.node[index])
        nodes.extend(_encoder(site, digits) for site in by_index.get(index, ()))
    for node in nodes:
        for output in node.output:
            for site in readers.get(output, ()):
                for at, name in enumerate(node.input):
                    if name == site:
                        node.input[at] = f"{site}/decoded"
    del graph.node[:]
    graph.node.extend(nodes)
    for site in sites:
        for part, kind in PARTS.items():
            graph.input.append(helper.make_tensor_value_info(f"{site}/{part}", kind, None))
    model.opset_import.append(helper.make_opsetid(DOMAIN, VERSION))
    model.functions.append(OP.function_proto())
    return model


def _readers(program: Program) -> dict[str, set[str]]:
    """The sites that each product reads, by the name of its result."""
    return {
        finding.result.name: {source.name for source in finding.sources}
        for finding in program.of("linear", "matmul_dynamic")
    }


def _encoder(site: str, digits: int) -> onnx.NodeProto:
    attributes: dict[str, Any] = {
        "ranges": RANGES, "digits": digits, "basis": 0, "state": 0, "steps": 1, "to": 0,
    }  # fmt: skip
    attributes = execution(attributes, True)
    inputs = [site, *(f"{site}/{part}" for part in list(PARTS)[1:])]
    names = [f"{site}/{part}" for part in ("train", "float", "axis", "code", "value", "same")]
    train, wide, axis, code, value, same = names
    axes = helper.make_tensor(axis, TensorProto.INT64, [1], [0])
    on = helper.make_graph(
        [
            helper.make_node(OP.name, inputs, [train], name=train, domain=DOMAIN, **attributes),
            helper.make_node("Cast", [train], [wide], name=wide, to=TensorProto.FLOAT),
            helper.make_node("Squeeze", [wide, axis], [code], name=code),
            helper.make_node("Mul", [code, f"{site}/theta"], [value], name=value),
        ],
        f"{site}/then",
        [],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, None)],
        [axes],
    )
    off = helper.make_graph(
        [helper.make_node("Identity", [site], [same], name=same)],
        f"{site}/else",
        [],
        [helper.make_tensor_value_info(same, TensorProto.FLOAT, None)],
    )
    return helper.make_node(
        "If", [f"{site}/on"], [f"{site}/decoded"], name=f"{site}/if", then_branch=on, else_branch=off
    )


def session_options() -> ort.SessionOptions:
    """With the native library, where it was built."""
    settings = options()
    path = library_path()
    if path is not None:
        settings.register_custom_ops_library(str(path))
    return settings


def settings_feed(sites: Iterable[str], chosen: dict[str, Setting]) -> Feed:
    """The inputs that set every site."""
    feed: Feed = {}
    for site in sites:
        feed |= chosen[site].feed(site) if site in chosen else silent(site)
    return feed
