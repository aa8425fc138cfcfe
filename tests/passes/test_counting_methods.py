"""signed-if and sta, end to end: thresholds from statistics, both executions equal, certificates that hold,
and what they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import models
import numpy as np
import pytest

from spikec.compile import Settings, compile_model
from spikec.ir.diagnostics import SpikecError
from spikec.ir.inputs import Feed, feed_tokens
from spikec.passes.calibrate.channels import KEPT, ROWS, ChannelStatistics, RowStatistics
from spikec.passes.calibrate.neuron import Site
from spikec.passes.methods import METHODS, pick, signed_if, sta
from spikec.runtime.events import EventCounter
from spikec.runtime.session import Compiled, run

STORY = Path(__file__).parents[2] / "examples" / "story" / "model.onnx"
SETTINGS = [
    ("signed-if", 64, {}),
    ("signed-if", 100, {"quantile": 1.0, "levels": 64}),
    ("sta", 64, {}),
    ("sta", 16, {"rounding": "half", "per_channel": True}),
]


def observed(kind: type, x: np.ndarray, parts: int = 4) -> Any:
    statistics = kind(np.ones(x.shape[-1]))
    for part in np.array_split(x, parts):
        statistics.add(part)
    return statistics


def outliers(rows: int = 5000, channels: int = 24) -> np.ndarray:
    """Channels of different spread, one of them with a single massive value."""
    x = np.random.default_rng(0).standard_normal((rows, channels)) * np.geomspace(0.1, 20, channels)
    x[777, 3] = 9000
    return x.astype(np.float32)


# Statistics


@pytest.mark.parametrize("q", [0.99, 0.999, 1.0])
def test_channel_quantiles_are_exact_while_streaming(q: float) -> None:
    x = outliers()
    statistics = observed(ChannelStatistics, x, 7)
    expected = np.sort(np.abs(x), 0)[int(np.ceil(q * len(x))) - 1]
    np.testing.assert_array_equal(statistics.channel_quantile(q), expected)
    assert statistics.top.shape == (KEPT, x.shape[1])


def test_a_quantile_beyond_what_is_kept_is_the_smallest_kept() -> None:
    x = outliers()
    kept = np.sort(np.abs(x), 0)[-KEPT]
    np.testing.assert_array_equal(observed(ChannelStatistics, x).channel_quantile(0.5), kept)


def test_rows_are_sampled_evenly_and_whole() -> None:
    x = np.arange(5000, dtype=np.float32)[:, None] * [1, 2]
    rows = observed(RowStatistics, x, 9).rows
    assert rows.shape == (ROWS, 2) and len(np.unique(rows[:, 0])) == ROWS
    np.testing.assert_array_equal(rows[:, 1], 2 * rows[:, 0])
    assert abs(rows[:, 0].mean() - 2500) < 250
    np.testing.assert_array_equal(observed(RowStatistics, x, 9).rows, rows)


# Thresholds


def test_the_scale_is_the_channels_quantile_over_levels() -> None:
    x = outliers()
    neuron = signed_if.pair(
        Site("x", "linear", observed(ChannelStatistics, x)), 160, {"quantile": 0.999, "levels": 16}
    )
    expected = np.sort(np.abs(x), 0)[int(np.ceil(0.999 * len(x))) - 1] / 16
    np.testing.assert_allclose(neuron.channels, expected, rtol=1e-6)
    code, worth = neuron.encode(x)
    inside = np.abs(x) <= 160 * neuron.channels
    assert not inside.all() and np.all(np.abs(code) <= 160)
    decoded = code[0] * worth
    assert np.all((np.abs(decoded - x) <= neuron.channels / 2 * 1.00001)[inside])
    assert np.all(np.abs(decoded - x) <= neuron.error(x) * 1.00001 + 1e-6)


def test_a_silent_channel_has_a_scale() -> None:
    x = outliers()
    x[:, 5] = 0
    x[1:, 6] = 0
    theta = signed_if.scale(Site("x", "linear", observed(ChannelStatistics, x)), 160, 0.999, 16)
    assert np.all(np.isfinite(theta)) and np.all(theta > 0)
    assert theta[6] == np.float32(np.abs(x[0, 6]) / 16)


def test_sta_takes_the_best_factor_of_its_grid() -> None:
    """One massive value: a finer step than its range over T."""
    x = np.abs(outliers())
    x[777, 3] = 100
    statistics = observed(RowStatistics, x)
    v, factor = sta.grid(Site("x", "linear", statistics), 8, True, per_channel=False)
    assert v.shape == (1,) and v[0] == np.float32(factor * 100 / 8)
    tried = [(f, np.mean((x - f * 12.5 * np.floor(x / (f * 12.5) + 0.5)) ** 2)) for f in sta.FACTORS]
    assert factor == min(tried, key=lambda t: t[1])[0]
    assert sta.FACTORS[0] == 0.125 and sta.FACTORS[-1] == 2 and len(sta.FACTORS) == 31


def test_sta_per_channel_keeps_small_channels() -> None:
    x = outliers()
    site = Site("x", "linear", observed(RowStatistics, x))
    common, own = (
        sta.burst(site, 8, {"rounding": "half", "per_channel": per_channel}) for per_channel in (False, True)
    )
    small = x[:, 0]
    for neuron, alive in ((common, False), (own, True)):
        code, worth = neuron.encode(x)
        decoded = (code[0] * worth * neuron.scale)[:, 0]
        assert bool(decoded.any()) is alive
    assert np.corrcoef(small, decoded)[0, 1] > 0.95


# End to end


@pytest.fixture(scope="module", params=SETTINGS, ids=lambda s: f"{s[0]}-{s[1]}")
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Compiled]:
    method, timesteps, options = request.param
    folder = tmp_path_factory.mktemp("made")
    path = models.save(folder / "model", models.llama())
    settings = Settings(method=method, timesteps=timesteps, weights="int8", options=options)
    return compile_model(path, folder / "out", settings), Compiled(folder / "out")


def feed(compiled: Compiled) -> Feed:
    ids = np.random.default_rng(9).integers(0, models.VOCABULARY, (2, 9))
    return feed_tokens(compiled.inputs, ids)


@pytest.mark.parametrize("native", [None, False])
def test_unrolled_is_packed_bit_for_bit(made: tuple[Any, Compiled], native: bool | None) -> None:
    _, compiled = made
    packed, unrolled = (
        run(compiled.session(which, native=native), feed(compiled))["logits"]
        for which in ("packed", "unrolled")
    )
    ann = run(compiled.session("ann"), feed(compiled))["logits"]
    np.testing.assert_array_equal(packed, unrolled, strict=True)
    assert 0 < np.abs(ann - packed).max() < 0.4 * np.abs(ann).max()


def test_trains_are_steps_of_spikes(made: tuple[Any, Compiled]) -> None:
    program, compiled = made
    trains = compiled.spike_trains()
    spikes, codes = (
        run(compiled.session(which, outputs=trains), feed(compiled)) for which in ("unrolled", "packed")
    )
    for name in trains:
        assert spikes[name].shape[0] == program.settings["timesteps"] and spikes[name].dtype == np.int8
        np.testing.assert_array_equal(spikes[name].sum(0, dtype=np.int64), codes[name][0])
        if program.settings["method"].name == "signed-if":
            assert np.abs(spikes[name]).max() == 1


def test_every_certificate_holds(made: tuple[Any, Compiled]) -> None:
    program, _ = made
    assert program.certificates and all(c.holds for c in program.certificates)


def test_events_are_counted(made: tuple[Any, Compiled]) -> None:
    _, compiled = made
    trains = compiled.spike_trains()
    counter = EventCounter(compiled)
    counter.add(feed(compiled))
    unrolled = run(compiled.session("unrolled", outputs=trains), feed(compiled))
    for name in trains:
        assert counter.sites[name].events == np.abs(unrolled[name].astype(np.int64)).sum() > 0


@pytest.mark.parametrize(("method", "timesteps"), [("signed-if", 32), ("sta", 32)])
def test_the_bundled_model(method: str, timesteps: int, tmp_path: Path) -> None:
    compile_model(STORY, tmp_path / "out", Settings(method=method, timesteps=timesteps, weights="int8"))
    compiled = Compiled(tmp_path / "out")
    given = feed_tokens(compiled.inputs, np.arange(20)[None] % compiled.vocabulary)
    (output,) = compiled.outputs[:1]
    packed, unrolled = (run(compiled.session(which), given)[output] for which in ("packed", "unrolled"))
    np.testing.assert_array_equal(packed, unrolled, strict=True)


# What is refused


@pytest.mark.parametrize(
    ("method", "timesteps", "options", "told"),
    [
        ("signed-if", 8, {}, "counts to 16"),
        ("signed-if", 513, {}, "at most 512 steps"),
        ("signed-if", 100, {"levels": 128}, "counts to 128"),
        ("sta", 0, {}, "1 to 256 steps"),
        ("sta", 257, {}, "1 to 256 steps"),
    ],
)
def test_timesteps_that_cannot_be_had(
    method: str, timesteps: int, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(SpikecError, match=f"{timesteps} timesteps cannot be had") as error:
        pick(method, timesteps, options)
    assert told in " ".join(error.value.details) + str(error.value)


@pytest.mark.parametrize(
    ("method", "option", "value"),
    [
        ("signed-if", "quantile", "0.5"),
        ("signed-if", "quantile", "1.5"),
        ("signed-if", "levels", "many"),
        ("sta", "rounding", "up"),
        ("sta", "per_channel", "perhaps"),
    ],
)
def test_options_that_cannot_be(method: str, option: str, value: str) -> None:
    with pytest.raises(SpikecError, match=f"is no value of option '{option}'"):
        pick(method, None, {option: value})


def test_levels_may_be_as_many_as_steps() -> None:
    assert METHODS["signed-if"].timesteps == 160
    _, steps, options = pick("signed-if", 8, {"levels": "8"})
    assert (steps, options["levels"]) == (8, 8)
