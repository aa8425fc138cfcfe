"""Streaming statistics agree with numpy, and the thresholds chosen from them do what they promise."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from spikec.custom_ops.catalogue import OPS
from spikec.passes.calibrate import thresholds
from spikec.passes.calibrate.statistics import BINS, LARGEST_SAMPLE, SiteStatistics, bin_values
from spikec.passes.calibrate.thresholds import GAP, HEADROOM, Threshold, choose

TOKENS, CHANNELS = 400, 500
BIN_WIDTH = 1 / 64


def normal(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((TOKENS, CHANNELS)).astype(np.float32)


def outlier_values() -> np.ndarray:
    """Methods §2.4's synthetic set: a standard normal body, 0.5 % of the values thirty times larger."""
    return normal() * np.where(np.random.default_rng(1).random((TOKENS, CHANNELS)) < 0.005, 30, 1).astype("f")


def outlier_channels() -> np.ndarray:
    return normal() * np.where(np.isin(np.arange(CHANNELS), [7, 300]), 30, 1).astype(np.float32)


def massive_token() -> np.ndarray:
    return normal() * np.where(np.arange(TOKENS) == 5, 3000, 1).astype(np.float32)[:, None]


DATA = {
    "normal": normal,
    "relu": lambda: np.maximum(normal(), 0),
    "outlier values": outlier_values,
    "outlier channels": outlier_channels,
    "massive token": massive_token,
}


def site(x: np.ndarray, weight: np.ndarray | None = None, parts: int = 1) -> SiteStatistics:
    statistics = SiteStatistics(weight)
    for part in np.array_split(x, parts):
        statistics.add(part)
    return statistics


def encoded(x: np.ndarray, t: Threshold, bits: int) -> np.ndarray:
    """Decoded by the encoder's numpy definition."""
    code = OPS["OATEncode"].numpy(
        x, scale=t.scale, bits=bits, ratio=t.ratio, ranges=t.ranges, steps=1, radix=2**bits,
        to=onnx.TensorProto.INT32,
    )  # fmt: skip
    return code[0] * np.float64(np.float32(t.scale))


def squared_error(x: np.ndarray, t: Threshold, bits: int, importance: np.ndarray | float = 1.0) -> float:
    exact = x.astype(np.float64)
    error = (encoded(x, t, bits) - exact) ** 2 * importance
    return float(error.sum() / (exact**2 * importance).sum())


def best_of(statistics: SiteStatistics, bits: int, ranges: int) -> Threshold:
    """What `choose` weighs up for a number of ranges."""
    used = np.flatnonzero(statistics.histogram)
    used = used[used > 0]
    reach = statistics.largest * HEADROOM / (2**bits - 1)
    return thresholds._best(bin_values()[used], statistics.histogram[used], 2**bits - 1, reach, ranges)


# Statistics


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("q", [0.1, 0.5, 0.9, 0.99, 0.999, 1.0])
def test_quantiles_are_numpy_s_within_a_bin(name: str, q: float) -> None:
    x = DATA[name]()
    exact = np.quantile(np.abs(x), q, method="inverted_cdf")
    assert site(x, parts=3).quantile(q) == pytest.approx(exact, rel=BIN_WIDTH, abs=1e-30)


def test_bins_are_narrow_and_hold_what_falls_into_them() -> None:
    middle = bin_values()
    finite = middle[1 : BINS - 64]
    assert np.all(np.diff(finite) > 0)
    normal_range = finite[finite > 1e-37]
    assert np.max(np.diff(normal_range) / normal_range[:-1]) <= BIN_WIDTH * 1.001
    for value in (1e-30, 0.3, 1.0, 1.99, 777.0, 3e38):
        (index,) = np.flatnonzero(site(np.full((1, 1), value, np.float32)).histogram)
        assert middle[index] == pytest.approx(value, rel=BIN_WIDTH)


def test_streaming_in_parts_changes_nothing() -> None:
    x = outlier_channels()
    whole, parts = site(x), site(x, parts=7)
    np.testing.assert_array_equal(whole.histogram, parts.histogram)
    assert whole.largest == parts.largest == np.abs(x).max() and whole.count == parts.count == x.size
    weighted = site(x, np.ones(CHANNELS), 7)
    assert weighted.channel_max is not None
    np.testing.assert_array_equal(weighted.channel_max, np.abs(x).max(0))


def test_maxima_see_every_value_of_a_large_tensor() -> None:
    rows = 3 * LARGEST_SAMPLE // CHANNELS + 7
    x = np.ones((rows, CHANNELS), np.float32)
    x[-2, 3] = -50
    statistics = site(x)
    assert statistics.largest == 50 and statistics.negative and statistics.count == x.size
    assert LARGEST_SAMPLE / 2 < statistics.histogram.sum() <= 1.5 * LARGEST_SAMPLE


def test_outlier_channels_and_tokens_are_found() -> None:
    weight = np.ones(CHANNELS)
    calm, channels, token = (site(x, weight, 2) for x in (normal(), outlier_channels(), massive_token()))
    assert (calm.outlier_channels, calm.outlier_tokens) == ([], 0)
    assert (channels.outlier_channels, channels.outlier_tokens) == ([7, 300], 0)
    assert token.outlier_tokens == 1 and token.tokens == TOKENS
    assert site(outlier_channels()).outlier_channels == []


