"""Is the model sound before we touch it? Finite weights, and ONNX Runtime can run it at batch 1 and 2."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spikec.ir import graph as graphs
from spikec.ir.diagnostics import SpikecError
from spikec.ir.inputs import Feed, doubled
from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Program
from spikec.ir.session import reference_session
from spikec.ir.weights import array

CHUNK = 1 << 24


@compiler_pass(after=["infer_types"])
def check_weights(program: Program) -> None:
    for constant in graphs.constants(program.graph):
        values = array(constant)
        if not np.issubdtype(values.dtype, np.floating):
            continue
        flat = values.reshape(-1)
        for start in range(0, flat.size, CHUNK):
            part = flat[start : start + CHUNK]
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
def check_runs(program: Program, *, original: Path, feeds: list[Feed]) -> None:
    session = reference_session(original, str(program.source))
    feed = feeds[0]
    outputs = session.run(None, feed)
    if any(np.issubdtype(o.dtype, np.floating) and np.isnan(o).any() for o in outputs):
        raise SpikecError(
            "the model itself gives NaN",
            where=str(program.source),
            fix="check the export against its framework",
        )
    twice = doubled(program.settings["inputs"], feed)
    if twice is None:
        return
    try:
        session.run(None, twice)
    except SpikecError as error:
        text = f"the model itself does not run at twice the batch: {error.why}"
        program.tell("SPK301", program.source.name, text)
