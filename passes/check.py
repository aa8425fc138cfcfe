"""Is the model sound before we touch it, and the same once it is normalised? Finite weights, and runs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from spikec.ir import graph as graphs
from spikec.ir.census import Census
from spikec.ir.diagnostics import SpikecError
from spikec.ir.inputs import Feed, doubled
from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Program
from spikec.ir.stream import Stream
from spikec.ir.weights import dtype_of, pieces


@compiler_pass(after=["infer_types"])
def check_weights(program: Program) -> None:
    for constant in graphs.constants(program.graph):
        if not np.issubdtype(dtype_of(constant), np.floating):
            continue
        for part in pieces(constant._values):
            if not np.isfinite(part).all() and not _is_mask(part):
                kind = "NaN" if np.isnan(part).any() else "Inf"
                raise SpikecError(
                    f"weight {constant.name!r} holds {kind}",
                    where=str(program.source),
                    why="no quantity can be compared with it",
                    fix="export the model again from a sound checkpoint",
                )


def _is_mask(values: np.ndarray) -> bool:
    """A constant additive mask (zeros and -Inf), or the lone infinity masks and clips are made of."""
    return bool(np.all((values == 0) | np.isneginf(values))) or (
        values.size == 1 and bool(np.isinf(values).all())
    )


@compiler_pass(after=["check_weights"])
def check_runs(program: Program, *, original: Path, model: Path, feeds: list[Feed]) -> None:
    """Runs the original, and the graph as normalised (`model`), which must give the same."""
    theirs, ours = (Stream(path, str(program.source)) for path in (original, model))
    feed = feeds[0]
    twice = doubled(program.settings["inputs"], feed)
    try:
        outputs = theirs.run(None, feed)
    except SpikecError as error:
        _instead(program, theirs, ours, [feed] if twice is None else [feed, twice], error)
        return
    if any(np.issubdtype(o.dtype, np.floating) and np.isnan(o).any() for o in outputs):
        raise SpikecError(
            "the model itself gives NaN",
            where=str(program.source),
            fix="check the export against its framework",
        )
    if original == model:
        text = "the original's types cannot be fed; the normalised graph runs, compared with nothing"
        program.tell("SPK303", program.source.name, text)
    else:
        _compare(program, outputs, ours.run(None, feed))
    if twice is not None:
        try:
            theirs.run(None, twice)
        except SpikecError as error:
            text = f"the model itself does not run at twice the batch: {error.why}"
            program.tell("SPK301", program.source.name, text)


def _instead(program: Program, theirs: Stream, ours: Stream, feeds: list[Feed], refused: SpikecError) -> None:
    """The original does not run: raises its error when the normalised graph does not either, or when its
    types contradict each other, which only widening them to float32 hid. It may run at
    twice the batch (ONNX Runtime 1.2x takes no rotary cache for one sequence) and be compared there."""
    try:
        ours.run(None, feeds[0])
    except SpikecError:
        raise refused from None
    if any(word in refused.why for word in ILL_TYPED):
        raise SpikecError(
            "has operators whose types do not fit together",
            where=str(program.source),
            why=refused.why,
            fix="put a Cast before the node named, or export it again",
        )
    against = "nothing"
    if len(feeds) > 1:
        try:
            outputs = theirs.run(None, feeds[1])
        except SpikecError:
            pass
        else:
            _compare(program, outputs, ours.run(None, feeds[1]))
            against = "it at twice the batch, where it does run"
    text = (
        f"the original does not run: {refused.why or refused.what}; the normalised graph does, compared with "
    )
    program.tell("SPK303", program.source.name, text + against)


def _compare(program: Program, outputs: list[np.ndarray], ours: list[np.ndarray]) -> None:
    """Raises SpikecError when normalisation changed the numbers by more than rounding does."""
    bound = rounding(program.census)
    share = 1.0 if bound == EXACT else ROUTED
    error = max((difference(a, b, share) for a, b in zip(outputs, ours, strict=True)), default=0.0)
    program.settings["normalisation"] = {
        "compared": "the outputs of the original and of the normalised graph, on one calibration input",
        "error": error,
        "bound": bound,
    }
    if not error <= bound:
        raise SpikecError(
            "normalisation changed the model's numbers",
            where=str(program.source),
            why=f"relative difference {error:.3g} on a calibration input, where {bound:.3g} is rounding",
            fix="this is a bug in spikec: report it with the model",
        )


def difference(a: np.ndarray, b: np.ndarray, share: float = 1.0) -> float:
    """|a - b| / |a| over the whole tensor, or over the share of its rows that differ least; infinite when
    shapes or infinities differ."""
    if a.shape != b.shape:
        return math.inf
    a, b = (np.atleast_1d(x).astype(np.float64) for x in (a, b))
    finite = np.isfinite(a)
    if not np.array_equal(a[~finite], b[~finite]):
        return math.inf
    gaps = np.sort(np.sum((np.where(finite, a, 0) - np.where(finite, b, 0)) ** 2, -1), axis=None)
    size = math.sqrt(np.sum(a[finite] ** 2))
    gap = math.sqrt(gaps[: math.ceil(share * gaps.size)].sum())
    return gap / size if size else gap


def rounding(census: Census) -> float:
    """How far apart two right ways to compute a model of these types may come out."""
    if any(
        word in op for op in census.ops for word in ("Quantize", "QLinear", "Integer", "NBits", "QAttention")
    ):
        return 0.1
    return max((ROUNDING.get(kind, EXACT) for kind in census.weights), default=EXACT)


ILL_TYPED = ("bound to different types", "does not match expected type")
"""What ONNX Runtime says of a file that is wrong, rather than of what it has no kernels for."""
EXACT = 1e-3
"""Relative difference, of float32: a hundred times what thirty blocks add up to."""
ROUNDING = {"float16": 2e-2, "bfloat16": 1e-1}
ROUTED = 0.9
"""Rows that are compared at a lower precision: there a router may choose another expert for some tokens."""
