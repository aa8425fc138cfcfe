"""Scalar functions become hierarchically gated bit-serial neurons; a product with another value becomes a
gate."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from spikec.custom_ops.catalogue import OPS
from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Certificate, Diagnostic, Finding, Program

from .fit import GRID, REACH, SMALLEST_OCTAVE, Function, Neuron, fit

OCTAVE_BITS = 8
"""Bits within an octave of the output: a relative error of at most 2**-8."""


@compiler_pass(after=["choose_thresholds"])
def spike_activations(program: Program) -> None:
    op = OPS[program.settings["method"].operators["activation"]]
    neurons: dict[bytes, tuple[Neuron, float, str]] = {}
    for finding in program.of("activation"):
        function = finding.facts["function"]
        with np.errstate(all="ignore"):
            key = function(GRID).tobytes()
        if key not in neurons:
            try:
                neuron = fit(function, OCTAVE_BITS)
            except ValueError as error:
                program.refuse(finding, str(error))
                continue
            neurons[key] = neuron, _error(function, neuron), f"spikec/{finding.facts['label']}_{len(neurons)}"
        neuron, worst, name = neurons[key]
        if max(-neuron.low, neuron.high) < REACH:
            limits = f"saturates outside {neuron.low:.4g} to {neuron.high:.4g}, where its codes end"
            program.diagnostics.append(Diagnostic("note", finding.name, f"{finding.facts['label']} {limits}"))
        constants = [
            program.constant(f"{name}/{part}", getattr(neuron, part))
            for part in ("edges", "thresholds", "base", "stride")
        ]
        source, result = finding.sources[0], finding.result
        spikes = program.node(
            op, [source, *constants], f"{result.name}/function", np.int32, bits=OCTAVE_BITS, steps=1
        )
        value = _deliver(program, finding, spikes, neuron.scale)
        text = f"its region at 20 001 points of its range, relative to at least 2**{SMALLEST_OCTAVE}"
        label = finding.facts["label"]
        program.replace(
            finding, value, Certificate(finding.name, label, op.name, text, 20001, worst, 2.0**-OCTAVE_BITS)
        )


def _deliver(program: Program, finding: Finding, spikes: gs.Variable, scale: float) -> gs.Variable:
    """The neuron's spikes gate the other factor of a gated unit, or are decoded."""
    result = finding.result
    if len(finding.sources) == 2:
        inputs = [spikes, finding.sources[1]]
        return program.node(
            OPS["SpikeMultiply"],
            inputs,
            f"{result.name}/gated",
            np.float32,
            result.shape,
            scale=scale,
            radix=1,
        )
    return program.node(
        OPS["SpikeDecode"], [spikes], f"{result.name}/decoded", np.float32, result.shape, scale=scale, radix=1
    )


def _error(function: Function, neuron: Neuron) -> float:
    x = np.sinh(np.linspace(np.arcsinh(neuron.low), np.arcsinh(neuron.high), 20001)).astype(np.float32)
    code = OPS["SpikeFunction"].numpy(
        x, neuron.edges, neuron.thresholds, neuron.base, neuron.stride, bits=OCTAVE_BITS, steps=1
    )[0]
    exact = function(x.astype(np.float64))
    return float(
        (np.abs(code * neuron.scale - exact) / np.maximum(np.abs(exact), 2.0**SMALLEST_OCTAVE)).max()
    )
