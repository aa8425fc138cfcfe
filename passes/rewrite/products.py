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

from ..calibrate.thresholds import Threshold
from .encode import sample, train, worst_step

ROWS, COLUMNS = 4, 64
SLACK = 1e-5
"""Relative float32 rounding of the reference itself."""


@compiler_pass(after=["choose_thresholds"])
def spike_linear(program: Program, *, weights: str = "fp32") -> None:
    op = OPS[program.settings["method"].operators["linear"]]
    for finding in program.of("linear"):
        constant = finding.facts["weight"]
        spikes, threshold = train(program, finding.sources[0])
        if weights == "int8":
            scale = channel_scale(pieces(constant._values))
            round_off = functools.partial(rounded, scale=scale)
            matrix = program.derive(f"{constant.name}/int8", [constant], round_off, constant.shape, np.int8)
            w_scale = program.constant(f"{constant.name}/scale", scale)
        else:
            matrix, w_scale = constant, program.constant("spikec/one", np.ones(1, np.float32))
        inputs = [spikes, matrix, w_scale]
        result = finding.result
        value = program.node(
            op, inputs, f"{result.name}/current", np.float32, result.shape, scale=threshold.scale, radix=2
        )
        program.replace(finding, value, _certify_linear(program, finding, matrix, w_scale))


def channel_scale(rows: Iterable[np.ndarray]) -> np.ndarray:
    """Of symmetric int8 weights, one float32 scale per output channel, from some rows at a time."""
    largest = functools.reduce(np.maximum, (np.abs(part).max(0) for part in rows))
    scale = (largest / 127).astype(np.float32)
    scale[scale == 0] = 1
    return np.asarray(scale)


def rounded(weight: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The int8 of W ≈ int8 · scale."""
    steps = np.rint(weight / scale)
    return np.clip(steps, -127, 127, out=steps).astype(np.int8)


def _certify_linear(
    program: Program, finding: Finding, matrix: gs.Constant, w_scale: gs.Constant
) -> Certificate:
    """The operator's definition against x·W; the bound is half a step times Σ|W|, and with int8 weights the
    error of the weights times |x|."""
    threshold, bits = program.thresholds[finding.sources[0].name], program.settings["timesteps"]
    fan_in, fan_out = matrix.shape
    columns = np.linspace(0, fan_out - 1, min(fan_out, COLUMNS)).astype(int)
    weight, scale = (
        array(finding.facts["weight"])[:, columns],
        np.broadcast_to(array(w_scale), fan_out)[columns],
    )
    # only the columns looked at are made: all of a large model's would take a while
    synapses = weight if matrix is finding.facts["weight"] else rounded(weight, scale)
    x, code = sample(program, finding.sources[0], (ROWS, fan_in), seed=0)
    got = OPS["SpikeLinear"].numpy(code, synapses, scale, scale=threshold.scale, radix=2)
    given = synapses.astype(np.float64) * scale
    original = weight.astype(np.float64)
    error = np.abs(got - x @ original)
    size = np.abs(x)
    bound = worst_step(threshold, x, bits) @ np.abs(given) + size @ (
        np.abs(original - given) + SLACK * np.abs(given)
    )
    share = float((error / np.maximum(bound, 1e-30)).max())
    text = "x·W on values drawn like the site's; error as a share of (step/2)·Σ|W|"
    return Certificate(finding.name, "linear", "SpikeLinear", text, x.size, share, 1.0)


@compiler_pass(after=["choose_thresholds"])
def spike_products(program: Program) -> None:
    op = OPS[program.settings["method"].operators["matmul_dynamic"]]
    bits = program.settings["timesteps"]
    for finding in program.of("matmul_dynamic"):
        left, right = finding.sources
        (a, theta_a), (b, theta_b) = train(program, left), train(program, right)
        if _largest_sum(finding, bits, theta_a, theta_b) >= 2**53:
            text = f"at T = {bits} the sums of its codes could pass 2**53; use fewer timesteps"
            program.refuse(finding, text, "SPK204")
            continue
        result = finding.result
        value = program.node(
            op,
            [a, b],
            f"{result.name}/current",
            np.float32,
            result.shape,
            scale=_scale(theta_a.scale, theta_b.scale),
            radix=2,
        )
        program.replace(finding, value, _certify_product(program, finding))


LONGEST = 2**16
"""Keys that an attention row may have where no shape tells."""


def _largest_sum(finding: Finding, bits: int, a: Threshold, b: Threshold) -> float:
    """A bound on |Σ code·code|. A row of attention weights sums to one, so its codes sum to at most 1/Δ +
    K/2."""
    inner = _inner(finding)
    top_a, top_b = (2.0**bits * threshold.weights[-1] for threshold in (a, b))
    row = min(1 / a.scale + inner / 2, top_a * inner) if finding.facts["label"] == "av" else top_a * inner
    return row * top_b


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
    bits, inner = program.settings["timesteps"], 64
    left, right = finding.sources
    theta_a, theta_b = program.thresholds[left.name], program.thresholds[right.name]
    a, code_a = sample(program, left, (ROWS, inner), seed=1)
    b, code_b = sample(program, right, (inner, ROWS), seed=2)
    got = OPS["SpikeMatMul"].numpy(code_a, code_b, scale=_scale(theta_a.scale, theta_b.scale), radix=2)
    half_a, half_b = worst_step(theta_a, a, bits), worst_step(theta_b, b, bits)
    size_a, size_b = np.abs(a), np.abs(b)
    bound = half_a @ size_b + size_a @ half_b + half_a @ half_b + SLACK * size_a @ size_b
    share = float((np.abs(got - a.astype(np.float64) @ b) / np.maximum(bound, 1e-30)).max())
    text = "A·B on values drawn like the sites'; error as a share of the encoders' bound"
    return Certificate(finding.name, finding.facts["label"], "SpikeMatMul", text, a.size + b.size, share, 1.0)
