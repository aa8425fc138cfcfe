"""Greedy text with a cache is the text without it, token by token, spiking or not, and that of the same model
exported without a cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from exports import matrix

from spikec.compile import Settings, compile_model
from spikec.ir.inputs import feed_tokens
from spikec.runtime.generate import generate, presents
from spikec.runtime.session import Compiled, run

DECODERS = [name for name in matrix.NAMES if name.endswith("-past") and "_past" not in name]
WITH_PAST = sorted({name.partition("-")[0]: name for name in DECODERS}.values())
"""One of each architecture that was exported as a step of generation."""
PROMPTS = ([5, 17, 3], [88], [40, 2, 9, 61, 33, 7, 12])
COUNT = 9
Compile = Callable[[str], Compiled]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compile]:
    root = tmp_path_factory.mktemp("compiled")

    @cache
    def make(name: str) -> Compiled:
        onnx.save(matrix.load(name), root / f"{name}.onnx")
        compile_model(root / f"{name}.onnx", root / name, Settings(timesteps=16))
        return Compiled(root / name)

    yield make


def test_enough_architectures() -> None:
    assert {"gpt2", "llama", "qwen3", "opt"} <= {name.partition("-")[0] for name in WITH_PAST}


@pytest.mark.parametrize("name", WITH_PAST)
def test_cache_changes_no_token(compiled: Compile, name: str) -> None:
    models = [compiled(n) for n in (name, name.removesuffix("-past")) if n in matrix.NAMES]
    assert [presents(model.inputs) is not None for model in models] == [True, False][: len(models)]
    for which in ("ann", "packed", "unrolled"):
        ways = [(models[0], True), (models[0], False), *((model, True) for model in models[1:])]
        texts = [[*texts_of(model, which, with_cache)] for model, with_cache in ways]
        assert all(text == texts[0] for text in texts)


def test_a_merged_decoder_goes_on_from_its_cache(tmp_path: Path) -> None:
    alone = matrix.load("gpt2-optimum18-sdpa-past")
    onnx.save(alone, tmp_path / "alone.onnx")
    onnx.save(merged(alone), tmp_path / "merged.onnx")
    texts = []
    for name in ("alone", "merged"):
        compile_model(tmp_path / f"{name}.onnx", tmp_path / name, Settings(timesteps=16))
        texts += [[*texts_of(Compiled(tmp_path / name), which, True)] for which in ("ann", "packed")]
    assert all(text == texts[0] for text in texts)


def merged(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in both branches of an If, as optimum merges a first step and later ones into one file."""
    outer = {value.name for value in (*model.graph.input, *model.graph.initializer)} | {""}

    def branch(prefix: str) -> onnx.GraphProto:
        graph = onnx.GraphProto(name=prefix)
        for node in model.graph.node:
            inside = graph.node.add()
            inside.CopyFrom(node)
            inside.name = prefix + node.name
            inside.input[:] = [name if name in outer else prefix + name for name in node.input]
            inside.output[:] = [prefix + name for name in node.output]
        for value in model.graph.output:
            graph.output.add().CopyFrom(value)
            graph.output[-1].name = prefix + value.name
        return graph

    choice = onnx.helper.make_node(
        "If",
        ["use_cache_branch"],
        [value.name for value in model.graph.output],
        then_branch=branch("later/"),
        else_branch=branch("first/"),
    )
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.node[:]
    del result.graph.value_info[:]
    result.graph.node.append(choice)
    flag = onnx.helper.make_tensor_value_info("use_cache_branch", onnx.TensorProto.BOOL, [1])
    result.graph.input.append(flag)
    return result


def texts_of(model: Compiled, which: str, with_cache: bool) -> Iterator[list[int]]:
    session = model.session(which)
    for prompt in PROMPTS:
        text = list(generate(session, model.inputs, prompt, COUNT, cache=with_cache))
        assert len(text) == COUNT
        yield text


@pytest.mark.parametrize("which", ["packed", "unrolled"])
@pytest.mark.parametrize("name", WITH_PAST)
def test_cache_changes_no_logit(compiled: Compile, name: str, which: str) -> None:
    model = compiled(name)
    session, pairs = model.session(which), presents(model.inputs)
    ids = np.random.default_rng(0).integers(3, model.vocabulary or 3, (2, 11))
    whole = run(session, feed_tokens(model.inputs, ids))
    first = run(session, feed_tokens(model.inputs, ids[:, :7]))
    past = {name: first[present] for name, present in pairs.items()}
    rest = run(session, feed_tokens(model.inputs, ids[:, 7:], past))
    np.testing.assert_allclose(rest["logits"], whole["logits"][:, 7:], atol=1e-4)
    for present in pairs.values():
        np.testing.assert_allclose(rest[present], whole[present], atol=1e-4)
