"""Linear layers and products of two activations: encode, then add up weights or telescope."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import numpy as np
import onnx_graphsurgeon as gs

from spikec.custom_ops.catalogue import OPS
from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Certificate, Finding, Program
from spikec.ir.weights import array, pieces

from ..calibrate.neuron import Neuron
from .encode import sample, scaled, train

ROWS, COLUMNS, INNER = 4, 64, 64
SLACK = 1e-5
"""Relative float32 rounding of the reference itself."""


@compiler_pass(after=["choose_thresholds"])
def spike_linear(program: Program, *, weights: str = "fp32") -> None:
    op = OPS[program.settings["method"].operators["linear"]]
    for finding in program.of("linear"):
        site = train(program, finding.sources[0])
        constant = _folded(program, finding.facts["weight"], site.neuron, finding.sources[0].name)
        if weights != "fp32":
            most, name = largest_weight(weights), f"{constant.name}/{weights}"
            scale = channel_scale(pieces(constant._values), most)
            round_off = functools.partial(rounded, scale=scale, most=most)
            matrix = program.derive(name, [constant], round_off, constant.shape, np.int8)
            w_scale = program.constant(f"{constant.name}/scale", scale)
        else:
            matrix, w_scale = constant, program.constant("spikec/one", np.ones(1, np.float32))
        inputs = [site.spikes, matrix, w_scale]
        result = finding.result
        attributes = {"scale": site.neuron.scale, "radix": site.neuron.radix}
        value = program.node(op, inputs, f"{result.name}/current", np.float32, result.shape, **attributes)
        if site.neuron.offset:
            value = _without_offset(program, value, site.neuron, matrix, w_scale)
        value = scaled(program, value, site)
        program.replace(finding, value, _certify_linear(program, finding, constant, matrix, w_scale, weights))


def _folded(program: Program, weight: gs.Constant, neuron: Neuron, site: str) -> gs.Constant:
    """The weights times what a code of each input channel is worth."""
    if neuron.channels is None:
        return weight
    column = neuron.channels.astype(np.float32)[:, None]
    return program.derive(
        f"{weight.name}/times/{site}", [weight], lambda w: w * column, weight.shape, np.float32
    )


def _without_offset(
    program: Program, current: gs.Variable, neuron: Neuron, matrix: gs.Constant, w_scale: gs.Constant
) -> gs.Variable:
    """The current less what the offset of every code adds to it, one constant an output channel."""
    name = f"{current.name}/without_offset"
    make = functools.partial(offset_current, neuron=neuron)
    constant = program.derive(name, [matrix, w_scale], make, matrix.shape[1:], np.float32)
    result = gs.Variable(f"{name}/sum", np.float32, current.shape)
    program.graph.nodes.append(gs.Node("Add", result.name, inputs=[current, constant], outputs=[result]))
    return result


def offset_current(weight: np.ndarray, w_scale: np.ndarray, neuron: Neuron) -> np.ndarray:
    """-offset · θ · Σ_k W, float32 `[N]`."""
    sums = weight.sum(0, dtype=np.float64) * w_scale.astype(np.float64)
    return np.asarray((-neuron.offset * np.float64(np.float32(neuron.scale)) * sums).astype(np.float32))


def largest_weight(weights: str) -> int:
    """The largest integer weight: 127 of "int8", 31 of "int6"."""
    return int(2 ** (int(weights.removeprefix("int")) - 1) - 1)


def channel_scale(rows: Iterable[np.ndarray], most: int = 127) -> np.ndarray:
    """Of symmetric integer weights up to `most`, one float32 scale per output channel, from some rows at a
    time."""
    largest = functools.reduce(np.maximum, (np.abs(part).max(0) for part in rows))
    scale = (largest / most).astype(np.float32)
    scale[scale == 0] = 1
    return np.asarray(scale)


def rounded(weight: np.ndarray, scale: np.ndarray, most: int = 127) -> np.ndarray:
    """The int8 of W ≈ int8 · scale."""
    steps = np.rint(weight / scale)
    return np.clip(steps, -most, most, out=steps).astype(np.int8)


def _certify_linear(
    program: Program,
    finding: Finding,
    folded: gs.Constant,
    matrix: gs.Constant,
    w_scale: gs.Constant,
    weights: str,
) -> Certificate:
    """The operator's definition against x·W; the bound is the neuron's error times Σ|W|, and with int8
    weights the error of the weights times |x|."""
    neuron = program.neurons[finding.sources[0].name]
    fan_in, fan_out = matrix.shape
    columns = np.linspace(0, fan_out - 1, min(fan_out, COLUMNS)).astype(int)
    weight, scale = (
        array(finding.facts["weight"])[:, columns],
        np.broadcast_to(array(w_scale), fan_out)[columns],
    )
    # only the columns looked at are made: all of a large model's would take a while
    column = np.ones(1) if neuron.channels is None else neuron.channels.astype(np.float64)
    synapses = weight if neuron.channels is None else weight * neuron.channels.astype(np.float32)[:, None]
    synapses = synapses if matrix is folded else rounded(synapses, scale, largest_weight(weights))
    x, code, worth = sample(program, finding.sources[0], (ROWS, fan_in), seed=0)
    got = OPS["SpikeLinear"].numpy(code, synapses, scale, scale=neuron.scale, radix=neuron.radix)
    got = got + offset_current(synapses, scale, neuron) if neuron.offset else got
    got = got * worth if neuron.dynamic else got
    given = synapses.astype(np.float64) * scale / column[:, None]
    original = weight.astype(np.float64)
    error = np.abs(got - x @ original)
    size = np.abs(x)
    bound = neuron.error(x) @ np.abs(given) + size @ (np.abs(original - given) + SLACK * np.abs(given))
    share = float((error / np.maximum(bound, 1e-30)).max())
    text = "x·W on values drawn like the site's; error as a share of the neuron's bound times Σ|W|"
    return Certificate(finding.name, "linear", "SpikeLinear", text, x.size, share, 1.0)


@compiler_pass(after=["choose_thresholds"])
def spike_products(program: Program) -> None:
    op = OPS[program.settings["method"].operators["matmul_dynamic"]]
    for finding in program.of("matmul_dynamic"):
        left, right = finding.sources
        a, b = train(program, left), train(program, right)
        if _largest_sum(finding, a.neuron, b.neuron) >= 2**53:
            steps = program.settings["timesteps"]
            text = f"at T = {steps} the sums of its codes could pass 2**53; use fewer timesteps"
            program.refuse(finding, text, "SPK204")
            continue
        result = finding.result
        attributes = {"scale": _scale(a.neuron.scale, b.neuron.scale), "radix": a.neuron.radix}
        inputs = [a.spikes, b.spikes]
        value = program.node(op, inputs, f"{result.name}/current", np.float32, result.shape, **attributes)
        value = scaled(program, value, a, b)
        program.replace(finding, value, _certify_product(program, finding))


LONGEST = 2**16
"""Keys that an attention row may have where no shape tells."""


def _largest_sum(finding: Finding, a: Neuron, b: Neuron) -> float:
    """A bound on |Σ code·code|. A row of attention weights sums to one, so its codes sum to at most 1/Δ +
    K/2."""
    inner = _inner(finding)
    row = a.largest * inner
    if finding.facts["label"] == "av" and not a.dynamic:
        row = min(1 / a.scale + inner / 2, row)
    return row * b.largest


def _inner(finding: Finding) -> int:
    """How many products a sum has, as the shape of either side tells."""
    left, right = (tensor.shape or () for tensor in finding.sources)
    known = [*left[-1:], *right[-2:-1]]
    return next((size for size in known if isinstance(size, int)), LONGEST)


def _scale(a: float, b: float) -> float:
    return float(np.float32(np.float64(a) * np.float64(b)))


def _certify_product(program: Program, finding: Finding) -> Certificate:
    """Decoded trains multiplied against the values multiplied; the bound is the encoders' error carried
    through."""
    left, right = finding.sources
    neuron_a, neuron_b = program.neurons[left.name], program.neurons[right.name]
    a, code_a, worth_a = sample(program, left, (ROWS, INNER), seed=1)
    b, code_b, worth_b = sample(program, right, (INNER, ROWS), seed=2)
    scale = _scale(neuron_a.scale, neuron_b.scale)
    got = OPS["SpikeMatMul"].numpy(code_a, code_b, scale=scale, radix=neuron_a.radix) * worth_a * worth_b
    half_a, half_b = neuron_a.error(a), neuron_b.error(b)
    size_a, size_b = np.abs(a), np.abs(b)
    bound = half_a @ size_b + size_a @ half_b + half_a @ half_b + SLACK * size_a @ size_b
    share = float((np.abs(got - a.astype(np.float64) @ b) / np.maximum(bound, 1e-30)).max())
    text = "A·B on values drawn like the sites'; error as a share of the encoders' bound"
    return Certificate(finding.name, finding.facts["label"], "SpikeMatMul", text, a.size + b.size, share, 1.0)
