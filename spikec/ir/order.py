"""The order of nodes: which must come first, one canonical order whatever the file's, and what is needed at
all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import onnx_graphsurgeon as gs

from .diagnostics import SpikecError


def producer(tensor: gs.Tensor) -> gs.Node | None:
    return tensor.inputs[0] if tensor.inputs else None


def subgraphs(node: gs.Node) -> list[gs.Graph]:
    """The node's own bodies (If, Loop, Scan), by name of the attribute."""
    keys = [key for key, value in node.attrs.items() if isinstance(value, gs.Graph)]
    return [node.attrs[key] for key in sorted(keys)]


def subgraph_inputs(node: gs.Node) -> Iterator[gs.Tensor]:
    """Outer values that a node's subgraphs (If, Loop, Scan) read."""
    stack = subgraphs(node)[::-1]
    while stack:
        body = stack.pop()
        for inner in body.nodes:
            yield from inner.inputs
        yield from body.outputs
        stack.extend(graph for inner in reversed(body.nodes) for graph in reversed(subgraphs(inner)))


def bodies(graph: gs.Graph) -> Iterator[gs.Graph]:
    """The graph and every graph inside it, outer ones first."""
    stack = [graph]
    while stack:
        current = stack.pop()
        yield current
        stack.extend(body for node in reversed(current.nodes) for body in reversed(subgraphs(node)))


def sort(graph: gs.Graph) -> None:
    """Orders nodes so that producers come first: as the outputs, in their order, need them (depth first).

    The order is a matter of the graph alone: whatever order the nodes had, the result is the same.
    """
    for body in bodies(graph):
        _sort(body)


def _sort(graph: gs.Graph) -> None:
    inside = {id(node) for node in graph.nodes}
    results = [maker for tensor in graph.outputs if (maker := producer(tensor)) is not None]
    unused = sorted(graph.nodes, key=lambda node: [tensor.name for tensor in node.outputs])
    order: list[gs.Node] = []
    begun: set[int] = set()
    finished: set[int] = set()
    for root in (*results, *unused):
        if id(root) in begun or id(root) not in inside:
            continue
        begun.add(id(root))
        stack = [(root, _makers(root))]
        while stack:
            node, makers = stack[-1]
            maker = next(makers, None)
            if maker is None:
                stack.pop()
                finished.add(id(node))
                order.append(node)
            elif id(maker) in inside and id(maker) not in begun:
                begun.add(id(maker))
                stack.append((maker, _makers(maker)))
            elif id(maker) in inside and id(maker) not in finished and maker is not node:
                raise SpikecError("the graph has a cycle", fix="export the model again")
    graph.nodes[:] = order


def _makers(node: gs.Node) -> Iterator[gs.Node]:
    for tensor in node.inputs:
        yield from tensor.inputs
    if any(isinstance(value, gs.Graph) for value in node.attrs.values()):
        for tensor in subgraph_inputs(node):
            yield from tensor.inputs


def prune(graph: gs.Graph) -> None:
    """Removes nodes that no output needs (a custom node whose output is unused would run otherwise)."""
    needed, stack = set(), list(graph.outputs)
    while stack:
        maker = producer(stack.pop())
        if maker is not None and id(maker) not in needed:
            needed.add(id(maker))
            stack.extend([*maker.inputs, *subgraph_inputs(maker)])
    unneeded = [node for node in graph.nodes if id(node) not in needed]
    graph.nodes[:] = [node for node in graph.nodes if id(node) in needed]
    gone = {id(node) for node in unneeded}
    for tensor in {id(tensor): tensor for node in unneeded for tensor in node.inputs}.values():
        # all at once: taking one node out of a long list of readers looks at every node before it
        list.__setitem__(tensor.outputs, slice(None), [n for n in tensor.outputs if id(n) not in gone])
    for node in unneeded:
        list.clear(node.inputs)
        node.outputs.clear()


def canonicalise(graph: gs.Graph) -> None:
    """Makes everything that a pass may see a matter of the graph, not of the order in its file."""
    name_nodes(graph)
    sort(graph)
    position: dict[int, int] = {}
    for body in bodies(graph):
        for node in body.nodes:
            position[id(node)] = len(position)
            for key in sorted(node.attrs):
                node.attrs[key] = node.attrs.pop(key)
    seen: set[int] = set()
    for body in bodies(graph):
        for node in body.nodes:
            for tensor in node.inputs:
                if id(tensor) not in seen:
                    seen.add(id(tensor))
                    list.sort(tensor.outputs, key=lambda user: position[id(user)])


def name_nodes(graph: gs.Graph) -> None:
    """Gives every node a name of its own, after its result: decisions and errors are told by it."""
    given = Counter(node.name for node in graph.nodes)
    taken = set(given)
    for node in graph.nodes:
        if not node.name or given[node.name] > 1:
            result = next((tensor.name for tensor in node.outputs if tensor.name), "")
            node.name = f"{node.name or node.op}#{result}"
            while node.name in taken:
                node.name += "'"
            taken.add(node.name)
