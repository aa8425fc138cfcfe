"""Scalar functions become hierarchically gated bit-serial neurons; a product with another value becomes a
gate."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from spikec.custom_ops.catalogue import OPS
from spikec.ir import region
from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Certificate, Finding, Program

from ..calibrate.thresholds import HEADROOM
from .fit import GRID, REACH, SMALLEST_OCTAVE, Function, Neuron, fit

OCTAVE_BITS, FINE_OCTAVE_BITS = 8, 10
"""Bits within an octave of the output: a relative error of at most 2**-bits. The finer where the trains are
finer too, or this error would be the largest of all."""
FINE_TIMESTEPS = 13


@compiler_pass(after=["choose_thresholds"])
def spike_activations(program: Program) -> None:
    op = OPS[program.settings["method"].operators["activation"]]
    neurons: dict[bytes, tuple[Neuron, str]] = {}
    for finding in program.of("activation"):
        function = finding.facts["function"]
        with np.errstate(all="ignore"):
            key = function(GRID).tobytes()
        if key not in neurons:
            try:
                neuron = _fitted(function, program.settings["timesteps"])
            except ValueError as error:
                program.refuse(finding, str(error))
                continue
            neurons[key] = neuron, f"spikec/{finding.facts['label']}_{len(neurons)}"
        neuron, name = neurons[key]
        worst = _error(program, finding, neuron)
        _tell_saturation(program, finding, neuron)
        constants = [
            program.constant(f"{name}/{part}", getattr(neuron, part))
            for part in ("edges", "thresholds", "base", "stride")
        ]
        source, result = finding.sources[0], finding.result
        spikes = program.node(
            op, [source, *constants], f"{result.name}/function", np.int32, bits=neuron.bits, steps=1
        )
        value = _deliver(program, finding, spikes, neuron.scale)
        text = (
            f"the original nodes in ONNX Runtime at 20 001 points, relative to at least 2**{SMALLEST_OCTAVE}"
        )
        label = finding.facts["label"]
        program.replace(
            finding, value, Certificate(finding.name, label, op.name, text, 20001, worst, 2.0**-neuron.bits)
        )


def _fitted(function: Function, timesteps: int) -> Neuron:
    """The neuron of a function; the coarser one where the finer one's codes would end sooner."""
    if timesteps >= FINE_TIMESTEPS:
        neuron = fit(function, FINE_OCTAVE_BITS)
        if min(-neuron.low, neuron.high) >= REACH:
            return neuron
    return fit(function, OCTAVE_BITS)


def _tell_saturation(program: Program, finding: Finding, neuron: Neuron) -> None:
    """A note when the neuron covers less than REACH on either side; a warning when the data leave it."""
    label, covered = finding.facts["label"], f"{neuron.low:.4g} to {neuron.high:.4g}"
    seen = program.statistics.get("activation_inputs", {}).get(finding.sources[0].name)
    if seen is not None:
        low, high = (float(value) * HEADROOM for value in seen)
        ends = np.array([min(low, neuron.low), max(high, neuron.high)])
        with np.errstate(all="ignore"):
            value = finding.facts["function"](ends)
            kept = finding.facts["function"](np.array([neuron.low, neuron.high]))
        if not np.allclose(value, kept, rtol=2.0**-neuron.bits, atol=2.0 ** (SMALLEST_OCTAVE - neuron.bits)):
            text = f"{label} saturates outside {covered}; its inputs go from {seen[0]:.4g} to {seen[1]:.4g}"
            program.tell("SPK202", finding.name, text)
            return
    if min(-neuron.low, neuron.high) < REACH:
        text = f"{label} saturates outside {covered}, where its codes end"
        program.tell("SPK203", finding.name, text)


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


def _error(program: Program, finding: Finding, neuron: Neuron) -> float:
    """The neuron against ONNX Runtime running the original nodes: whatever we misread of them would show."""
    x = np.sinh(np.linspace(np.arcsinh(neuron.low), np.arcsinh(neuron.high), 20001)).astype(np.float32)
    code = OPS["SpikeFunction"].numpy(
        x, neuron.edges, neuron.thresholds, neuron.base, neuron.stride, bits=neuron.bits, steps=1
    )[0]
    exact = region.execute(finding.sources[0], finding.facts["value"], x, program.graph.opset)
    return float(
        (np.abs(code * neuron.scale - exact) / np.maximum(np.abs(exact), 2.0**SMALLEST_OCTAVE)).max()
    )
