"""Golden 2 of methods §7 and STA's burst neuron: what a steadily driven neuron fires, and what that adds up
to."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from spikec.custom_ops.burst_encode import execution
from spikec.custom_ops.catalogue import OPS

BURST = OPS["BurstEncode"]


def train(x: np.ndarray, theta: float, timesteps: int, burst: int, half: int, packed: bool) -> np.ndarray:
    attributes = execution({"timesteps": timesteps, "burst": burst, "half": half}, packed)
    return BURST.numpy(np.asarray(x, np.float32), np.array([theta], np.float32), **attributes).astype(
        np.int64
    )


def quotients(x: np.ndarray, theta: float) -> np.ndarray:
    return (x / np.float32(theta)).astype(np.float64)


@pytest.mark.parametrize("timesteps", [1, 8, 32, 160, 512])
def test_golden_2_a_pair_of_neurons_decodes_exactly(timesteps: int) -> None:
    count = 200_000 if timesteps <= 160 else 20_000
    x = np.random.default_rng(2).standard_normal(count).astype(np.float32)
    theta = 0.031
    z = quotients(x, theta)
    expected = np.sign(z) * np.minimum(np.floor(np.abs(z) + 0.5), timesteps)
    spikes = train(x, theta, timesteps, 1, 1, packed=False)
    assert spikes.shape == (timesteps, *x.shape) and set(np.unique(spikes)) == {-1, 0, 1}
    np.testing.assert_array_equal(spikes.sum(0), expected)
    np.testing.assert_array_equal(train(x, theta, timesteps, 1, 1, packed=True)[0], expected)


@pytest.mark.parametrize("timesteps", [8, 32, 160])
def test_ties_round_away_from_zero_in_both_executions(timesteps: int) -> None:
    ties = np.arange(-timesteps, timesteps) + 0.5
    below, above = (np.nextafter(ties.astype(np.float32), np.float32(to)) for to in (-1e9, 1e9))
    x = np.concatenate([ties, below, above])
    z = quotients(x.astype(np.float32), 1.0)
    expected = np.sign(z) * np.minimum(np.floor(np.abs(z) + 0.5), timesteps)
    for packed in (False, True):
        np.testing.assert_array_equal(train(x, 1.0, timesteps, 1, 1, packed).sum(0), expected)


def test_the_published_recurrence() -> None:
    """h = v + ReLU(±x)/T, fires where h + s/2 ≥ s; away from ties float64 steps are the same spikes."""
    rng, timesteps, s = np.random.default_rng(0), 160, 0.25
    x = ((rng.integers(-400, 401, 5000) + rng.uniform(0.1, 0.4, 5000)) / 16 * s).astype(np.float32)
    spikes = train(x, s, timesteps, 1, 1, packed=False)
    for sign in (1, -1):
        v, current = np.zeros(x.shape), np.maximum(sign * x.astype(np.float64), 0) / timesteps
        total = np.zeros(x.shape)
        for t in range(timesteps):
            h = v + current
            z = h + s / 2 >= s
            v = h - z * s
            total += z
            gap = np.abs(total - np.maximum(sign * spikes[: t + 1].sum(0), 0))
            assert gap.max() <= 1 and (gap > 0).mean() < 0.02  # a spike may come a step later, never be lost
        np.testing.assert_array_equal(total, np.maximum(sign * spikes.sum(0), 0))


@pytest.mark.parametrize(("half", "timesteps"), [(0, 1), (0, 8), (0, 256), (1, 8), (1, 256)])
def test_bursts_collapse_to_truncation_or_rounding(half: int, timesteps: int) -> None:
    x = (np.random.default_rng(3).standard_normal(20_000) * 40).astype(np.float32)
    z = quotients(x, 0.3)
    expected = np.sign(z) * np.minimum(np.floor(np.abs(z) + half / 2), 127 * timesteps)
    spikes = train(x, 0.3, timesteps, 127, half, packed=False)
    np.testing.assert_array_equal(spikes.sum(0), expected)
    np.testing.assert_array_equal(train(x, 0.3, timesteps, 127, half, packed=True)[0], expected)


def test_a_steady_drive_fires_evenly() -> None:
    spikes = train(np.array([25.0, -7.0, 100.0, 3.9]), 1.0, 8, 127, 0, packed=False)
    assert spikes[:, 0].tolist() == [3, 3, 3, 3, 3, 3, 3, 4]
    assert spikes[:, 1].tolist() == [0, -1, -1, -1, -1, -1, -1, -1]
    assert spikes[:, 3].sum() == 3 and np.all(np.abs(spikes[:, 2] - 12.5) <= 0.5)


def test_bursts_saturate_one_spike_at_a_time() -> None:
    spikes = train(np.array([1e30, -1e30]), 1.0, 4, 3, 1, packed=False)
    assert spikes.T.tolist() == [[3, 3, 3, 3], [-3, -3, -3, -3]]


def test_events_are_unit_spikes() -> None:
    code = train(np.array([25.0, -7.0, 0.2]), 1.0, 8, 127, 0, packed=True)[0]
    spikes = train(np.array([25.0, -7.0, 0.2]), 1.0, 8, 127, 0, packed=False)
    assert BURST.events is not None
    np.testing.assert_array_equal(BURST.events(code, {}), np.abs(spikes).sum(0))
    assert BURST.events(code, {}).tolist() == [25, 7, 0]


def test_thresholds_of_channels() -> None:
    x, theta = np.full((2, 3), 6.0, np.float32), np.array([1, 2, 4], np.float32)
    code = BURST.numpy(x, theta, **execution({"timesteps": 8, "burst": 1, "half": 1}, True))
    assert code.tolist() == [[[6, 3, 2], [6, 3, 2]]]


def test_a_spike_that_does_not_fit_is_refused() -> None:
    attributes = {"timesteps": 200, "burst": 1, "half": 1, "steps": 1, "to": onnx.TensorProto.INT8}
    with pytest.raises(ValueError, match="do not fit int8"):
        BURST.numpy(np.zeros(3, np.float32), np.ones(1, np.float32), **attributes)
