"""Which products are inside transformer blocks, told by residual chains; and which block is which."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest

from spikec.ir.program import Program
from spikec.report import block_outputs, found

Recognise = Callable[..., Program]

D = 8
X = f"float[2, 6, {D}]"
RNG = np.random.default_rng(0)
GAIN = np.linspace(0.5, 2, D)


class Text:
    """A graph written piece by piece; every weight gets values when it is named."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.weights: dict[str, np.ndarray] = {"gain": GAIN}
        self.count = 0

    def add(self, text: str) -> str:
        """One node; `$` is the name of its result, which is returned."""
        self.count += 1
        name = f"t{self.count}"
        self.lines.append(f"{name} = {text}")
        return name

    def linear(self, x: str, shape: tuple[int, int] = (D, D)) -> str:
        name = f"w{len(self.weights)}"
        self.weights[name] = RNG.standard_normal(shape)
        return self.add(f"MatMul ({x}, {name})")

    def norm(self, x: str) -> str:
        return self.add(f"LayerNormalization ({x}, gain)")

    def attention(self, x: str, memory: str = "") -> str:
        q, k, v = self.linear(x), self.linear(memory or x), self.linear(memory or x)
        turned = self.add(f"Transpose <perm = [0, 2, 1]> ({k})")
        weights = self.add(f"Softmax ({self.add(f'MatMul ({q}, {turned})')})")
        return self.linear(self.add(f"MatMul ({weights}, {v})"))

    def mlp(self, x: str) -> str:
        return self.linear(self.add(f"Relu ({self.linear(x)})"))

    def sum(self, *terms: str) -> str:
        total = terms[0]
        for term in terms[1:]:
            total = self.add(f"Add ({total}, {term})")
        return total

    def program(self, recognise: Recognise, result: str, inputs: str = f"{X} x") -> Program:
        body = " ".join(self.lines)
        return recognise(f"({inputs}) => ({X} y) {{ {body} y = Identity ({result}) }}", **self.weights)


def blocks(program: Program) -> list[int]:
    return [f.block for f in program.of("attention")]


def counts(program: Program) -> tuple[int, int]:
    numbers = found(program)
    return numbers["linear"], numbers["other_linear"]


def pre_norm(t: Text, x: str) -> str:
    x = t.sum(x, t.attention(t.norm(x)))
    return t.sum(x, t.mlp(t.norm(x)))


def post_norm(t: Text, x: str) -> str:
    x = t.norm(t.sum(x, t.attention(x)))
    return t.norm(t.sum(t.mlp(x), x))


def sandwich(t: Text, x: str) -> str:
    x = t.sum(x, t.norm(t.attention(t.norm(x))))
    return t.sum(x, t.norm(t.mlp(t.norm(x))))


def parallel_left(t: Text, x: str) -> str:
    n = t.norm(x)
    return t.sum(x, t.attention(n), t.mlp(n))


def parallel_right(t: Text, x: str) -> str:
    n = t.norm(x)
    return t.sum(t.sum(t.attention(n), t.mlp(n)), x)


def parallel_two_norms(t: Text, x: str) -> str:
    return t.sum(t.sum(t.mlp(t.norm(x)), t.attention(t.norm(x))), x)


def scaled(t: Text, x: str) -> str:
    """Residual sums with a factor on the branch, as Granite's, and a stream that is cast and reshaped."""
    t.weights |= {"factor": np.array(0.5), "flat": np.array([-1, D]), "deep": np.array([2, 6, D])}
    x = t.sum(x, t.add(f"Mul ({t.attention(t.norm(x))}, factor)"))
    x = t.add(f"Reshape ({x}, flat)")
    x = t.sum(x, t.add(f"Mul ({t.mlp(t.norm(x))}, factor)"))
    return t.add(f"Reshape ({x}, deep)")


LAYERS = [pre_norm, post_norm, sandwich, parallel_left, parallel_right, parallel_two_norms, scaled]


@pytest.mark.parametrize("layer", LAYERS)
def test_a_stream_of_layers(recognise: Recognise, layer: Callable[[Text, str], str]) -> None:
    t = Text()
    x = t.linear("x")  # a projection into the stream
    for _ in range(3):
        x = layer(t, x)
    program = t.program(recognise, t.linear(t.norm(x)))
    assert counts(program) == (3 * 6, 2)
    assert blocks(program) == [0, 1, 2]
    inside = [f for f in program.findings if f.facts["label"] == "linear"]
    assert [f.block for f in inside] == sorted([0, 1, 2] * 6)
    assert list(block_outputs(program)) == ["0", "1", "2"]


def test_attention_alone_in_every_layer(recognise: Recognise) -> None:
    t, x = Text(), "x"
    for _ in range(3):
        x = t.sum(x, t.attention(t.norm(x)))
    program = t.program(recognise, x)
    assert blocks(program) == [0, 1, 2] and counts(program) == (12, 0)


def test_encoder_and_decoder(recognise: Recognise) -> None:
    """Keys and values of cross-attention are projections of the other stream, inside the decoder's block."""
    t, x, z = Text(), "x", "z"
    for _ in range(2):
        x = pre_norm(t, x)
    memory = t.norm(x)
    for _ in range(2):
        z = t.sum(z, t.attention(t.norm(z)))
        z = t.sum(z, t.attention(t.norm(z), memory))
        z = t.sum(z, t.mlp(t.norm(z)))
    program = t.program(recognise, t.linear(z), inputs=f"{X} x, {X} z")
    assert counts(program) == (2 * 6 + 2 * 10, 1)
    assert sorted(blocks(program)) == [0, 1, 2, 2, 3, 3]


