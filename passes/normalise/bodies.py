"""A subgraph's nodes in the place of the node that holds it: spliced in as they are, or copied."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_graphsurgeon as gs

from spikec.ir.order import bodies
from spikec.ir.program import Program

from .rewiring import detach, redirect


class Namer:
    """Gives the tensors and nodes of a body names that the graph around it does not have."""

    def __init__(self, graph: gs.Graph) -> None:
        self.tensors: dict[str, int] = {}
        self.nodes: set[str] = set()
        for node in graph.nodes:
            self.nodes.add(node.name)
            for tensor in (*node.inputs, *node.outputs):
                self.tensors.setdefault(tensor.name, id(tensor))
        for tensor in (*graph.inputs, *graph.outputs):
            self.tensors.setdefault(tensor.name, id(tensor))

    def tensor(self, tensor: gs.Tensor, prefix: str) -> None:
        if tensor.name and self.tensors.setdefault(tensor.name, id(tensor)) != id(tensor):
            name = f"{prefix}/{tensor.name}"
            while name in self.tensors:
                name += "'"
            tensor.name = name
            self.tensors[name] = id(tensor)

    def node(self, node: gs.Node, prefix: str) -> None:
        name = node.name or f"{node.op}#{node.outputs[0].name}"
        if not node.name or name in self.nodes:
            name = f"{prefix}/{name}"
        while name in self.nodes:
            name += "'"
        node.name = name
        self.nodes.add(name)


def splice(
    program: Program, graph: gs.Graph, node: gs.Node, made: Sequence[gs.Node], results: list[gs.Tensor]
) -> None:
    """`made` take the node's place in `graph`, `results` the place of its outputs."""
    namer, nodes = Namer(graph), list(made)
    inside = {id(n) for n in nodes}
    for inner in nodes:
        namer.node(inner, node.name)
        program.origin.setdefault(inner.name, program.origin.get(node.name, node.name))
        for tensor in (*inner.inputs, *inner.outputs):
            if isinstance(tensor, gs.Constant) or any(id(n) in inside for n in tensor.inputs):
                namer.tensor(tensor, node.name)
    leaving = {id(tensor) for tensor in graph.outputs}
    outputs = list(node.outputs)
    detach(node)
    for output, result in zip(outputs, results, strict=False):
        if not output.name:
            continue
        maker = next((n for n in result.inputs if id(n) in inside), None)
        if id(output) not in leaving:
            redirect(output, result)
        elif maker is not None and id(result) not in leaving:
            index = next(i for i, o in enumerate(maker.outputs) if o is result)
            redirect(result, output)
            list.__setitem__(maker.outputs, index, output)
            list.append(output.inputs, maker)
        else:
            nodes.append(gs.Node("Identity", f"{output.name}/passed", {}, [result], [output]))
    place = next(i for i, other in enumerate(graph.nodes) if other is node)
    graph.nodes[place : place + 1] = nodes


def copied(nodes: Sequence[gs.Node], mapping: dict[int, gs.Tensor], suffix: str) -> list[gs.Node]:
    """The nodes again, reading what `mapping` says instead; it learns the tensors they make."""
    made = []
    for node in nodes:
        for output in node.outputs:
            if output.name:
                mapping[id(output)] = gs.Variable(f"{output.name}{suffix}", output.dtype, output.shape)
        attributes = {
            key: copied_graph(value, mapping, suffix) if isinstance(value, gs.Graph) else value
            for key, value in node.attrs.items()
        }
        made.append(
            gs.Node(
                node.op,
                f"{node.name}{suffix}" if node.name else "",
                attributes,
                [mapping.get(id(i), i) for i in node.inputs],
                [mapping.get(id(o), o) for o in node.outputs],
                domain=node.domain,
            )
        )
    return made


def copied_graph(graph: gs.Graph, mapping: dict[int, gs.Tensor], suffix: str) -> gs.Graph:
    """A graph of its own; weights are shared."""
    for tensor in graph.inputs:
        mapping[id(tensor)] = gs.Variable(f"{tensor.name}{suffix}", tensor.dtype, tensor.shape)
    nodes = copied(graph.nodes, mapping, suffix)
    return gs.Graph(
        nodes,
        [mapping[id(t)] for t in graph.inputs],
        [mapping.get(id(t), t) for t in graph.outputs],
        name=graph.name,
        opset=graph.opset,
        import_domains=graph.import_domains,
        ir_version=graph.ir_version,
    )


def holds_body(graph: gs.Graph) -> list[gs.Node]:
    """The graph's own nodes of control flow."""
    return [n for n in graph.nodes if n.op in ("If", "Loop", "Scan") and any(True for _ in bodies_of(n))]


def bodies_of(node: gs.Node) -> list[gs.Graph]:
    return [value for value in node.attrs.values() if isinstance(value, gs.Graph)]


def size(graph: gs.Graph) -> int:
    return sum(len(body.nodes) for body in bodies(graph))
