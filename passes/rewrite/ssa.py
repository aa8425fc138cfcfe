"""Puts trained spike-based self-attention in the place of every attention, before calibration.

The projections get the fine-tuned weights; what they give, rotated as the model rotates it, is the constant
current of leaky integrate-and-fire neurons, whose spikes meet in SpikeSelfAttention at each of the T steps
that the weights were trained for. The output's spikes themselves, a unary train, are what the output
projection reads.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from spikec.custom_ops.catalogue import OPS
from spikec.custom_ops.spec import VERSION
from spikec.ir import graph as graphs
from spikec.ir import region
from spikec.ir.diagnostics import SpikecError
from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Certificate, Program
from spikec.ir.session import Session

from ..calibrate.neuron import Neuron
from ..calibrate.ssa_weights import BlockWeights, read_ssa_weights
from ..recognise.projections import Projections, projections
from .encode import Train

VERDICT = "trained attention -> LIFEncode, SpikeSelfAttention"
GONE = "belongs to the softmax that the trained attention does not have"
BATCH, TOKENS = 2, 6
"""Of the currents that a certificate draws."""
SLACK = 1e-6
"""The mean of T spikes, rounded to float32 once."""


@compiler_pass(after=["describe", "check_runs"])
def train_attention(program: Program) -> None:
    """Raises SpikecError, before any edit, when the weights are not for this model."""
    path = Path(program.settings["options"]["ssa_weights"])
    weights, attentions = read_ssa_weights(path), program.of("attention")
    if len(attentions) != len(weights.blocks):
        raise SpikecError(
            f"holds {len(weights.blocks)} blocks of attention",
            where=str(path),
            why=f"{program.source.name} has {len(attentions)}",
            fix="give the weights that were fine-tuned for this model",
        )
    found = [projections(program, attention) for attention in attentions]
    for index, (place, block) in enumerate(zip(found, weights.blocks, strict=True)):
        _check_fit(path, f"block{index}", place, block)
    before = {node.name for node in program.graph.nodes}
    outs = [
        _replace(program, place, block, weights.timesteps)
        for place, block in zip(found, weights.blocks, strict=True)
    ]
    program.settings["ssa"] = {"weights": path.name, "timesteps": weights.timesteps, "blocks": len(found)}
    graphs.prune(program.graph)
    for place, out in zip(found, outs, strict=True):  # not before: nothing reads these trains yet
        _read_spikes(program, place.weighted["o"].sources[0], out, weights.timesteps)
    graphs.sort(program.graph)
    for name in sorted(before - {node.name for node in program.graph.nodes}):
        if name in program.decisions:
            owned = any(name == f.nodes[0].name for p in found for f in p.replaced)
            verdict, reason = ("spiking", VERDICT) if owned else ("linear", GONE)
            program.decisions[name] = replace(program.decisions[name], verdict=verdict, reason=reason)
    gone = {id(f) for p in found for f in (*p.replaced, p.attention)}
    program.findings[:] = [finding for finding in program.findings if id(finding) not in gone]
    text = (
        f"{len(found)} attentions are now the trained spike-based self-attention of {path.name}, T = "
        f"{weights.timesteps}: another network, not this model's"
    )
    program.tell("SPK250", program.source.name, text)


def _check_fit(path: Path, block: str, place: Projections, w: BlockWeights) -> None:
    wanted: dict[str, Any] = {"query heads": place.heads, "key heads": place.key_heads}
    given: dict[str, Any] = {"query heads": w.heads, "key heads": w.key_heads}
    for name, finding in place.weighted.items():
        wanted[f"w{name}"] = list(finding.facts["weight"].shape)
        given[f"w{name}"] = list(getattr(w, f"w{name}").shape)
    for name, value in wanted.items():
        if given[name] != value:
            raise SpikecError(
                f"{block} has {name} {given[name]}, the model's attention {place.attention.name!r} {value}",
                where=str(path),
                fix="give the weights that were fine-tuned for this model",
            )


def _replace(program: Program, place: Projections, w: BlockWeights, steps: int) -> gs.Variable:
    """The output's spikes."""
    name, result = place.attention.name, place.context.result
    for kind, finding in place.weighted.items():
        fresh = program.constant(f"{name}/ssa/w{kind}", getattr(w, f"w{kind}"))
        finding.nodes[0].inputs[1] = finding.facts["weight"] = fresh
    leak, spikes = float(w.leak), {}
    for kind, current in place.currents.items():
        theta = getattr(w, f"theta_{kind}")
        theta = theta if kind == "q" else place.repeated(theta)
        frame = gs.Variable(f"{name}/ssa/{kind}/current", np.float32)
        axes = program.constant("spikec/axis_0", np.zeros(1, np.int64))
        program.graph.nodes.append(gs.Node("Unsqueeze", frame.name, inputs=[current, axes], outputs=[frame]))
        spikes[kind] = _fire(program, f"{name}/ssa/{kind}", frame, theta, leak, steps)
    attributes = {"scale": float(w.scale), "causal": int(place.causal)}
    mixed = program.node(
        OPS["SpikeSelfAttention"], list(spikes.values()), f"{name}/ssa/o/current", np.float32, **attributes
    )
    out = _fire(program, f"{name}/ssa/o", mixed, w.theta_o, leak, steps)
    mean = {"scale": 1 / steps, "radix": 1}
    value = program.node(OPS["SpikeDecode"], [out], f"{name}/ssa/mean", np.float32, result.shape, **mean)
    certificate = _certify(program, place, w, steps, value)
    if not certificate.holds:  # the projections are the trained ones already: there is no way back
        raise SpikecError(
            f"the trained attention of {name!r} was put in wrongly",
            where=str(program.source),
            why=f"it is off by {certificate.max_error:.3g} on random currents",
            fix="this is a bug in spikec: report it with the model",
        )
    program.replace(place.context, value, certificate)
    return out


