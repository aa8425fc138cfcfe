"""A compiled model under any batch, length and padding, in both executions, with the library and without."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import models
import numpy as np
import pytest

from spikec.ir.inputs import feed_tokens
from spikec.runtime import library
from spikec.runtime.session import Compiled, run

KINDS = sorted(models.MAKERS)
WEIGHTS = ("fp32", "int8")

Compile = Callable[[str, str], Path]


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def some_ids(batch: int, length: int) -> np.ndarray:
    return np.random.default_rng(length).integers(0, models.VOCABULARY, (batch, length))


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (1, 33), (2, 7), (3, 33)])
@pytest.mark.parametrize("kind", KINDS)
def test_any_batch_and_length(compiled: Compile, kind: str, shape: tuple[int, int]) -> None:
    folder = Compiled(compiled(kind, "int8"))
    ids = some_ids(*shape)
    name = folder.outputs[0]
    ann, packed, unrolled = (
        run(folder.session(which), feed_tokens(folder.inputs, ids))[name]
        for which in ("ann", "packed", "unrolled")
    )
    assert ann.shape == packed.shape == (*shape, ann.shape[-1])
    assert cosine(ann, packed) > 0.999
    np.testing.assert_array_equal(packed, unrolled)


@pytest.mark.parametrize("kind", KINDS)
def test_sequences_of_a_batch_do_not_mix(compiled: Compile, kind: str) -> None:
    folder = Compiled(compiled(kind, "int8"))
    session, ids = folder.session(), some_ids(3, 9)
    together = session.run(None, feed_tokens(folder.inputs, ids))[0]
    for row, alone in enumerate(ids):
        np.testing.assert_array_equal(
            together[row], session.run(None, feed_tokens(folder.inputs, alone[None]))[0][0]
        )


def test_padding_changes_nothing_for_real_tokens(compiled: Compile) -> None:
    folder, real = Compiled(compiled("bert", "fp32")), 7
    ids, mask = some_ids(2, 12), np.ones((2, 12), np.int64)
    mask[1, real:] = 0
    for which in ("ann", "packed", "unrolled"):
        session = folder.session(which)
        padded = session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
        alone = session.run(None, feed_tokens(folder.inputs, ids[1:, :real]))[0]
        np.testing.assert_allclose(padded[1, :real], alone[0], atol=1e-5)
        mended = ids.copy()
        mended[1, real:] = 1
        again = session.run(None, {"input_ids": mended, "attention_mask": mask})[0]
        np.testing.assert_allclose(padded[1, :real], again[1, :real], atol=1e-5)
        if which == "ann":
            expected = padded
        assert cosine(expected[1, :real], padded[1, :real]) > 0.999


@pytest.mark.skipif(bool(library.problem()), reason=f"native library: {library.problem()}")
@pytest.mark.parametrize("which", ["packed", "unrolled"])
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("kind", KINDS)
def test_stock_onnxruntime_gives_the_library_s_result(
    compiled: Compile, kind: str, weights: str, which: str
) -> None:
    folder = Compiled(compiled(kind, weights))
    feed = feed_tokens(folder.inputs, some_ids(2, 11))
    native, stock = (folder.session(which, native=choice).run(None, feed)[0] for choice in (True, False))
    np.testing.assert_allclose(native, stock, atol=1e-5)