def test_a_pooling_head_is_outside(recognise: Recognise) -> None:
    """A residual sum whose chain has no attention on a branch is no block."""
    t = Text()
    x = t.norm(pre_norm(t, "x"))
    t.weights["probe"] = RNG.standard_normal((2, 1, D))
    pooled = t.attention("probe", x)
    pooled = t.sum(pooled, t.mlp(t.norm(pooled)))
    t.weights["shape"] = np.array([2, 6, D])
    program = t.program(recognise, t.add(f"Expand ({pooled}, shape)"))
    assert counts(program) == (6, 6)
    assert found(program)["attention"] == 2 and found(program)["matmul_dynamic"] == 4


def test_sums_that_are_no_residuals(recognise: Recognise) -> None:
    """Two projections added up, and two embeddings: neither is computed from the other."""
    t = Text()
    a = t.sum(t.linear("x"), t.linear("z"))
    program = t.program(recognise, t.attention(a), inputs=f"{X} x, {X} z")
    assert counts(program) == (0, 6)
    assert [f.facts["fork"] for f in program.of("residual")] == [None]


def test_two_towers_and_a_projector(recognise: Recognise) -> None:
    t = Text()
    image = t.linear("z")
    for _ in range(2):
        image = pre_norm(t, image)
    image = t.mlp(image)  # the projector
    x = t.add(f"Concat <axis = 1> ({image}, x)")
    for _ in range(2):
        x = pre_norm(t, x)
    t.weights |= {"from": np.array([6]), "to": np.array([12]), "axis": np.array([1])}
    program = t.program(recognise, t.add(f"Slice ({x}, from, to, axis)"), inputs=f"{X} x, {X} z")
    assert counts(program) == (4 * 6, 3)
    assert blocks(program) == [0, 1, 2, 3]


def test_shared_layers_count_each_time(recognise: Recognise) -> None:
    t, x = Text(), "x"
    for _ in range(3):
        t.weights.setdefault("shared", RNG.standard_normal((D, D)))
        x = t.sum(x, t.attention(t.norm(x)))
        x = t.sum(x, t.add(f"MatMul ({t.norm(x)}, shared)"))
    assert counts(t.program(recognise, x)) == (3 * 5, 0)


def test_a_router_stays_dense_with_its_softmax(recognise: Recognise) -> None:
    t = Text()
    x = t.sum("x", t.attention(t.norm("x")))
    n = t.norm(x)
    scores = t.add(f"Softmax ({t.linear(n, (D, 4))})")
    t.weights["two"] = np.array([2])
    t.lines.append(f"best, chosen = TopK <axis = -1> ({scores}, two)")
    total = t.add("ReduceSum <keepdims = 1> (best, last)")
    t.weights["last"] = np.array([-1])
    program = t.program(recognise, t.sum(x, t.add(f"Mul ({t.mlp(n)}, {total})")))
    (router, softmax) = program.of("router")
    assert router.facts["label"] == "linear" and softmax.facts["label"] == "softmax"
    assert counts(program) == (4 + 1 + 2, 0) and found(program)["softmax"] == 2
    reasons = {program.decisions[f.nodes[0].name].reason for f in (router, softmax)}
    assert len(reasons) == 1 and "experts" in reasons.pop()


def test_experts_in_a_stack_count_each(recognise: Recognise) -> None:
    t = Text()
    x = t.sum("x", t.attention(t.norm("x")))
    t.weights |= {"up": RNG.standard_normal((4, D, D)), "axis": np.array([1])}
    wide = t.add(f"Unsqueeze ({t.norm(x)}, axis)")
    each = t.add(f"ReduceSum <keepdims = 0> ({t.add(f'MatMul ({wide}, up)')}, axis)")
    program = t.program(recognise, t.sum(x, each))
    assert counts(program) == (4 + 4, 0)


def test_experts_chosen_by_index_count_each(recognise: Recognise) -> None:
    t = Text()
    x = t.sum("x", t.attention(t.norm("x")))
    n = t.norm(x)
    t.weights |= {"one": np.array([1]), "up": RNG.standard_normal((4, D, D)), "axis": np.array([2])}
    t.lines.append(f"best, chosen = TopK <axis = -1> ({t.linear(n, (D, 4))}, one)")
    t.lines.append("which = Squeeze (chosen, axis)")
    rows = t.add(f"Unsqueeze ({n}, axis)")
    product = t.add(f"MatMul ({rows}, {t.add('Gather (up, which)')})")
    program = t.program(recognise, t.sum(x, t.add(f"Squeeze ({product}, axis)")))
    assert counts(program) == (4 + 1 + 4, 0)


def shuffled(lines: list[str], seed: int) -> list[str]:
    """The nodes in another order that puts producers first."""
    rng, waiting, done, order = np.random.default_rng(seed), list(lines), {"x"}, []
    makes = {line.partition(" =")[0] for line in lines}
    while waiting:
        ready = [
            line for line in waiting if set(re.findall(r"\bt\d+\b", line.partition("=")[2])) & makes <= done
        ]
        line = ready[rng.integers(len(ready))]
        waiting.remove(line)
        order.append(line)
        done.add(line.partition(" =")[0])
    return order


@pytest.mark.parametrize("layer", LAYERS)
def test_the_order_of_nodes_does_not_matter(recognise: Recognise, layer: Callable[[Text, str], str]) -> None:
    t, x = Text(), "x"
    for _ in range(2):
        x = layer(t, x)
    first, seen, lines = None, [], list(t.lines)
    for seed in range(4):
        t.lines = shuffled(lines, seed)
        program = t.program(recognise, x)
        told = [(f.kind, f.block, f.facts["label"], f.name) for f in program.findings]
        first, seen = first or told, [*seen, tuple(t.lines)]
        assert told == first
    assert len(set(seen)) > 2
