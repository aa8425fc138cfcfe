"""LayerNorm and RMSNorm become a squaring neuron and a bit-serial reciprocal square root."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from spikec.custom_ops.catalogue import OPS
from spikec.custom_ops.tables import rsqrt_thresholds
from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Certificate, Finding, Program

CHANNELS = 64
"""Row length of a certificate when the model does not tell its own."""


@compiler_pass(after=["choose_thresholds"])
def spike_norms(program: Program) -> None:
    bits = program.settings["function_bits"]
    rsqrt = program.constant(f"spikec/rsqrt_{bits}", rsqrt_thresholds(bits))
    for finding in program.of("rmsnorm", "layernorm"):
        op = OPS[program.settings["method"].operators[finding.kind]]
        result = finding.result
        vectors = [_vector(program, finding, "gamma")]
        if finding.kind == "layernorm":
            vectors.append(_vector(program, finding, "beta"))
        attributes = {"epsilon": finding.facts["epsilon"], "bits": bits, "steps": 1, "radix": 2 ** (bits + 2)}
        inputs = [finding.sources[0], *vectors, rsqrt]
        value = program.node(op, inputs, f"{result.name}/spiking", np.float32, result.shape, **attributes)
        if finding.kind == "rmsnorm" and np.any(finding.facts["beta"]):
            shift = program.constant(f"{result.name}/beta", finding.facts["beta"])
            value = _plain(program, "Add", [value, shift], f"{result.name}/shifted", np.float32, result.shape)
        program.replace(finding, value, _certify(finding, op.name, attributes))


def _vector(program: Program, finding: Finding, part: str) -> gs.Tensor:
    """Gain or shift of every channel; spread at run time when only then the number of channels is known."""
    name = f"{finding.name}/{part}"
    vector = program.constant(name, finding.facts[part])
    if finding.facts["channels"] is not None:
        return vector
    last = program.constant("spikec/last", np.array([-1], np.int64))
    shape = _plain(program, "Shape", [finding.sources[0]], f"{name}/shape", np.int64)
    size = _plain(program, "Gather", [shape, last], f"{name}/channels", np.int64, (1,))
    return _plain(program, "Expand", [vector, size], f"{name}/spread", np.float32)


def _plain(
    program: Program, op: str, inputs: list[gs.Tensor], name: str, dtype: type, shape: object = None
) -> gs.Variable:
    output = gs.Variable(name, dtype, shape)
    program.graph.nodes.append(gs.Node(op, name=name, inputs=inputs, outputs=[output]))
    return output


def _certify(finding: Finding, name: str, attributes: dict[str, float]) -> Certificate:
    """Rows of several sizes, offsets and outlier channels; error relative to the largest output."""
    size = finding.facts["channels"] or CHANNELS
    gamma, beta = (np.broadcast_to(finding.facts[part], (size,)) for part in ("gamma", "beta"))
    bits = int(attributes["bits"])
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, size)) * np.array([1, 0.01, 30, 1, 1, 5])[:, None]
    x[3] += 2
    x[4, 0] = 1000
    x = x.astype(np.float32)
    if name == "SpikeLayerNorm":
        got = OPS[name].numpy(x, gamma, beta, rsqrt_thresholds(bits), **attributes)
    else:
        got = OPS[name].numpy(x, gamma, rsqrt_thresholds(bits), **attributes) + beta
    exact = x.astype(np.float64)
    if name == "SpikeLayerNorm":
        exact = exact - exact.mean(-1, keepdims=True)
    exact = exact / np.sqrt((exact**2).mean(-1, keepdims=True) + attributes["epsilon"]) * gamma + beta
    error = float((np.abs(got - exact).max(-1) / np.maximum(np.abs(exact).max(-1), 1e-30)).max())
    text = (
        "float64 normalisation of rows with offsets and outlier channels; error relative to the row's largest"
    )
    return Certificate(finding.name, finding.kind, name, text, x.size, error, 2.0 ** (2 - bits))
