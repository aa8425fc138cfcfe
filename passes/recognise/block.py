"""Embeddings, residual additions, and which block of the network each finding belongs to.

A residual addition joins a value and a branch computed from it. Additions whose forks are made from each
other without a product in between form a chain: the residual stream. A product on a branch of a chain that
holds an attention is inside a block; every other one (heads, poolers, stems, projectors) is outside.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx_graphsurgeon as gs

from spikec.ir import graph as graphs
from spikec.ir import nominal as nominals
from spikec.ir.nominal import Nominal
from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Finding, Program

WEIGHTED = ("linear", "head", "dense", "router")
STREAM = 64
"""Nodes between one addition and the fork of the next: a norm spelled out, a cast, a reshape."""


@dataclass(eq=False)
class Join:
    """One residual addition: `fork` is what its branch is computed from."""

    node: gs.Node
    fork: gs.Tensor
    inside: set[int] = field(default_factory=set)
    """Ids of the nodes on the branch, from the fork to here."""
    attends: bool = False
    weighs: bool = False
    chain: int = -1
    earlier: Join | None = None
    """The addition that forks from the same value and is added to here."""


@compiler_pass(after=["recognise_attention", "recognise_rope", "recognise_norms", "recognise_activations"])
def recognise_blocks(program: Program) -> None:
    nominal: Nominal = program.settings["nominal"]
    for node in program.graph.nodes:
        table = node.inputs[0] if node.op == "Gather" else None
        if isinstance(table, gs.Constant) and nominals.is_table(nominal, table):
            facts = {"weight": table, "label": "embedding"}
            program.findings.append(Finding("embedding", (node.inputs[1],), node.outputs[0], (node,), facts))
    joins = find_joins(program, nominal)
    last = len(program.graph.nodes)
    position = nominal.position
    program.findings.sort(
        key=lambda f: (position.get(id(graphs.producer(f.result)), last), f.kind == "attention")
    )
    chain_up(nominal, joins)
    _label(program, nominal, joins)


def find_joins(program: Program, nominal: Nominal) -> list[Join]:
    """Every addition of two activations one of which, or a part of which, is computed from the other."""
    owner = program.owner()
    joins: dict[int, Join] = {}
    rows = {id(f.result) for f in program.of("embedding")}
    for node in program.graph.nodes:
        if node.op != "Add" or id(node) in owner or not any(nominal.is_activation(i) for i in node.inputs):
            continue
        if not all(nominal.is_data(i) or id(i) in rows for i in node.inputs):
            continue
        if node.inputs[0] is node.inputs[1]:
            continue
        join = _join(nominal, joins, node)
        if join is not None:
            joins[id(node)] = join
        facts = {"label": "residual", "fork": None if join is None else join.fork}
        program.findings.append(Finding("residual", tuple(node.inputs), node.outputs[0], (node,), facts))
    return list(joins.values())


def _join(nominal: Nominal, joins: dict[int, Join], node: gs.Node) -> Join | None:
    for fork, branch in (tuple(node.inputs), tuple(node.inputs)[::-1]):
        inside = _branch(nominal, fork, branch)
        if inside is not None:
            return Join(node, fork, inside)
    # x + f(x) + g(x) added up from the left: the stream forks where the first addition's does
    for first, second in (tuple(node.inputs), tuple(node.inputs)[::-1]):
        earlier = joins.get(id(graphs.producer(first)))
        if earlier is not None and (inside := _branch(nominal, earlier.fork, second)) is not None:
            return Join(node, earlier.fork, inside, earlier=earlier)
    return None


def _branch(nominal: Nominal, fork: gs.Tensor, end: gs.Tensor) -> set[int] | None:
    """Ids of the nodes on the ways from the fork to the end of a branch; None when there is no way."""
    maker = graphs.producer(fork)
    floor = -1 if maker is None else nominal.position[id(maker)]
    start = {id(user) for user in fork.outputs}
    order: list[gs.Node] = []
    seen: set[int] = set()
    stack = [end]
    while stack:
        node = graphs.producer(stack.pop())
        if node is None or id(node) in seen or nominal.position[id(node)] <= floor:
            continue
        seen.add(id(node))
        order.append(node)
        stack.extend(i for i in node.inputs if nominal.is_data(i))
    order.sort(key=lambda n: nominal.position[id(n)])
    inside: set[int] = set()
    for node in order:
        forks = id(node) in start and any(i is fork for i in node.inputs)
        if forks or any(id(graphs.producer(i)) in inside for i in node.inputs):
            inside.add(id(node))
    return inside if id(graphs.producer(end)) in inside else None


def chain_up(nominal: Nominal, joins: list[Join]) -> None:
    """Numbers the chains: an addition follows another when its fork is that one's result, norms and moves
    aside."""
    by_node = {id(join.node): index for index, join in enumerate(joins)}
    chains = Chains(len(joins))
    for index, join in enumerate(joins):
        if join.earlier is not None:
            chains.unite(by_node[id(join.earlier.node)], index)
        stack: list[gs.Tensor] = [join.fork]
        seen: set[int] = set()
        while stack and len(seen) < STREAM:
            node = graphs.producer(stack.pop())
            if node is None or id(node) in seen:
                continue
            seen.add(id(node))
            if id(node) in by_node:
                chains.unite(by_node[id(node)], index)
            elif node.op not in nominals.PRODUCTS:
                stack.extend(i for i in node.inputs if nominal.is_activation(i))
    for index, join in enumerate(joins):
        join.chain = chains.of(index)


class Chains:
    """Sets of additions that belong together; each is called by its first."""

    def __init__(self, count: int) -> None:
        self.parent = list(range(count))

    def of(self, index: int) -> int:
        while self.parent[index] != index:
            self.parent[index] = index = self.parent[self.parent[index]]
        return index

    def unite(self, one: int, other: int) -> None:
        first, second = sorted((self.of(one), self.of(other)))
        self.parent[second] = first


def _label(program: Program, nominal: Nominal, joins: list[Join]) -> None:
    """`label` linear or other_linear, the block of every finding, and of every node of the graph."""
    attentions = program.of("attention")
    context = {id(f.facts["context"].nodes[0]): f for f in attentions}
    weighted = {id(f.nodes[0]): f for f in program.findings if f.kind in WEIGHTED and _is_linear(f)}
    attending, weighing = set(context), set(weighted)
    for join in joins:
        join.attends = not join.inside.isdisjoint(attending)
        join.weighs = not join.inside.isdisjoint(weighing)
    blocks = {join.chain for join in joins if join.attends}
    number = _number([join for join in joins if join.chain in blocks])
    member: dict[int, int] = {}
    for join in joins:
        if join.chain in blocks:
            for node in join.inside:
                member.setdefault(node, number[id(join)])
            member.setdefault(id(join.node), number[id(join)])
    for key, attention in context.items():
        if key in member:
            for node in _feeding(nominal, attention, weighted):
                member.setdefault(node, member[key])
    for key, finding in weighted.items():
        finding.facts["label"] = "linear" if key in member else "other_linear"
    _spread(program, member, context, 1 + max(number.values(), default=-1))


def _is_linear(finding: Finding) -> bool:
    return finding.facts["label"] in ("linear", "head", "other_linear")


def _number(joins: list[Join]) -> dict[int, int]:
    """Block of each addition: a new one starts at an attention once the present one has had its MLP, and with
    each chain."""
    count, chain, full, attended = -1, -1, False, False
    numbers: dict[int, int] = {}
    mlps = {join.chain for join in joins if join.weighs and not join.attends}
    order: dict[int, list[Join]] = {}
    for join in joins:
        order.setdefault(join.chain, []).append(join)
    last = {id(join): index for index, join in enumerate(joins)}
    # an encoder ends before the decoder that reads it does, wherever the file puts their beginnings
    for chain, members in sorted(order.items(), key=lambda item: last[id(item[1][-1])]):
        full = attended = True
        for join in members:
            starts = join.attends and (full or (attended and chain not in mlps))
            if starts or not numbers or (full and join is members[0]):
                count += 1
                full = attended = False
            attended |= join.attends
            full |= join.weighs and not join.attends
            numbers[id(join)] = count
    return numbers


def _feeding(nominal: Nominal, attention: Finding, weighted: dict[int, Finding]) -> list[int]:
    """Products that reach an attention's queries, keys or values with no product in between: its projections,
    even of another stream (cross-attention) or of constants (relative positions)."""
    found: list[int] = []
    scores = (attention.facts["scores"], *attention.facts["more_scores"], attention.facts["context"])
    stack = [source for product in scores for source in product.sources]
    seen: set[int] = set()
    while stack:
        node = graphs.producer(stack.pop())
        if node is None or id(node) in seen or node.op == "Softmax":
            continue
        seen.add(id(node))
        if id(node) in weighted:
            found.append(id(node))
        elif node.op not in nominals.PRODUCTS:
            stack.extend(i for i in node.inputs if nominal.is_data(i))
    return found


def _spread(program: Program, member: dict[int, int], context: dict[int, Finding], free: int) -> None:
    """Blocks of the nodes outside branches: that of what they are computed from. An attention on no branch
    (pooling, or a bare one) has a block of its own."""
    for key in context:
        if key not in member:
            attention = context[key]
            owned = {key, id(attention.facts["scores"].nodes[0])}
            owned |= {id(n) for n in attention.facts["softmax"].nodes}
            member.update(dict.fromkeys(owned, free))
            free += 1
    depth: dict[int, int] = {}
    for node in program.graph.nodes:
        inherited = max((depth.get(id(graphs.producer(i)), -1) for i in node.inputs), default=-1)
        depth[id(node)] = member.get(id(node), inherited)
    program.settings["block_of"] = depth
    for finding in program.findings:
        finding.block = depth.get(id(graphs.producer(finding.result)), -1)
