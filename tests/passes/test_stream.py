"""Streaming: the loop over the timesteps computes what the collapsed graph does, event by event, in any order
of arrival; what has not settled is counted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import models
import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest

from spikec.commands.compile import method_name
from spikec.compile import Settings, compile_model
from spikec.custom_ops.catalogue import OPS
from spikec.custom_ops.native import library_path
from spikec.custom_ops.spec import SpikingOp
from spikec.ir.diagnostics import SpikecError
from spikec.ir.loops import step_loop
from spikec.ir.program import Program
from spikec.passes.calibrate.neuron import Neuron, Site
from spikec.passes.calibrate.step import Step
from spikec.passes.methods import METHODS
from spikec.passes.stream.arrival import ARRIVALS, shares
from spikec.passes.stream.region import check_steady
from spikec.runtime.session import Compiled, run
from spikec.sample import sample_compiled
from spikec.verify import verify

KINDS = sorted(models.MAKERS)
TOKENS = 12


class Made:
    """Folders compiled once a module."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.get = cache(self._compile)

    def _compile(
        self, kind: str, method: str, timesteps: int, weights: str = "int8", **options: object
    ) -> Compiled:
        out = self.folder / "-".join(map(str, (kind, method, timesteps, weights, *options.values())))
        settings = Settings(method, timesteps, weights, options=options)
        compile_model(self.source(kind), out, settings)
        return Compiled(out)

    def source(self, kind: str) -> Path:
        path = self.folder / kind / "model.onnx"
        return path if path.exists() else models.save(path.parent, models.MAKERS[kind])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("stream"))


def feed_of(compiled: Compiled) -> dict[str, np.ndarray]:
    return {n: v[:, :TOKENS] if v.ndim == 2 else v for n, v in sample_compiled(compiled)[0].items()}


def outputs(compiled: Compiled, which: str, native: bool | None = False) -> dict[str, np.ndarray]:
    return run(compiled.session(which, native=native), feed_of(compiled))


def assert_same(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> None:
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], strict=True)


# delta


@pytest.mark.parametrize("arrival", ARRIVALS)
@pytest.mark.parametrize("kind", KINDS)
def test_golden_12_delta_streams_to_what_las_gives(made: Made, kind: str, arrival: str) -> None:
    """Bit for bit, packed and event-driven, whatever the order of arrival."""
    want = outputs(made.get(kind, "las", 8), "packed")
    assert all(np.any(value) for value in want.values())
    compiled = made.get(kind, "delta", 5, arrival=arrival)
    assert_same(outputs(compiled, "packed"), want)
    assert_same(outputs(compiled, "unrolled"), want)


@pytest.mark.skipif(library_path() is None, reason="the native library was not built: pip install .")
def test_the_library_runs_the_same_stream(made: Made) -> None:
    compiled = made.get("llama", "delta", 5, arrival="uneven")
    for which in ("packed", "unrolled"):
        assert_same(outputs(compiled, which, native=True), outputs(compiled, which))


def test_before_the_last_step_the_stream_is_not_there_yet(made: Made) -> None:
    """An uneven arrival makes neurons emit what later has to be taken back: the spikes of a step are not
    those of the end, and all of them together are the code."""
    compiled = made.get("llama", "delta", 5, arrival="uneven")
    encoders = compiled.encoders("unrolled")
    names = [e.train for e in encoders] + [e.code for e in encoders] + [e.wanted for e in encoders]
    for which in ("packed", "unrolled"):
        values = run(compiled.session(which, native=False, outputs=names), feed_of(compiled))
        retracted = 0
        for encoder in encoders:
            train, code = values[encoder.train], values[encoder.code][0]
            assert train.shape == (5, *code.shape) and train.dtype == np.int32
            np.testing.assert_array_equal(train.sum(0), code)
            np.testing.assert_array_equal(values[encoder.wanted][0], code)
            partial = train.astype(np.int64).cumsum(0)
            retracted += int((np.abs(partial[:-1]).max(0) > np.abs(code)).sum())
        assert retracted > 100


def test_all_layers_run_in_every_step(made: Made) -> None:
    """The last layer spikes in the first step already: latency is T steps, not T a layer."""
    compiled = made.get("llama", "delta", 5, arrival="even")
    last = compiled.encoders()[-1]
    train = run(compiled.session(outputs=[last.train], native=False), feed_of(compiled))[last.train]
    assert (train != 0).reshape(len(train), -1).any(-1)[0]


def test_what_arrives_at_the_front_is_done_in_the_first_step(made: Made) -> None:
    compiled = made.get("llama", "delta", 5, arrival="front")
    trains = [e.train for e in compiled.encoders()]
    values = run(compiled.session(outputs=trains, native=False), feed_of(compiled))
    assert all(values[t][0].any() and not values[t][1:].any() for t in trains)


