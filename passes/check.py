"""Is the model sound before we touch it? Finite weights, and ONNX Runtime can run it at batch 1 and 2."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spikec.ir import graph as graphs
from spikec.ir.diagnostics import SpikecError
from spikec.ir.inputs import Feed
from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Diagnostic, Program
from spikec.ir.session import reference_session
from spikec.ir.weights import array

CHUNK = 1 << 24


@compiler_pass()
def check_weights(program: Program) -> None:
    for constant in graphs.constants(program.graph):
        values = array(constant)
        if not np.issubdtype(values.dtype, np.floating):
            continue
        flat = values.reshape(-1)
        for start in range(0, flat.size, CHUNK):
            part = flat[start : start + CHUNK]
            if not np.isfinite(part).all() and not _is_mask(constant.name, part):
                kind = "NaN" if np.isnan(part).any() else "Inf"
                raise SpikecError(
                    f"weight {constant.name!r} holds {kind}",
                    where=str(program.source),
                    why="no quantity can be compared with it",
                    fix="export the model again from a sound checkpoint",
                )


def _is_mask(name: str, values: np.ndarray) -> bool:
    """A constant additive mask: nothing but zeros and -Inf; or the lone -Inf it is made from."""
    return bool(np.all((values == 0) | np.isneginf(values)))


@compiler_pass(after=["check_weights"])
def check_runs(program: Program, *, model: Path, feeds: list[Feed]) -> None:
    session = reference_session(model)
    first = {name: value[:1, :8] if value.ndim == 2 else value[:1] for name, value in feeds[0].items() if value.ndim}
    feed = {**feeds[0], **first}
    for batch in (1, 2):
        try:
            outputs = session.run(None, {name: np.concatenate([v] * batch) if v.ndim else v for name, v in feed.items()})
        except Exception as error:
            reason = str(error).splitlines()[0][:200]
            if batch == 2:
                program.diagnostics.append(
                    Diagnostic("warning", str(program.source), f"the model itself does not run at batch 2: {reason}")
                )
                return
            raise SpikecError(
                "ONNX Runtime cannot run this model, before spikec touched it", where=str(program.source), why=reason
            ) from error
        if any(np.issubdtype(o.dtype, np.floating) and np.isnan(o).any() for o in outputs):
            raise SpikecError("the model itself gives NaN", where=str(program.source), fix="check the export against its framework")
