"""A record of every finding in plain words and numbers, made before a rewrite changes the graph under it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Finding, Program


@compiler_pass(after=["classify"])
def describe(program: Program) -> None:
    """`program.statistics["findings"]`, for `explain` and the report."""
    program.statistics["findings"] = [_record(finding) for finding in program.findings]


def _record(finding: Finding) -> dict[str, Any]:
    return {
        "kind": finding.kind,
        "label": finding.facts["label"],
        "block": finding.block,
        "sources": [_named(source) for source in finding.sources],
        "nodes": [[node.name, _spelled(node)] for node in finding.nodes],
        "result": finding.name,
        "error": float(finding.error),
        "facts": {key: plain(value) for key, value in finding.facts.items() if _told(key, value)},
    }


def _told(key: str, value: Any) -> bool:
    return key != "label" and not callable(value)


def _spelled(node: gs.Node) -> str:
    outputs = ", ".join(o.name for o in node.outputs if o.name)
    return f"{outputs} = {node.op}({', '.join(map(_named, node.inputs))})"


def _named(tensor: gs.Tensor) -> str:
    """An input that was left out has no name."""
    return str(tensor.name or "-")


def plain(value: Any) -> Any:
    """A fact as JSON can hold it: tensors, nodes and findings by name, arrays by type and range."""
    if isinstance(value, (str, bool, int, float)) or value is None:
        return value
    if isinstance(value, gs.Constant):
        return f"{value.name} {value.dtype}{list(value.shape)}"
    if isinstance(value, (gs.Tensor, gs.Node, Finding)):
        return value.name
    if isinstance(value, (np.ndarray, np.generic)):
        return _summary(np.asarray(value))
    if is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items() if not callable(inner)}
    if isinstance(value, (set, frozenset)):
        value = sorted(value, key=str)
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value if not callable(inner)]
    return type(value).__name__


def _summary(values: np.ndarray) -> Any:
    if values.size == 1:
        return values.reshape(()).item()
    about = f"{values.dtype}{list(values.shape)}"
    if values.size and np.issubdtype(values.dtype, np.number) and not np.iscomplexobj(values):
        about += f" from {float(values.min()):.4g} to {float(values.max()):.4g}"
    return about