@pytest.mark.parametrize("which", ["packed", "unrolled"])
def test_one_loop_and_weights_once(made: Made, which: str) -> None:
    compiled = made.get("llama", "delta", 5, arrival="even")
    name = "model.onnx" if which == "packed" else "model.unrolled.onnx"
    model = onnx.load(compiled.folder / name, load_external_data=False)
    loops = [node for node in model.graph.node if node.op_type == "Loop"]
    found = step_loop(model.graph)
    assert found is not None and len(loops) == 1
    body = found[1]
    assert not body.initializer
    inside = {node.op_type for node in body.node}
    dense = {"SpikeLinear", "SpikeMatMul"}
    assert dense <= inside if which == "packed" else not dense & inside
    assert "MatMul" not in inside
    steps = {"StepLinear", "StepMatMul"}
    assert steps <= inside if which == "unrolled" else not steps & inside
    assert [i.name for i in model.graph.input] == ["input_ids"]
    held = {t.name: t for t in model.graph.initializer}
    read = {name for node in body.node for name in node.input} & held.keys()
    assert sum(np.prod(held[name].dims) for name in read) > 1000, "weights are read from outside"


@pytest.mark.parametrize("kind", KINDS)
def test_verify_compares_blocks_and_executions(made: Made, kind: str) -> None:
    compiled = made.get(kind, "delta", 5, arrival="even")
    result = verify(compiled, [feed_of(compiled)], native=False)
    assert len(result["blocks"]) == models.LAYERS and min(result["blocks"].values()) > 0.999
    assert result["unrolled"]["bit_identical"] and result["unrolled"]["codes"] > 5000
    assert not any(result["unrolled"]["unsettled"].values())


def test_float_weights_differ_by_rounding_only(made: Made) -> None:
    compiled = made.get("llama", "delta", 5, "fp32", arrival="even")
    result = verify(compiled, [feed_of(compiled)], native=False)
    assert result["unrolled"]["unexplained_codes"] == 0
    assert result["unrolled"]["max_output_difference"] < 1e-4


# stbif


def test_stbif_counts_what_has_not_settled(made: Made) -> None:
    compiled = made.get("llama", "stbif", 16, arrival="front")
    result = verify(compiled, [feed_of(compiled)], native=False)
    assert result["unrolled"]["bit_identical"]
    assert sum(result["unrolled"]["unsettled"].values()) > 100
    assert "not collapsible" in compiled.report["method"]["guarantee"]
    assert compiled.report["method"]["collapses"] is False


