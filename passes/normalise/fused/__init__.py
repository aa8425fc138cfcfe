"""Every fused operator is taken apart into plain ones, so that there is one recogniser.

A form is a function of `Parts` that builds the plain nodes and returns what the outputs become, or raises
`Kept`: then the node stays, and the user is told why.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_graphsurgeon as gs

from spikec.ir import graph as graphs
from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Program

from . import activations, attention, experts, group_query, norms, products, rotary, standard_attention
from .infer import infer
from .parts import Kept, Parts, Results, Surroundings
from .whole import WHOLE

Form = Callable[[Parts], Results]

FORMS: dict[tuple[str, str], Form] = {
    **activations.FORMS, **attention.FORMS, **experts.FORMS, **group_query.FORMS, **norms.FORMS,
    **products.FORMS, **rotary.FORMS, **standard_attention.FORMS,
}  # fmt: skip
"""Every operator that is taken apart, by domain and name."""


@compiler_pass(after=["take_constants", "modernise", "widen"])
def take_apart(program: Program) -> None:
    every = _graphs(program.graph)
    leaving = {id(tensor) for graph in every for tensor in graph.outputs}
    for graph in every:
        if any(_key(node) in FORMS or _key(node) in WHOLE for node in graph.nodes):
            _take_apart(program, graph, leaving)


def _take_apart(program: Program, graph: gs.Graph, leaving: set[int]) -> None:
    """In order, so that every fused node's inputs have their types before it is looked at."""
    around = Surroundings(leaving)
    nodes: list[gs.Node] = []
    for node in graph.nodes:
        form = FORMS.get(_key(node))
        if form is None:
            if _key(node) in WHOLE:
                program.tell("SPK401", node.name, f"{node.op} kept whole: {WHOLE[_key(node)]}")
            infer(node, program.graph.opset)
            nodes.append(node)
            continue
        parts = Parts(program, node, around)
        try:
            results = list(form(parts))
            results += [None] * (len(node.outputs) - len(results))
            for index, result in enumerate(results[: len(node.outputs)]):
                if result is None and parts.wanted(index):
                    raise Kept("SPK403", f"its output {index} is read, and has no plain form")
        except Kept as kept:
            parts.undo()
            program.tell(kept.code, node.name, f"{node.op} kept whole: {kept.reason}")
            nodes.append(node)
            continue
        parts.finish(results)
        nodes.extend(parts.nodes)
    graph.nodes[:] = nodes
    graphs.prune(graph)
    graphs.sort(graph)


def _key(node: gs.Node) -> tuple[str, str]:
    return (node.domain if node.domain not in (None, "ai.onnx") else "", node.op)


def _graphs(graph: gs.Graph) -> list[gs.Graph]:
    """The graph and the subgraphs of its control flow."""
    found, stack = [], [graph]
    while stack:
        current = stack.pop()
        found.append(current)
        for node in current.nodes:
            stack.extend(value for value in node.attrs.values() if isinstance(value, gs.Graph))
    return found