def _fire(
    program: Program, name: str, current: gs.Variable, theta: np.ndarray, leak: float, steps: int
) -> gs.Variable:
    threshold = program.constant(f"{name}/theta", theta[:, None, None])
    inputs = [current, threshold]
    return program.node(OPS["LIFEncode"], inputs, f"{name}/spikes", np.int8, beta=leak, steps=steps)


def _read_spikes(program: Program, site: gs.Tensor, out: gs.Variable, steps: int) -> None:
    """The site's train is the output's spikes with their heads side by side: [T, B, S, H·d]."""
    swapped = gs.Variable(f"{site.name}/swapped", np.int8)
    train = gs.Variable(f"{site.name}/spikes", np.int8)
    shape = program.constant("spikec/heads_together", np.array([0, 0, 0, -1], np.int64))
    program.graph.nodes += [
        gs.Node("Transpose", swapped.name, {"perm": [0, 1, 3, 2, 4]}, inputs=[out], outputs=[swapped]),
        gs.Node("Reshape", train.name, inputs=[swapped, shape], outputs=[train]),
    ]
    neuron = count_neuron(steps)
    program.neurons[site.name] = neuron
    program.settings.setdefault("trains", {})[site.name] = Train(train, neuron, None)


def count_neuron(steps: int) -> Neuron:
    """A train of unary spikes that is there already: the value is its mean. Certificates, which draw values
    of their own, encode them as counts."""
    bits = steps.bit_length()
    counts = {
        "scale": 1 / steps,
        "bits": bits,
        "ratio": 1,
        "ranges": 1,
        "steps": 1,
        "radix": 2**bits,
        "to": 6,
    }
    return Neuron(
        op="OATEncode",
        attributes=counts,
        largest=float(steps),
        error=lambda x: np.full(x.shape, 0.5 / steps),
        scale=1 / steps,
        radix=1,
        facts={"trained": True, "timesteps": steps},
    )


def _certify(
    program: Program, place: Projections, w: BlockWeights, steps: int, value: gs.Variable
) -> Certificate:
    """The nodes just made, run by ONNX Runtime, against the equations of Spikformer written with sums of
    integers on currents drawn at random."""
    rng = np.random.default_rng(0)
    drawn = {}
    for kind, heads in (("q", w.heads), ("k", w.key_heads), ("v", w.key_heads)):
        size = getattr(w, f"w{kind}").shape[1] // heads
        theta = getattr(w, f"theta_{kind}")[:, None, None]
        drawn[kind] = (rng.standard_normal((BATCH, heads, TOKENS, size)) * theta).astype(np.float32)
    fired = {kind: _fired(current, getattr(w, f"theta_{kind}"), w, steps) for kind, current in drawn.items()}
    q, k, v = fired["q"], place.repeated(fired["k"], 2), place.repeated(fired["v"], 2)
    counts = np.einsum("tbhmc,tbhnc->tbhmn", q, k)
    counts = np.tril(counts) if place.causal else counts
    mixed = np.einsum("tbhmn,tbhnd->tbhmd", counts, v) * np.float64(w.scale)
    want = _fired(mixed.astype(np.float32), w.theta_o, w, steps, moving=True).sum(0) / steps
    keys = np.ascontiguousarray(place.repeated(drawn["k"], 1).swapaxes(-1, -2))
    currents = {"q": drawn["q"], "k": keys, "v": place.repeated(drawn["v"], 1)}
    got = _run(program, {t.name: (t, currents[kind]) for kind, t in place.currents.items()}, value)
    error = float(np.abs(got - want).max())
    text = (
        "the neurons and products in the graph on random currents, against their equations in integers; the "
    )
    text += "original attention is not reproduced: this one is trained"
    samples = sum(x.size for x in currents.values())
    return Certificate(place.context.name, "attention", "SpikeSelfAttention", text, samples, error, SLACK)


def _run(program: Program, given: dict[str, tuple[gs.Tensor, np.ndarray]], value: gs.Variable) -> np.ndarray:
    """What ONNX Runtime makes of the nodes between the currents and `value`."""
    sources = tuple(tensor for tensor, _ in given.values())
    nodes = region.region_nodes(value, sources)
    model = graphs.whole(gs.Graph(nodes, inputs=list(sources), outputs=[value], opset=program.graph.opset))
    model.ir_version = region.IR_VERSION
    for port in (*model.graph.input, *model.graph.output):
        dims = [f"{port.name}_{axis}" for axis in range(4)]
        port.CopyFrom(onnx.helper.make_tensor_value_info(port.name, onnx.TensorProto.FLOAT, dims))
    del model.graph.value_info[:]
    model.functions.extend(program.functions.values())
    used = {node.domain for node in nodes if node.domain} - {o.domain for o in model.opset_import}
    model.opset_import.extend(onnx.helper.make_opsetid(domain, VERSION) for domain in sorted(used))
    session = Session(model, where=str(program.source))
    return np.asarray(session.run(None, {name: x for name, (_, x) in given.items()})[0])


def _fired(
    current: np.ndarray, theta: np.ndarray, w: BlockWeights, steps: int, moving: bool = False
) -> np.ndarray:
    """The spikes of leaky integrate-and-fire neurons [..., heads, tokens, size]; `moving` currents have a
    time axis."""
    currents = current if moving else np.broadcast_to(current, (steps, *current.shape))
    u, threshold, train = np.zeros(currents.shape[1:], np.float32), theta[:, None, None], []
    for now in currents:
        u = w.leak * u + now
        train.append((u >= threshold).astype(np.int64))
        u = u - threshold * train[-1].astype(np.float32)
    return np.stack(train)
