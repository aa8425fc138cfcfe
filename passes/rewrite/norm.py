"""LayerNorm and RMSNorm become a squaring neuron and a bit-serial reciprocal square root."""

from __future__ import annotations

import numpy as np

from spikec.custom_ops.catalogue import OPS
from spikec.custom_ops.tables import rsqrt_thresholds
from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Certificate, Finding, Program


@compiler_pass(after=["choose_thresholds"])
def spike_norms(program: Program) -> None:
    bits = program.settings["function_bits"]
    rsqrt = program.constant(f"spikec/rsqrt_{bits}", rsqrt_thresholds(bits))
    for finding in program.of("rmsnorm", "layernorm"):
        op = OPS[program.settings["method"].operators[finding.kind]]
        result = finding.result
        vectors = [program.constant(f"{result.name}/gamma", finding.facts["gamma"])]
        if finding.kind == "layernorm":
            vectors.append(program.constant(f"{result.name}/beta", finding.facts["beta"]))
        elif np.any(finding.facts["beta"]):
            continue
        attributes = {"epsilon": finding.facts["epsilon"], "bits": bits, "steps": 1, "radix": 2 ** (bits + 2)}
        inputs = [finding.sources[0], *vectors, rsqrt]
        value = program.node(op, inputs, f"{result.name}/spiking", np.float32, result.shape, **attributes)
        program.replace(finding, value, _certify(finding, op.name, attributes))


def _certify(finding: Finding, name: str, attributes: dict[str, float]) -> Certificate:
    """Rows of several sizes, offsets and outlier channels; error relative to the largest output."""
    gamma, beta = finding.facts["gamma"], finding.facts["beta"]
    bits = int(attributes["bits"])
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, len(gamma))) * np.array([1, 0.01, 30, 1, 1, 5])[:, None]
    x[3] += 2
    x[4, 0] = 1000
    x = x.astype(np.float32)
    vectors = [gamma, beta] if name == "SpikeLayerNorm" else [gamma]
    got = OPS[name].numpy(x, *vectors, rsqrt_thresholds(bits), **attributes)
    exact = x.astype(np.float64)
    if name == "SpikeLayerNorm":
        exact = exact - exact.mean(-1, keepdims=True)
    exact = exact / np.sqrt((exact**2).mean(-1, keepdims=True) + attributes["epsilon"]) * gamma + beta
    error = float((np.abs(got - exact).max(-1) / np.maximum(np.abs(exact).max(-1), 1e-30)).max())
    text = (
        "float64 normalisation of rows with offsets and outlier channels; error relative to the row's largest"
    )
    return Certificate(finding.name, finding.kind, name, text, x.size, error, 2.0 ** (2 - bits))