def test_the_histogram_weighs_channels_by_their_importance() -> None:
    x = np.tile(np.array([[1.0, 8.0]], np.float32), (10, 1))
    assert site(x, np.array([1.0, 1e-6])).quantile(0.9) == pytest.approx(1, rel=BIN_WIDTH)
    assert site(x, np.array([1e-6, 1.0])).quantile(0.1) == pytest.approx(8, rel=BIN_WIDTH)


def test_drawn_values_are_distributed_like_the_site() -> None:
    x = outlier_values()
    drawn = site(x).draw(np.random.default_rng(0), (TOKENS, CHANNELS))
    for q in (0.01, 0.3, 0.5, 0.7, 0.99):
        assert np.quantile(drawn, q) == pytest.approx(np.quantile(x, q), rel=0.05, abs=0.02)
    assert np.abs(drawn).max() <= np.abs(x).max()
    assert site(np.abs(x)).draw(np.random.default_rng(0), (1000,)).min() >= 0
    assert not SiteStatistics().draw(np.random.default_rng(0), (5,)).any()


# Thresholds


@pytest.mark.parametrize("bits", [4, 8, 12, 16])
@pytest.mark.parametrize("name", DATA)
def test_the_largest_value_is_covered_with_headroom(name: str, bits: int) -> None:
    x = DATA[name]()
    largest = np.abs(x).max()
    for t in (choose(site(x), bits), choose(site(x, np.ones(CHANNELS)), bits)):
        top = t.scale * t.weights[-1] * (2**bits - 1)
        assert HEADROOM * (1 - 1e-6) <= top / largest <= 2 * HEADROOM
        assert t.ranges in (1, 2, 3) and t.ratio in (1, 2, 4, 8, 16, 32, 64)
        edge = np.array([HEADROOM * largest, -HEADROOM * largest], np.float32)
        step = t.scale * t.weights[-1]
        assert np.abs(encoded(edge, t, bits) - edge).max() <= step / 2 * (1 + 1e-4)


@pytest.mark.parametrize("bits", [4, 8, 12])
@pytest.mark.parametrize("name", DATA)
def test_the_expected_error_is_the_measured_one(name: str, bits: int) -> None:
    x = DATA[name]()
    t = choose(site(x), bits)
    assert t.relative_error == pytest.approx(squared_error(x, t, bits), rel=0.1)


@pytest.mark.parametrize("name", ["normal", "outlier channels", "massive token"])
def test_the_expected_error_counts_channels_and_tokens_by_importance(name: str) -> None:
    x, weight = DATA[name](), np.random.default_rng(3).uniform(0.1, 2, CHANNELS)
    energy = x.astype(np.float64) ** 2 @ weight
    importance = weight / (1 + energy / np.median(energy))[:, None]
    t = choose(site(x, weight), 8)
    assert t.relative_error == pytest.approx(squared_error(x, t, 8, importance), rel=0.1)


def test_two_ranges_beat_one_on_outliers() -> None:
    x, bits = outlier_values(), 8
    statistics = site(x)
    chosen, one = choose(statistics, bits), best_of(statistics, bits, 1)
    assert (chosen.ranges, chosen.ratio) == (2, 32)
    assert 100 < squared_error(x, one, bits) / squared_error(x, chosen, bits) < 400
    beyond = float((np.abs(x) >= chosen.scale * (2**bits - 0.5)).mean())
    assert chosen.outliers == pytest.approx(beyond, rel=0.02) and 0.002 < beyond < 0.006


@pytest.mark.parametrize("bits", [4, 8, 12])
@pytest.mark.parametrize("name", DATA)
def test_a_third_range_only_when_it_pays(name: str, bits: int) -> None:
    for weight in (None, np.ones(CHANNELS)):
        statistics = site(DATA[name](), weight)
        one, two, three = (best_of(statistics, bits, ranges).relative_error for ranges in (1, 2, 3))
        chosen = choose(statistics, bits)
        assert (chosen.ranges == 3) is (GAP * three < min(one, two))
        assert chosen.relative_error == (three if chosen.ranges == 3 else min(one, two))


def test_a_massive_token_needs_the_third_range_and_common_outliers_do_not() -> None:
    weight = np.ones(CHANNELS)
    assert choose(site(outlier_channels(), weight), 8).ranges == 2
    token = site(massive_token(), weight)
    assert choose(token, 8).ranges == 3
    assert best_of(token, 8, 2).relative_error > 100 * choose(token, 8).relative_error


def test_the_weights_of_a_threshold_are_powers_of_its_ratio() -> None:
    assert Threshold(0.5, 8, 3, 0.0, 0.0).weights == [1, 8, 64]
    assert Threshold(0.5, 1, 1, 0.0, 0.0).weights == [1]


def test_a_silent_site() -> None:
    t = choose(site(np.zeros((3, 4), np.float32)), 8)
    assert (t.ranges, t.ratio, t.relative_error, t.outliers) == (1, 1, 0.0, 0.0)
    assert t.scale * 255 == pytest.approx(1)
