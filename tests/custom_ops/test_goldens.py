"""Goldens 7, 8 and 10 of the papers' digest (methods §7) on the numpy definitions: bit codes and softmax."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnx
import pytest

from spikec.custom_ops.catalogue import OPS
from spikec.custom_ops.tables import exp2_thresholds, reciprocal_thresholds

INT32 = onnx.TensorProto.INT32
NEURONS = [(4, 1, 1), (8, 1, 1), (16, 1, 1), (4, 4, 2), (8, 64, 2), (16, 64, 2), (8, 2, 3), (8, 16, 3)]
"""(bits, ratio, ranges)"""


def encode(x: np.ndarray, scale: float, bits: int, ratio: int, ranges: int, unrolled: bool) -> np.ndarray:
    execution = {"steps": bits, "radix": 2} if unrolled else {"steps": 1, "radix": 2**bits}
    return OPS["OATEncode"].numpy(
        np.asarray(x, np.float32), scale=scale, bits=bits, ratio=ratio, ranges=ranges, to=INT32, **execution
    )


def code(x: np.ndarray, scale: float, bits: int, ratio: int, ranges: int) -> np.ndarray:
    return encode(x, scale, bits, ratio, ranges, unrolled=False)[0].astype(np.int64)


def values(scale: float, bits: int, ratio: int, ranges: int) -> np.ndarray:
    """Values over all ranges, and beyond the last."""
    top = scale * ratio ** (ranges - 1) * 2.0**bits
    rng = np.random.default_rng(bits * ratio)
    return (rng.choice([-1, 1], 20000) * top * 2.0 ** rng.uniform(-bits - 8, 1, 20000)).astype(np.float32)


def order(x: np.ndarray, scale: float, bits: int, ratio: int, ranges: int) -> np.ndarray:
    """The range of each value: the first whose grid reaches it."""
    z = np.abs(x) / np.float32(scale)
    held = [np.floor(z / np.float32(ratio**r) + np.float32(0.5)) < 2**bits for r in range(ranges - 1)]
    return (ranges - 1 - np.cumsum(held, 0).astype(bool).sum(0)) if held else np.zeros(x.shape, int)


# 7 and 8: the bit code


@pytest.mark.parametrize("neuron", NEURONS)
def test_error_of_the_code_and_its_saturation(neuron: tuple[int, int, int]) -> None:
    bits, ratio, ranges = neuron
    scale = 2.0**-5
    x = values(scale, *neuron)
    r, decoded = order(x, scale, *neuron), code(x, scale, *neuron) * scale
    top = scale * ratio ** (ranges - 1) * (2**bits - 1)
    step = scale * ratio ** r.astype(float)
    inside = np.abs(x) <= top + step / 2
    assert 0.01 < 1 - inside.mean() < 0.5
    assert np.all(np.abs(decoded - x)[inside] <= step[inside] / 2 * (1 + 2e-7 * 2**bits))
    np.testing.assert_array_equal(decoded[~inside], (np.sign(x) * top)[~inside])
    assert np.abs(decoded - x)[inside].max() > 0.49 * step[inside].max()


@pytest.mark.parametrize("neuron", NEURONS)
def test_a_code_lies_on_the_grid_of_its_range(neuron: tuple[int, int, int]) -> None:
    bits, ratio, ranges = neuron
    x = values(0.01, *neuron)
    c, weight = np.abs(code(x, 0.01, *neuron)), ratio ** order(x, 0.01, *neuron)
    assert np.all(c % weight == 0) and (c // weight).max() == 2**bits - 1
    if ratio > 1:
        assert np.all((c // weight)[weight > 1] >= 2**bits // ratio - 1)
        assert set(np.unique(weight)) == {ratio**r for r in range(ranges)}
    odd = code(-x, 0.01, *neuron)
    np.testing.assert_array_equal(odd, -code(x, 0.01, *neuron))


def test_ties_fire_and_las_s_do_not() -> None:
    """LAS's strict comparison codes x = v_max/2 as 4.999847 (all lower bits); rounding to nearest gives 5."""
    assert code(np.array([5.0]), 10 / 2**16, 16, 1, 1)[0] == 2**15
    train = encode(np.array([5.0]), 10 / 2**16, 16, 1, 1, unrolled=True)[:, 0]
    assert train.tolist() == [1] + [0] * 15


def las_neuron(x: np.ndarray, v_max: float, steps: int) -> np.ndarray:
    """LAS's multi-threshold neuron, step by step: fires where the membrane is strictly above v_max·2**-t."""
    membrane, total = x.astype(np.float64), np.zeros(x.shape)
    for t in range(1, steps + 1):
        threshold = v_max * 2.0**-t
        spike = membrane > threshold
        membrane, total = membrane - spike * threshold, total + spike * threshold
    return total


@pytest.mark.parametrize("steps", [4, 10, 16])
def test_golden_7_las_truncates_and_its_ties_fire_all_lower_bits(steps: int) -> None:
    """Boundaries at the integers, plain binary patterns: the same neuron as a code book."""
    v_max = 10.0
    levels = np.arange(2**steps, dtype=np.int32)
    patterns = levels & (1 << np.arange(steps - 1, -1, -1, dtype=np.int32))[:, None]
    attributes = {"ranges": 1, "digits": steps, "basis": 0, "state": 0, "to": onnx.TensorProto.INT32}
    x = np.concatenate([[5.0, 2.5, 10.0, 0.0], np.random.default_rng(0).random(500) * 10]).astype(np.float32)
    theta = np.float32(v_max / 2**steps)
    train = OPS["FewSpikesEncode"].numpy(
        x, theta, levels[1:].astype(np.float32), levels, patterns, steps=steps, **attributes
    )
    decoded = train.sum(0) * np.float64(theta)
    np.testing.assert_allclose(decoded, las_neuron(x, v_max, steps), rtol=1e-6, atol=1e-9)
    assert np.all(x - decoded <= theta * 1.0001) and np.all(decoded <= x)
    if steps == 16:
        assert decoded[0] == pytest.approx(4.999847, abs=1e-6)
        assert train[:, 0].tolist() == [0] + [2**k for k in range(14, -1, -1)]


