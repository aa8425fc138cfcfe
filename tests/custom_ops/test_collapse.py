"""Golden 12 of methods §7, the collapse theorem: timesteps one by one give the bits of plain integer
arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from spikec.custom_ops.catalogue import OPS
from spikec.custom_ops.oat_encode import spike_type
from spikec.custom_ops.tables import exp2_thresholds, reciprocal_thresholds, rsqrt_thresholds

Weight = tuple[np.ndarray, np.ndarray]
DIM, HEADS, SIZE, HIDDEN, LENGTH, BLOCKS = 32, 4, 8, 48, 9, 3
MATRICES = {"q": (DIM, DIM), "k": (DIM, DIM), "v": (DIM, DIM), "o": (DIM, DIM)}
MATRICES |= {"gate": (DIM, HIDDEN), "up": (DIM, HIDDEN), "down": (HIDDEN, DIM)}


def network(
    unrolled: bool, bits: int, integers: bool = True, exp2: np.ndarray | None = None, scale: float = 0.05
) -> np.ndarray:
    """Three blocks: norm, QKᵀ, softmax, A·V, a SiLU-gated layer, residuals; every site is encoded."""
    rng = np.random.default_rng(1)
    neuron = {"bits": bits, "ratio": 16, "ranges": 2}
    step = scale * 2.0 ** (8 - bits)
    execution = {
        "steps": bits if unrolled else 1,
        "radix": 2 if unrolled else 2**bits,
        "to": onnx.TensorProto.INT32,
    }
    fb = 12
    serial = {"bits": fb, "steps": fb + 2 if unrolled else 1, "radix": 2 if unrolled else 2 ** (fb + 2)}
    exp2 = exp2_thresholds(fb) if exp2 is None else exp2

    def spikes(x: np.ndarray) -> np.ndarray:
        return OPS["OATEncode"].numpy(x, scale=step, **neuron, **execution)

    def linear(x: np.ndarray, w: Weight) -> np.ndarray:
        return OPS["SpikeLinear"].numpy(spikes(x), *w, scale=step, radix=2)

    def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return OPS["SpikeMatMul"].numpy(spikes(a), spikes(b), scale=step * step, radix=2)

    def norm(x: np.ndarray, gain: np.ndarray) -> np.ndarray:
        return OPS["SpikeRMSNorm"].numpy(x, gain, rsqrt_thresholds(fb), epsilon=1e-5, **serial)

    def matrix(shape: tuple[int, int]) -> Weight:
        w = rng.standard_normal(shape) / shape[0] ** 0.5
        if not integers:
            return w.astype(np.float32), np.ones(1, np.float32)
        size = np.abs(w).max(0) / 127
        return np.rint(w / size).astype(np.int8), size.astype(np.float32)

    def split(x: np.ndarray) -> np.ndarray:
        return x.reshape(LENGTH, HEADS, SIZE).transpose(1, 0, 2)

    x = rng.standard_normal((LENGTH, DIM)).astype(np.float32)
    x[0, 3] = 60
    for _ in range(BLOCKS):
        w = {name: matrix(shape) for name, shape in MATRICES.items()}
        n = norm(x, np.ones(DIM, np.float32))
        q, k, v = (split(linear(n, w[a])) for a in "qkv")
        weights = OPS["SpikeSoftmax"].numpy(
            product(q, k.transpose(0, 2, 1)), exp2, reciprocal_thresholds(fb), **serial
        )
        mixed = product(weights, v).transpose(1, 0, 2).reshape(LENGTH, DIM)
        x = x + linear(mixed, w["o"])
        n = norm(x, np.ones(DIM, np.float32))
        gate = linear(n, w["gate"])
        silu = (gate / (1 + np.exp(-gate.astype(np.float64)))).astype(np.float32)
        x = x + linear(silu * linear(n, w["up"]), w["down"])
    return x


@pytest.mark.parametrize("bits", [4, 8, 12, 16])
def test_golden_12_unrolled_is_packed(bits: int) -> None:
    """Bit for bit, and more steps come closer to the limit; so it is not equal for want of activity."""
    packed = network(False, bits)
    np.testing.assert_array_equal(network(True, bits), packed)
    assert np.isfinite(packed).all() and packed.std() > 0.5
    assert (np.abs(packed - network(False, 16)).max() > 1e-3) == (bits < 16)


def test_golden_12_float_weights_agree_to_rounding() -> None:
    packed, unrolled = (network(unrolled, 8, integers=False) for unrolled in (False, True))
    assert np.abs(packed - unrolled).max() < 1e-5


@pytest.mark.parametrize("index", [1024, 2048, 3072])
def test_one_moved_threshold_changes_the_output(index: int) -> None:
    moved = exp2_thresholds(12).copy()
    moved[index] += np.float32(0.05)
    assert not np.array_equal(network(False, 12, exp2=moved), network(False, 12))
    assert not np.array_equal(network(False, 12, scale=0.0501), network(False, 12))
    np.testing.assert_array_equal(network(True, 12, exp2=moved), network(False, 12, exp2=moved))


# Unrolled, packed, and plain integer arithmetic

Made = tuple[np.ndarray, np.ndarray, np.ndarray]


def random_code(rng: np.random.Generator, shape: tuple[int, ...], bits: int, ratio: int) -> Made:
    """(code, unrolled train, packed train) of random digits in random ranges, some silent."""
    magnitude = rng.integers(0, 2**bits, shape) * rng.integers(0, 2, shape)
    weight = rng.choice([-1, 1], shape) * rng.choice([1, ratio], shape)
    shifts = np.arange(bits - 1, -1, -1).reshape(-1, *[1] * len(shape))
    return magnitude * weight, ((magnitude >> shifts) & 1) * weight, (magnitude * weight)[None]


def smallest(train: np.ndarray) -> np.ndarray:
    return train.astype(onnx.helper.tensor_dtype_to_np_dtype(spike_type(int(np.abs(train).max(initial=0)))))


def linear_case(rng: np.random.Generator, bits: int, ratio: int) -> tuple[list[Any], np.ndarray]:
    c, *trains = random_code(rng, (5, 33), bits, ratio)
    w, size = rng.integers(-127, 128, (33, 17)).astype(np.int8), rng.random(17).astype(np.float32) + 0.01
    got = [OPS["SpikeLinear"].numpy(smallest(t), w, size, scale=0.0123, radix=2) for t in trains]
    exact = (c @ w.astype(np.int64)).astype(np.float64)
    return got, (exact * np.float64(np.float32(0.0123)) * size).astype(np.float32)


def matmul_case(rng: np.random.Generator, bits: int, ratio: int) -> tuple[list[Any], np.ndarray]:
    a, *trains_a = random_code(rng, (2, 5, 33), bits, ratio)
    b, *trains_b = random_code(rng, (2, 33, 7), bits, ratio)
    got = [
        OPS["SpikeMatMul"].numpy(smallest(s), smallest(t), scale=0.0007, radix=2)
        for s, t in zip(trains_a, trains_b)
    ]
    return got, ((a @ b).astype(np.float64) * np.float64(np.float32(0.0007))).astype(np.float32)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("ratio", [1, 8, 64])
@pytest.mark.parametrize("bits", [2, 4, 8, 16])
@pytest.mark.parametrize("case", [linear_case, matmul_case])
def test_unrolled_packed_and_integers_agree(
    case: Callable[..., tuple[list[Any], np.ndarray]], bits: int, ratio: int, seed: int
) -> None:
    (unrolled, packed), exact = case(np.random.default_rng(seed), bits, ratio)
    assert np.any(exact)
    np.testing.assert_array_equal(unrolled, exact, strict=True)
    np.testing.assert_array_equal(packed, exact, strict=True)


def test_one_spike_more_is_one_row_of_weights_more() -> None:
    rng = np.random.default_rng(0)
    w, one = rng.integers(-127, 128, (6, 4)).astype(np.int8), np.ones(1, np.float32)
    _, train, _ = random_code(rng, (3, 6), 8, 1)
    train[5, 1, 2] = 0
    before = OPS["SpikeLinear"].numpy(train, w, one, scale=1.0, radix=2)
    train[5, 1, 2] = 1
    change = OPS["SpikeLinear"].numpy(train, w, one, scale=1.0, radix=2) - before
    np.testing.assert_array_equal(change[1], 4 * w[2].astype(np.float32))
    assert not change[[0, 2]].any()