def test_stbif_settled_equals_its_quantised_network(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """L1 at equilibrium: the same neurons collapsed give the same bits once none is unsettled."""
    still = dataclasses.replace(METHODS["stbif"], name="settled", collapses=True)
    monkeypatch.setitem(METHODS, "settled", still)
    want = outputs(made.get("llama", "settled", 160, levels=8), "packed", native=None)
    compiled = made.get("llama", "stbif", 160, levels=8)
    encoders = compiled.encoders()
    names = [name for e in encoders for name in (e.train, e.code, e.wanted)]
    values = run(compiled.session(outputs=names), feed_of(compiled))
    for encoder in encoders:
        np.testing.assert_array_equal(values[encoder.code], values[encoder.wanted])
        assert set(np.unique(values[encoder.train])) <= {-1, 0, 1}
    assert_same({name: values[name] for name in want}, want)


# other codings, as the neurons of other methods use them


def coded(name: str, inputs: tuple[str, ...], outputs: tuple[str, ...], body: str) -> SpikingOp:
    """An operator of this test, which runs by its body."""

    def undefined(*arrays: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    return SpikingOp(
        name,
        inputs,
        {},
        undefined,
        body,
        lambda rng: iter(()),
        name,
        outputs,
        events=lambda s, a: s,
        kernel=False,
    )


MEAN = coded(
    "MeanStep",
    ("X", "t", "step_size", "code"),
    ("S",),
    """
  times = Cast <to = 1> (t)
  sum = Mul (X, times)
  z = Div (sum, step_size)
  half = Constant <value_float = 0.5> ()
  z_half = Add (z, half)
  floor = Floor (z_half)
  row = Constant <value_ints = [0]> ()
  whole = Unsqueeze (floor, row)
  wanted = Cast <to = 6> (whole)
  S = Sub (wanted, code)
""",
)
"""What mean coding must have emitted after t steps, all of it at once."""

DIFFERENTIAL = coded(
    "DifferentialStep",
    ("Q", "code", "t", "before"),
    ("S", "before_next"),
    """
  table = Constant <value_ints = [60, 30, 20, 15, 12]> ()
  one = Constant <value_int = 1> ()
  index = Sub (t, one)
  weight64 = Gather <axis = 0> (table, index)
  weight = Cast <to = 6> (weight64)
  rest = Sub (Q, code)
  S = Div (rest, weight)
  row = Constant <value_ints = [0]> ()
  now = Squeeze (Q, row)
  now_f = Cast <to = 1> (now)
  half = Constant <value_float = 0.5> ()
  faded = Mul (before, half)
  before_next = Add (now_f, faded)
""",
)
"""At most so much as the weights of differential coding allow; it carries a state that nobody reads."""


def coding(monkeypatch: pytest.MonkeyPatch, op: SpikingOp, change: Callable[[Neuron], Neuron]) -> None:
    """Method "coded": delta's neurons with another step."""

    def choose(site: Site, timesteps: int, options: dict[str, Any]) -> Neuron:
        return change(METHODS["delta"].choose(site, timesteps, options))

    monkeypatch.setitem(OPS, op.name, op)
    monkeypatch.setitem(METHODS, "coded", dataclasses.replace(METHODS["delta"], name="coded", choose=choose))


def assert_streams(compiled: Compiled) -> None:
    feed = feed_of(compiled)
    result = verify(compiled, [feed], native=False)
    assert result["unrolled"]["bit_identical"] and result["unrolled"]["codes"] > 5000
    assert result["cosine"] > 0.999 and min(result["blocks"].values()) > 0.999


def test_mean_coding_is_worth_less_with_every_step(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    def mean(neuron: Neuron) -> Neuron:
        worth = tuple(5 / t for t in range(1, 6))
        size = {"step_size": np.float32(5 * neuron.scale)}
        return dataclasses.replace(neuron, step=Step("MeanStep", worth=worth), constants=size)

    coding(monkeypatch, MEAN, mean)

    # the collapsed operator takes no such constant
    monkeypatch.setattr(
        Neuron, "encode", lambda self, x: (OPS[self.op].numpy(x, **self.attributes), np.float32(1))
    )
    assert_streams(made.get("llama", "coded", 5, bits=10, arrival="front"))


def test_differential_coding_weighs_its_spikes(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    def differential(neuron: Neuron) -> Neuron:
        return dataclasses.replace(neuron, step=Step("DifferentialStep", weights=(60, 30, 20, 15, 12)))

    coding(monkeypatch, DIFFERENTIAL, differential)
    assert_streams(made.get("llama", "coded", 5, bits=16, arrival="even"))


def test_an_offset_joins_every_step(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    def shifted(neuron: Neuron) -> Neuron:
        return dataclasses.replace(neuron, step=Step("DeltaStep", offset=3))

    coding(monkeypatch, OPS["DeltaStep"], shifted)
    compiled = made.get("llama", "coded", 5, bits=12, arrival="front")
    encoders = compiled.encoders()
    names = [name for e in encoders for name in (e.code, e.wanted)]
    values = run(compiled.session(outputs=names, native=False), feed_of(compiled))
    for encoder in encoders:
        np.testing.assert_array_equal(values[encoder.code], values[encoder.wanted] + 3)


# arrival


def test_shares() -> None:
    np.testing.assert_array_equal(shares("front", 4, 4, 8, 0), np.ones(4, np.float32))
    np.testing.assert_array_equal(shares("even", 5, 4, 8, 0), np.float32([0.25, 0.5, 0.75, 1, 1]))
    uneven = shares("uneven", 6, 4, 8, 0)
    assert uneven.shape == (6, 8) and uneven.dtype == np.float32
    assert np.all(uneven[3:] == 1) and len(np.unique(uneven[:3])) == 24
    assert (np.diff(uneven, axis=0) < 0).any(), "some of what came is taken back"
    np.testing.assert_array_equal(uneven, shares("uneven", 6, 4, 8, 0))
    assert not np.array_equal(uneven, shares("uneven", 6, 4, 8, 1))


# asking for what there is not


@pytest.mark.parametrize(("timesteps", "options"), [(0, {}), (1025, {}), (8, {"settle": 8})])
def test_steps_that_a_stream_cannot_have(timesteps: int, options: dict[str, int]) -> None:
    with pytest.raises(SpikecError, match="cannot be had"):
        Settings("stbif", timesteps, options=options).check()


def test_stream_flag() -> None:
    assert method_name(None, True) == "delta" and method_name(None, False) == "las"
    assert method_name("stbif", True) == "stbif" and method_name("las", False) == "las"
    with pytest.raises(SpikecError, match="las does not stream") as error:
        method_name("las", True)
    assert "delta" in str(error.value)


def test_rows_chosen_at_run_time_are_refused(made: Made) -> None:
    program = Program.load(made.source("llama"))
    with pytest.raises(SpikecError, match="chooses rows at run time"):
        check_steady(program, [gs.Node("NonZero", "routed")])


def test_steps_have_no_kernels_and_run_everywhere() -> None:
    assert {op.name for op in OPS.values() if not op.kernel} == {
        "DeltaStep", "STBIFStep", "IFEncode", "IFStep", "ISStep", "MultiThresholdStep", "StepLinear",
        "StepMatMul",
    }  # fmt: skip