def test_golden_8_las_decodes_to_the_floor_grid_of_its_range() -> None:
    """Two grids, the coarser from |x| = θ_nor on; at the border they differ by at most a coarse step."""
    steps, nor, out = 10, 10.0, 640.0
    x = np.sort(np.random.default_rng(1).random(2000).astype(np.float32) * 600)
    decoded = np.where(x < nor, las_neuron(x, nor, steps), las_neuron(x, out, steps))
    for low, v_max in ((True, nor), (False, out)):
        inside = (x < nor) == low
        grid = decoded[inside] / (v_max / 2**steps)
        np.testing.assert_allclose(grid, np.round(grid), atol=1e-6)
        assert np.all(np.abs(x[inside] - decoded[inside]) <= v_max / 2**steps * 1.0001)
    edge = np.array([np.nextafter(np.float32(nor), np.float32(0)), nor], np.float32)
    jump = las_neuron(edge[:1], nor, steps) - las_neuron(edge[1:], out, steps)
    assert abs(float(jump[0])) <= out / 2**steps


def test_the_jump_between_ranges_is_at_most_half_a_coarse_step() -> None:
    edge = np.float32(255.5)
    below, above = np.nextafter(edge, np.float32(0)), np.nextafter(edge, np.float32(1e9))
    fine, coarse = code(np.array([below, above]), 1.0, 8, 64, 2)
    assert (fine, coarse) == (255, 256)
    dense = np.sort(values(1.0, 8, 64, 2))
    assert np.all(np.diff(code(dense, 1.0, 8, 64, 2)) >= 0)


@pytest.mark.parametrize("neuron", NEURONS)
def test_the_digits_of_a_code_are_its_spikes(neuron: tuple[int, int, int]) -> None:
    bits, ratio, _ = neuron
    x = values(0.1, *neuron)
    train, weight = encode(x, 0.1, *neuron, unrolled=True), ratio ** order(x, 0.1, *neuron)
    c = code(x, 0.1, *neuron)
    assert train.shape == (bits, *x.shape)
    assert np.all((train == 0) | (train == np.sign(x) * weight))
    popcount = np.array([int(m).bit_count() for m in np.abs(c) // weight])
    np.testing.assert_array_equal((train != 0).sum(0), popcount)
    np.testing.assert_array_equal(
        sum(2 ** (bits - 1 - t) * train[t].astype(np.int64) for t in range(bits)), c
    )


# 10: softmax


def spiking_softmax(x: np.ndarray, bits: int, unrolled: bool = False) -> np.ndarray:
    execution = {"steps": bits + 2, "radix": 2} if unrolled else {"steps": 1, "radix": 2 ** (bits + 2)}
    tables = exp2_thresholds(bits), reciprocal_thresholds(bits)
    return OPS["SpikeSoftmax"].numpy(x, *tables, bits=bits, **execution)


def exact_softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True).astype(np.float64))
    return e / e.sum(-1, keepdims=True)


def variation(x: np.ndarray, bits: int) -> np.ndarray:
    return 0.5 * np.abs(spiking_softmax(x, bits) - exact_softmax(x)).sum(-1)


def scores(length: int, spread: float) -> np.ndarray:
    return (spread * np.random.default_rng(length).standard_normal((16, length))).astype(np.float32)


@pytest.mark.parametrize("spread", [0.5, 1, 2, 4])
@pytest.mark.parametrize("length", [1, 2, 16, 128, 512, 2048])
def test_golden_10_total_variation_and_row_sums(length: int, spread: float) -> None:
    x = scores(length, spread)
    for bits in (4, 6, 8, 12):
        assert variation(x, bits).max() < 2.0**-bits
        sums = spiking_softmax(x, bits).astype(np.float64).sum(-1)
        assert np.abs(sums - 1).max() < 2.0**-bits


def test_golden_10_better_than_published() -> None:
    x = scores(512, 1)
    for bits, published in ((4, 1.2e-2), (6, 3e-3), (8, 8e-4), (12, 5e-5)):
        assert 0.2 * published < variation(x, bits).mean() < 1.1 * published


def test_golden_10_where_las_clamps() -> None:
    """LAS's reciprocal ends at 60; at L = 512, σ = 0.5 the sum of exponentials is far beyond."""
    x = scores(512, 0.5)
    sums = np.exp(x - x.max(-1, keepdims=True)).sum(-1)
    assert sums.min() > 60 and np.median(sums) > 100
    assert np.abs(spiking_softmax(x, 12).sum(-1) - 1).max() < 1e-3


@pytest.mark.parametrize("length", [16, 2048])
def test_golden_10_more_bits_are_closer(length: int) -> None:
    errors = [variation(scores(length, 2), bits).mean() for bits in range(4, 13, 2)]
    assert all(b < 0.5 * a for a, b in pairwise(errors))


def test_softmax_of_masked_rows() -> None:
    x = scores(16, 2)
    x[:, 5:] = np.finfo(np.float32).min
    x[0] = -np.inf
    y = spiking_softmax(x, 12)
    assert not y[:, 5:].any() and not y[0].any()
    assert np.abs(y[1:] - exact_softmax(x[1:])).sum(-1).max() < 2.0**-11
    np.testing.assert_array_equal(y, spiking_softmax(x, 12, unrolled=True))
