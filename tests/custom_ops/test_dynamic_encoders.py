"""The neurons of SpikeLLM, SpikingBrain and the Dual conversion: goldens of methods §7, and promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from spikec.custom_ops.catalogue import OPS
from spikec.custom_ops.graded import graded


def run(op: str, inputs: list[np.ndarray], attributes: dict[str, Any], packed: bool) -> Any:
    spec = OPS[op]
    return spec.numpy(*inputs, **spec.execution(attributes, packed))


def integer_spikes(bits: int, timesteps: int, scale: float = 0.1) -> dict[str, Any]:
    """The integer-spiking neuron of so many bits, as the paper sets it up."""
    most = -(-(2**bits - 1) // timesteps)
    return {"scale": scale, "offset": 2 ** (bits - 1), "ceiling": timesteps * most, "signed": 0,
            "timesteps": timesteps, "steps": 1, "to": 0}  # fmt: skip


def recurrence(x: np.ndarray, scale: float, bits: int, timesteps: int) -> np.ndarray:
    """Dual's Eqs 8-10 step by step, in units of θ."""
    most, alpha = -(-(2**bits - 1) // timesteps), 2 ** (bits - 1) / timesteps
    current = (x / np.float32(scale)).astype(np.float64) / timesteps
    v = np.full(x.shape, 0.5)
    train = []
    for _ in range(timesteps):
        v = v + current + alpha
        k = np.clip(np.floor(v + 1e-9), 0, most)
        v = v - k
        train.append(k)
    return np.stack(train)


def quantised(x: np.ndarray, scale: float, bits: int) -> np.ndarray:
    z = (x / np.float32(scale)).astype(np.float64)
    return np.clip(np.floor(z + 0.5), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


NORMAL = np.random.default_rng(0).normal(0, 1, 200_000).astype(np.float32)


@pytest.mark.parametrize("timesteps", [1, 3, 7, 9, 21, 63])
def test_golden_3_integer_spikes_are_the_quantiser(timesteps: int) -> None:
    train = run("ISEncode", [NORMAL], integer_spikes(6, timesteps), packed=False)
    assert train.min() == 0 and train.max() == 63 // timesteps
    np.testing.assert_array_equal(train.sum(0, dtype=np.int64) - 32, quantised(NORMAL, 0.1, 6))


@pytest.mark.parametrize("timesteps", [2, 4, 8, 16])
def test_golden_3_uneven_steps_are_off_by_one_level_where_they_saturate(timesteps: int) -> None:
    code = run("ISEncode", [NORMAL], integer_spikes(6, timesteps), packed=True)[0].astype(np.int64) - 32
    off = code - quantised(NORMAL, 0.1, 6)
    assert set(np.unique(off)) == {0, 1} and np.all(code[off == 1] == 32)
    assert 0.0005 < (off != 0).mean() < 0.0012


@pytest.mark.parametrize(("bits", "timesteps"), [(6, 3), (6, 4), (6, 21), (8, 5), (8, 17)])
def test_integer_spikes_are_those_of_the_recurrence(bits: int, timesteps: int) -> None:
    x = NORMAL[:20_000] * 3
    attributes = integer_spikes(bits, timesteps)
    train = run("ISEncode", [x], attributes, packed=False)
    np.testing.assert_array_equal(train, recurrence(x, 0.1, bits, timesteps))
    np.testing.assert_array_equal(train.sum(0), run("ISEncode", [x], attributes, packed=True)[0])


def test_silence_costs_the_offset() -> None:
    """The paper's own cost: 2**(n-1) unit spikes for a zero."""
    attributes = integer_spikes(6, 3)
    code = run("ISEncode", [np.zeros(4, np.float32)], attributes, packed=True)[0]
    assert OPS["ISEncode"].events(code, attributes).tolist() == [32] * 4  # type: ignore[misc]


def test_signed_integer_spikes_are_odd_and_reach_their_ceiling() -> None:
    attributes = integer_spikes(6, 9) | {"offset": 0, "ceiling": 31, "signed": 1}
    train = run("ISEncode", [NORMAL], attributes, packed=False)
    np.testing.assert_array_equal(train, -run("ISEncode", [-NORMAL], attributes, packed=False))
    z = (np.abs(NORMAL) / np.float32(0.1)).astype(np.float64)
    np.testing.assert_array_equal(train.sum(0), np.sign(NORMAL) * np.minimum(np.floor(z + 0.5), 31))
    assert np.abs(train).max() == -(-31 // 9)


def gif(levels: list[int], ratio: list[int], chunk: int, timesteps: int, axis: int = -1) -> dict[str, Any]:
    return {"axis": axis, "levels": levels, "ratio": ratio, "timesteps": timesteps, "chunk": chunk,
            "steps": 1, "most": 1, "to": 0}  # fmt: skip


@pytest.mark.parametrize(("bits", "addbit"), [(4, 1), (4, 2), (6, 1), (6, 2), (3, 2)])
def test_salient_channels_lose_no_code_at_the_top(bits: int, addbit: int) -> None:
    """The released code emits 2**addbit steps and loses the top 2**addbit - 1 codes (methods §1.5)."""
    chunk, limit = 2 ** (bits - 1) - 1, 2 ** (bits + addbit - 1) - 1
    codes = np.arange(-limit, limit + 1)
    x = codes.astype(np.float32)[:, None]
    x = np.concatenate([x, np.full_like(x, chunk * 2 ** (addbit + 2))], 1)  # so that θ is 1
    attributes = gif([limit, chunk], [1, 2 ** (addbit + 2)], chunk, 2**addbit + 1)
    train, theta = run("GIFEncode", [x], attributes, packed=False)
    assert np.all(theta == 1) and np.abs(train[..., 0]).max() == chunk
    np.testing.assert_array_equal(train[..., 0].sum(0), codes)
    released = graded(codes, 2**addbit, 1, chunk).sum(0)
    assert (released != codes).sum() == 2 * (limit - 2**addbit * chunk) > 0


@pytest.mark.parametrize("axis", [-1, -2])
def test_gif_errs_by_half_a_step_of_its_token(axis: int) -> None:
    rng = np.random.default_rng(1)
    x = (rng.standard_normal((4, 9, 16)) * np.exp(3 * rng.standard_normal((4, 9, 1)))).astype(np.float32)
    train, theta = run("GIFEncode", [x], gif([127], [2], 43, 3, axis), packed=True)
    assert theta.shape == ((4, 9, 1) if axis == -1 else (4, 1, 16))
    assert np.all(np.abs(train[0] * theta - x) <= theta * (1 + 1e-4))
    np.testing.assert_array_equal(np.abs(train[0]).max(axis), 2 * 127)


def test_what_a_spike_weighs_costs_no_event() -> None:
    x = np.random.default_rng(2).standard_normal((50, 8)).astype(np.float32) * np.array(
        [1] * 6 + [60] * 2, "f"
    )
    attributes = gif([7] * 6 + [15] * 2, [1] * 6 + [32] * 2, 7, 3)
    unrolled, packed = (run("GIFEncode", [x], attributes, packed=packed)[0] for packed in (False, True))
    events = OPS["GIFEncode"].events(packed[0], attributes)  # type: ignore[misc]
    np.testing.assert_array_equal(events, np.abs(unrolled).sum(0) // attributes["ratio"])
    assert unrolled[1:, :, :6].any() == 0 and unrolled[2, :, 6:].any() and events[:, 6:].max() == 15
    np.testing.assert_array_equal(unrolled.sum(0), packed[0])


def spike_counts(mode: str, timesteps: int, no_clip: int = 0, axis: int = -1) -> dict[str, Any]:
    radix, limit = (2, 2**timesteps - 1) if mode == "bitwise" else (1, timesteps)
    return {"k": 3.0, "axis": axis, "limit": limit, "no_clip": no_clip, "timesteps": timesteps,
            "radix": radix, "steps": 1, "most": 1, "to": 0}  # fmt: skip


@pytest.mark.parametrize(("mode", "timesteps"), [("ternary", 40), ("bitwise", 6)])
def test_spike_counts_decode_exactly(mode: str, timesteps: int) -> None:
    """SpikingBrain: Σ spikes · θ is q·θ with q = round(x/θ), for T ≥ max|q| or its binary digits."""
    x = NORMAL[:24_000].reshape(40, 600)
    attributes = spike_counts(mode, timesteps)
    train, theta = run("Int2Spike", [x], attributes, packed=False)
    np.testing.assert_allclose(theta, np.abs(x).mean(-1, keepdims=True) / 3, rtol=1e-6)
    q = np.sign(x) * np.floor(np.abs(x) / theta + np.float32(0.5))
    assert 8 < np.abs(q).max() < attributes["limit"] and set(np.unique(train)) == {-1, 0, 1}
    weights = 2 ** np.arange(timesteps - 1, -1, -1) if mode == "bitwise" else np.ones(timesteps)
    np.testing.assert_array_equal(np.tensordot(weights, train, 1), q)
    code = run("Int2Spike", [x], attributes, packed=True)[0][0]
    events = OPS["Int2Spike"].events(code, attributes)  # type: ignore[misc]
    np.testing.assert_array_equal(events, np.abs(train).sum(0))


def test_counts_beyond_the_limit_saturate_or_raise_the_threshold() -> None:
    x = np.ones((2, 100), np.float32)
    x[1, 7] = 1000
    clipped, theta = run("Int2Spike", [x], spike_counts("bitwise", 5), packed=True)
    assert clipped[0, 1, 7] == 31 and 31 * theta[1, 0] < 200
    held, theta = run("Int2Spike", [x], spike_counts("bitwise", 5, no_clip=1), packed=True)
    assert held[0, 1, 7] == 31 and 31 * theta[1, 0] == pytest.approx(1000)
    np.testing.assert_array_equal(held[0, 0], clipped[0, 0])


def test_a_token_never_sees_another() -> None:
    """Thresholds are shared along the channels only: what comes later changes nothing before it."""
    x = NORMAL[: 6 * 50].reshape(6, 50)
    later = x.copy()
    later[5] *= 100
    for op, attributes in (
        ("Int2Spike", spike_counts("bitwise", 6)),
        ("GIFEncode", gif([7], [1], 7, 3)),
    ):
        for axis in (-1, -2):
            turned = (lambda a: a) if axis == -1 else np.transpose
            before, after = (
                run(op, [np.ascontiguousarray(turned(a))], attributes | {"axis": axis}, packed=True)
                for a in (x, later)
            )
            for one, other in zip(before, after):
                one, other = (turned(part.reshape(part.shape[-2:])) for part in (one, other))
                np.testing.assert_array_equal(one[:5], other[:5])
            assert after[1].max() > 50 * before[1].max()
