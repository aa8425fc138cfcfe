"""The one structure every pass receives: a graph, what is known about it, and what was done to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from . import codes  # noqa: F401
from . import graph as graphs
from .census import Census
from .diagnostics import Diagnostic
from .weights import derived


@dataclass(eq=False)
class Finding:
    """A region of the graph whose meaning is known: `result = kind(sources)`.

    `nodes` are the nodes the region owns; `error` is the largest difference to `kind` seen on probe inputs (0
    when the operator says it itself); `facts` holds what a rewrite needs (axis, epsilon, gamma, weight ...).
    """

    kind: str
    sources: tuple[gs.Tensor, ...]
    result: gs.Tensor
    nodes: tuple[gs.Node, ...]
    facts: dict[str, Any] = field(default_factory=dict)
    error: float = 0.0
    block: int = -1

    @property
    def name(self) -> str:
        return self.result.name


@dataclass(frozen=True)
class Certificate:
    """What was compared for one rewrite, on what, and how far apart the two sides were."""

    where: str
    kind: str
    operator: str
    compared: str
    samples: int
    max_error: float
    bound: float

    @property
    def holds(self) -> bool:
        return self.max_error <= self.bound


@dataclass(frozen=True)
class Decision:
    """What became of one node: spiking, linear or host, and why; `macs` None when unknown. `origin` names the
    node of the user's file that it came from, when normalisation took that apart."""

    node: str
    op: str
    verdict: str
    reason: str
    block: int = -1
    macs: int | None = 0
    origin: str = ""


@dataclass(eq=False)
class Program:
    """A model on its way through the compiler."""

    source: Path
    graph: gs.Graph
    findings: list[Finding] = field(default_factory=list)
    decisions: dict[str, Decision] = field(default_factory=dict)
    certificates: list[Certificate] = field(default_factory=list)
    diagnostics: list[Diagnostic] = field(default_factory=list)
    functions: dict[str, onnx.FunctionProto] = field(default_factory=dict)
    statistics: dict[str, Any] = field(default_factory=dict)
    neurons: dict[str, Any] = field(default_factory=dict)
    """How every site is encoded (`passes.calibrate.neuron.Neuron`), by its name."""
    settings: dict[str, Any] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)
    """Which node of the user's file (by name) a node that normalisation made stands for, by its name."""
    timings: list[dict[str, Any]] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)

    @property
    def census(self) -> Census:
        """What the file held before anything was changed."""
        census: Census = self.graph.__dict__.setdefault("spikec_census", Census())
        return census

    @classmethod
    def load(cls, path: str | Path) -> Program:
        """Raises SpikecError when `path` is not a readable ONNX model with all its data."""
        path, started = Path(path), time.perf_counter()
        return cls(path, graphs.load(path), started=started)

    def of(self, *kinds: str) -> list[Finding]:
        """Findings of these kinds, in graph order."""
        return [finding for finding in self.findings if finding.kind in kinds]

    def owner(self) -> dict[int, Finding]:
        """Which finding owns a node, by id of the node."""
        return {id(node): finding for finding in self.findings for node in finding.nodes}

    def constant(self, name: str, values: np.ndarray) -> gs.Constant:
        """A shared constant: the same name gives the same tensor."""
        pool = self.graph.__dict__.setdefault("spikec_constants", {})
        if name not in pool:
            pool[name] = gs.Constant(name, np.asarray(values, order="C"))
        return pool[name]

    def derive(
        self,
        name: str,
        sources: list[gs.Constant],
        function: Callable[..., np.ndarray],
        shape: Sequence[int],
        dtype: Any,
    ) -> gs.Constant:
        """A shared constant whose values are made from others' only when they are written or looked at."""
        pool = self.graph.__dict__.setdefault("spikec_constants", {})
        if name not in pool:
            pool[name] = derived(name, sources, function, shape, dtype)
        return pool[name]

    def node(
        self, op: Any, inputs: list[gs.Tensor], name: str, dtype: Any, shape: Any = None, **attributes: Any
    ) -> gs.Variable:
        """Adds one spiking op and its function body; returns its output."""
        op.check_attributes(attributes)
        if op.name not in self.functions:
            self.functions[op.name] = op.function_proto()
        output = gs.Variable(name, dtype=dtype, shape=shape)
        self.graph.nodes.append(
            gs.Node(op.name, name=name, domain=op.domain, attrs=attributes, inputs=inputs, outputs=[output])
        )
        return output

    def replace(self, finding: Finding, value: gs.Variable, certificate: Certificate) -> None:
        """Lets `value` take the place of the finding's result everywhere; the only way to edit a graph.

        A certificate that does not hold refuses the rewrite.
        """
        self.certificates.append(certificate)
        if not certificate.holds:
            error, bound = certificate.max_error, certificate.bound
            self.refuse(finding, f"{certificate.operator} errs by {error:.3g} where {bound:.3g} is allowed")
            return
        old, new = graphs.producer(finding.result), graphs.producer(value)
        assert old is not None and new is not None
        old.outputs[old.outputs.index(finding.result)] = gs.Variable(f"{finding.name}/replaced")
        new.outputs[new.outputs.index(value)] = finding.result

    def tell(self, code: str, where: str, text: str) -> None:
        """Adds a remark for the user; `code` is one of `codes.py`."""
        self.diagnostics.append(Diagnostic(code, where, text))

    def refuse(self, finding: Finding, why: str, code: str = "SPK201") -> None:
        """Leaves a finding on host after all, and tells the user."""
        self.tell(code, finding.name, f"{finding.kind} kept on host: {why}")
        for node in finding.nodes:
            if node.name in self.decisions:
                self.decisions[node.name] = replace(self.decisions[node.name], verdict="host", reason=why)
