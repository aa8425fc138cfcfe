"""Softmax becomes bit-serial exponentials and one bit-serial reciprocal a row."""

from __future__ import annotations

import numpy as np

from spikec.custom_ops.catalogue import OPS
from spikec.custom_ops.tables import exp2_thresholds, reciprocal_thresholds
from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Certificate, Program


@compiler_pass(after=["choose_thresholds"])
def spike_softmax(program: Program) -> None:
    op, bits = OPS[program.settings["method"].operators["softmax"]], program.settings["function_bits"]
    exp2 = program.constant(f"spikec/exp2_{bits}", exp2_thresholds(bits))
    reciprocal = program.constant(f"spikec/reciprocal_{bits}", reciprocal_thresholds(bits))
    error, bound, samples = _compare(bits)
    for finding in program.of("softmax"):
        result = finding.result
        attributes = {"bits": bits, "steps": 1, "radix": 2 ** (bits + 2)}
        inputs = [finding.sources[0], exp2, reciprocal]
        value = program.node(op, inputs, f"{result.name}/spiking", np.float32, result.shape, **attributes)
        text = "total variation from softmax, rows of 2 to 2048 scores, spread 0.5 to 4"
        program.replace(
            finding, value, Certificate(finding.name, "softmax", op.name, text, samples, error, bound)
        )


def _compare(bits: int) -> tuple[float, float, int]:
    """(worst total variation, its bound, scores compared). Each of exp2 and reciprocal errs by at most half
    an LSB."""
    rng = np.random.default_rng(0)
    worst, samples = 0.0, 0
    tables = exp2_thresholds(bits), reciprocal_thresholds(bits)
    for length in (2, 64, 512, 2048):
        for spread in (0.5, 1, 2, 4):
            x = (spread * rng.standard_normal((16, length))).astype(np.float32)
            got = OPS["SpikeSoftmax"].numpy(x, *tables, bits=bits, steps=1, radix=2 ** (bits + 2))
            exact = np.exp(x - x.max(-1, keepdims=True).astype(np.float64))
            exact /= exact.sum(-1, keepdims=True)
            worst, samples = max(worst, float(0.5 * np.abs(got - exact).sum(-1).max())), samples + x.size
    return worst, 2.0**-bits, samples
