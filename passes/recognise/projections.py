"""The linear layers around an attention: which make its queries, keys and values, and which reads its output.

Asked for by what replaces an attention whole (`rewrite/ssa.py`), which must know where it begins and ends.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from spikec.ir import graph as graphs
from spikec.ir import nominal as nominals
from spikec.ir import numeric
from spikec.ir.diagnostics import SpikecError
from spikec.ir.nominal import Nominal
from spikec.ir.program import Finding, Program

LARGEST = 1 << 22
"""Elements of an output worth sending indices through."""
SPELLINGS = {"additive", "bool", "none"}
"""How a mask is written, beside what it hides."""


@dataclass(frozen=True)
class Projections:
    """One attention. `weighted`: its linear layers "q", "k", "v", "o"; `currents`: what its two products
    read, queries and values [B, H, S, d], keys [B, H, d, S]; `replaced`: products and softmax."""

    attention: Finding
    weighted: dict[str, Finding]
    currents: dict[str, gs.Tensor]
    replaced: tuple[Finding, ...]
    causal: bool

    @property
    def context(self) -> Finding:
        """The product with the values."""
        return self.attention.facts["context"]

    @property
    def heads(self) -> int:
        return int(self.attention.facts["heads"])

    @property
    def key_heads(self) -> int:
        return int(self.attention.facts["kv_heads"])

    def repeated(self, values: np.ndarray, axis: int = 0) -> np.ndarray:
        """What belongs to key heads, for each query head."""
        times = self.heads // self.key_heads
        if self.attention.facts["grouping"] == "interleaved":
            return np.concatenate([values] * times, axis)
        return np.repeat(values, times, axis)


def projections(program: Program, attention: Finding) -> Projections:
    """Raises SpikecError, saying what stands in the way, unless all of it is known."""
    nominal: Nominal = program.settings["nominal"]
    facts = attention.facts
    scores, context = facts["scores"], facts["context"]
    currents = {"q": scores.sources[0], "k": scores.sources[1], "v": context.sources[1]}
    hidden = facts["mask"] - SPELLINGS
    layers = {id(f.nodes[0]): f for f in program.of("linear")}
    for wrong, why in (
        (facts["unproved"], "; ".join(facts["unproved"])),
        (facts["more_scores"], "its scores are a sum of several products"),
        (facts["extra_uses"], f"its scores or weights are read elsewhere: {', '.join(facts['extra_uses'])}"),
        (facts["past"], "it has a cache of keys; give a model without one"),
        (
            hidden not in ({"causal"}, set()),
            f"it has a {' and '.join(sorted(hidden))} mask, not a causal one alone",
        ),
        (context.sources[0] is not facts["softmax"].result, "its weights are changed before the values"),
    ):
        if wrong:
            raise _stands(program, attention, why)
    weighted = {kind: _made_by(program, attention, nominal, x, layers) for kind, x in currents.items()}
    if len({id(f) for f in weighted.values()}) < 3:
        raise _stands(program, attention, "one product makes several of queries, keys and values")
    weighted["o"] = _read_by(program, attention, context.result, layers)
    _check_layout(program, attention, nominal, currents, weighted["o"].sources[0])
    return Projections(
        attention, weighted, currents, (scores, facts["softmax"], context), hidden == {"causal"}
    )


def _stands(program: Program, attention: Finding, why: str) -> SpikecError:
    return SpikecError(
        f"attention {attention.name!r} cannot be replaced by a trained one",
        where=str(program.source),
        why=why,
        fix="export it with separate q, k, v and output projections and a causal mask or none",
    )


def _made_by(
    program: Program, attention: Finding, nominal: Nominal, tensor: gs.Tensor, layers: dict[int, Finding]
) -> Finding:
    """The one linear layer that a tensor comes from, with no other product in between."""
    found, stack, seen = {}, [tensor], set()
    while stack:
        node = graphs.producer(stack.pop())
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        if id(node) in layers:
            found[id(node)] = layers[id(node)]
        elif node.op in nominals.PRODUCTS:
            raise _stands(
                program, attention, f"{node.op} {node.name!r} stands between it and its projections"
            )
        else:
            stack.extend(i for i in node.inputs if nominal.is_data(i))
    if len(found) != 1:
        raise _stands(program, attention, f"{tensor.name!r} comes from {len(found)} linear layers, not one")
    return next(iter(found.values()))


def _read_by(program: Program, attention: Finding, result: gs.Tensor, layers: dict[int, Finding]) -> Finding:
    """The one linear layer that reads the attention's output, moved at most."""
    tensor = result
    for _ in range(16):
        readers = [node for node in tensor.outputs if node.op not in ("Shape", "Size")]
        if len(readers) != 1 or readers[0].op not in (*numeric.MOVES, "MatMul"):
            break
        if id(readers[0]) in layers:
            return layers[id(readers[0])]
        tensor = readers[0].outputs[0]
    raise _stands(program, attention, "its output is not read by one linear layer alone")


def _check_layout(
    program: Program, attention: Finding, nominal: Nominal, currents: dict[str, gs.Tensor], site: gs.Tensor
) -> None:
    """Heads are the second of four axes, and the output projection reads them side by side."""
    heads, result = attention.facts["heads"], attention.facts["context"].result
    for tensor in (*currents.values(), result):
        shape = nominal.shape(tensor)
        if shape is None or len(shape) != 4 or shape[1] != heads:
            raise _stands(program, attention, f"{tensor.name!r} is {shape}, not [batch, {heads} heads, ...]")
    shape = nominal.shape(result) or ()
    if math.prod(shape) > LARGEST:
        raise _stands(program, attention, "its output is too large to follow")
    marks = np.arange(math.prod(shape), dtype=np.float64).reshape(shape)
    seen = nominal.evaluate(site, {id(result): marks})
    side_by_side = marks.transpose(0, 2, 1, 3).reshape(shape[0], shape[2], -1)
    if seen is None or seen.shape != side_by_side.shape or not (seen == side_by_side).all():
        raise _stands(program, attention, "its heads are not put side by side before the output projection")
