"""Method ssa: refused without fine-tuned weights and with wrong ones; with them, what runs is Spikformer's
self-attention, written here once more with loops."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import models
import numpy as np
import onnx
import pytest

from spikec.compile import Settings, compile_model
from spikec.custom_ops.catalogue import OPS
from spikec.data import token_feeds
from spikec.ir.diagnostics import SpikecError
from spikec.ir.program import Program
from spikec.passes.calibrate.ssa_weights import read_ssa_weights
from spikec.passes.methods import pick
from spikec.passes.rewrite import ssa
from spikec.runtime.events import EventCounter
from spikec.runtime.session import Compiled, run
from spikec.verify import compare_executions, verify

ROOT = Path(__file__).parents[2]
STORY = ROOT / "examples/story"
DIM, HEADS, SIZE, LAYERS, STEPS = models.DIM, models.HEADS, models.HEAD_DIM, models.LAYERS, 3
Arrays = dict[str, np.ndarray]


def weights(key_heads: int = HEADS, heads: int = HEADS, blocks: int = LAYERS, dim: int = DIM) -> Arrays:
    rng = np.random.default_rng(0)
    arrays: Arrays = {"format": np.int64(1), "timesteps": np.int64(STEPS)}  # type: ignore[dict-item]
    shapes = {"wq": (dim, heads), "wk": (dim, key_heads), "wv": (dim, key_heads), "wo": (dim, heads)}
    for index in range(blocks):
        for name, (width, count) in shapes.items():
            matrix = rng.standard_normal((width, count * SIZE)) / width**0.5
            arrays[f"block{index}.{name}"] = (matrix.T if name == "wo" else matrix).astype(np.float16)
        for name, count in {"q": heads, "k": key_heads, "v": key_heads, "o": heads}.items():
            arrays[f"block{index}.theta_{name}"] = rng.uniform(0.5, 1.5, count).astype(np.float32)
        arrays[f"block{index}.leak"] = np.float32(0.75)  # type: ignore[assignment]
        arrays[f"block{index}.scale"] = np.float32(0.5)  # type: ignore[assignment]
    return arrays


def save(path: Path, arrays: Arrays) -> Path:
    np.savez(path, **arrays)
    return path


def compiled(
    folder: Path, model: onnx.ModelProto, arrays: Arrays, precision: str = "fp32"
) -> tuple[Program, Compiled]:
    path = models.save(folder / "model", model)
    options = {"ssa_weights": str(save(folder / "ssa.npz", arrays))}
    settings = Settings("ssa", 8, precision, options=options)
    return compile_model(path, folder / "out", settings), Compiled(folder / "out")


# Refusals


def test_without_weights_it_is_refused_before_the_model_is_looked_at() -> None:
    with pytest.raises(SpikecError, match=r"needs fine-tuned weights.*another network.*--ssa-weights FILE"):
        compile_model("there_is_no_such_model.onnx", "out", Settings("ssa"))
    with pytest.raises(SpikecError, match="has no option 'ssa_weights'"):
        pick("las", None, {"ssa_weights": "x.npz"})


def changed(name: str, change: Callable[[np.ndarray], object]) -> Callable[[Arrays], object]:
    return lambda arrays: arrays.update({name: np.asarray(change(arrays[name]))})


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda a: a.pop("format"), "holds no array 'format'"),
        (changed("format", lambda x: x + 1), "'format' is int64.* 2"),
        (changed("timesteps", lambda x: 0 * x), "'timesteps' is int64.* 0 .an integer, 1 to 64"),
        (changed("timesteps", lambda x: 2.0), "'timesteps' is float64"),
        (lambda a: a.pop("block1.theta_k"), r"lacks arrays .block1\.theta_k"),
        (lambda a: a.update(extra=np.zeros(3)), "lacks arrays|unknown arrays"),
        (lambda a: [a.pop(n) for n in list(a) if n.startswith("block")], "holds no blocks"),
        (changed("block0.wq", lambda x: x.astype(np.float64)), r"'block0\.wq' is float64"),
        (changed("block0.wq", lambda x: x[None]), r"'block0\.wq' is float16\[1, 32, 32\]"),
        (changed("block1.wv", lambda x: x * np.float16("nan")), r"'block1\.wv' holds NaN"),
        (changed("block1.wo", lambda x: x + np.float16("inf")), r"'block1\.wo' holds Inf"),
        (changed("block0.theta_o", lambda x: -x), r"'block0\.theta_o' holds -.* above 0"),
        (changed("block0.scale", lambda x: 0 * x), r"'block0\.scale' holds 0"),
        (changed("block0.leak", lambda x: x + 1), r"'block0\.leak' is 1\.75 .0 to 1"),
        (changed("block0.theta_v", lambda x: x[:3]), r"'block0\.theta_v' is \[3\], which does not fit"),
        (changed("block0.wk", lambda x: x[:, :24]), r"'block0\.wk' is \[32, 24\], which does not fit"),
        (changed("block1.wo", lambda x: x[:24]), r"'block1\.wo' is \[24, 32\], which does not fit"),
    ],
)
def test_a_wrong_file_is_refused_by_name(
    tmp_path: Path, spoil: Callable[[Arrays], object], complaint: str
) -> None:
    arrays = weights()
    spoil(arrays)
    with pytest.raises(SpikecError, match=complaint):
        pick("ssa", None, {"ssa_weights": str(save(tmp_path / "ssa.npz", arrays))})


def test_no_file_and_no_archive(tmp_path: Path) -> None:
    with pytest.raises(SpikecError, match="no such file"):
        read_ssa_weights(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("not an archive")
    whole = save(tmp_path / "ssa.npz", weights()).read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    for name in ("text.npz", "cut.npz"):
        with pytest.raises(SpikecError, match=r"is not a readable \.npz file"):
            read_ssa_weights(tmp_path / name)


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        (weights(blocks=1), "holds 1 blocks of attention .model.onnx has 2"),
        (weights(key_heads=2), "block0 has key heads 2, the model's attention .* 4"),
        (weights(heads=8), "block0 has query heads 8"),
        (weights(dim=16), r"block0 has wq \[16, 32\], the model's .* \[32, 32\]"),
    ],
)
def test_weights_of_another_model_are_refused(tmp_path: Path, arrays: Arrays, complaint: str) -> None:
    with pytest.raises(SpikecError, match=complaint):
        compiled(tmp_path, models.MAKERS["llama"](), arrays)
    assert not (tmp_path / "out").exists()


def test_a_padding_mask_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpikecError, match=r"cannot be replaced.*padding mask"):
        compiled(tmp_path, models.MAKERS["bert"](), weights())


# What runs


def looped(q: np.ndarray, k: np.ndarray, v: np.ndarray, w: Arrays, block: int) -> np.ndarray:
    """Spikes [T, B, H, S, d] of the output, from constant currents [B, H, S, d] of every query head."""
    leak, scale = w[f"block{block}.leak"], w[f"block{block}.scale"]

    def fire(currents: list[np.ndarray], theta: np.ndarray) -> list[np.ndarray]:
        u, train = np.zeros_like(currents[0]), []
        for current in currents:
            u = leak * u + current
            train.append(u >= theta[:, None, None])
            u = np.where(train[-1], u - theta[:, None, None], u)
        return train

    group = HEADS // len(w[f"block{block}.theta_k"])
    thetas = {n: w[f"block{block}.theta_{n}"] for n in "qkvo"}
    trains = [
        fire([x] * STEPS, theta)
        for x, theta in ((q, thetas["q"]), (k, thetas["k"].repeat(group)), (v, thetas["v"].repeat(group)))
    ]
    currents = []
    for q_t, k_t, v_t in zip(*trains, strict=True):
        mixed = np.zeros(q.shape, np.int64)
        for query in range(q.shape[2]):
            for key in range(query + 1):
                both = (q_t[:, :, query] & k_t[:, :, key]).sum(-1)
                mixed[:, :, query] += both[..., None] * v_t[:, :, key]
        currents.append((mixed * np.float64(scale)).astype(np.float32))
    return np.stack(fire(currents, thetas["o"])).astype(np.int8)


@pytest.mark.parametrize(("kind", "key_heads"), [("llama", HEADS), ("gqa", 2)])
def test_what_runs_is_the_equations(tmp_path: Path, kind: str, key_heads: int) -> None:
    arrays = weights(key_heads)
    program, model = compiled(tmp_path, models.MAKERS[kind](), arrays)
    names = [name for name in (e.name for e in program.graph.nodes) if "/ssa/" in name and "spikes" in name]
    places = list(dict.fromkeys(name.partition("/ssa/")[0] for name in names))
    assert len(places) == LAYERS and all(c.holds for c in program.certificates)
    wanted = [
        f"{place}/ssa/{part}"
        for place in places
        for part in ("q/current", "k/current", "v/current", "o/spikes")
    ]
    feed = {"input_ids": np.random.default_rng(1).integers(0, models.VOCABULARY, (2, 9))}
    for native in (False, None):
        found = run(model.session("packed", native=native, outputs=wanted), feed)
        for block, place in enumerate(places):
            q, k, v = (found[f"{place}/ssa/{part}/current"][0] for part in "qkv")
            want = looped(q, k.swapaxes(-1, -2), v, arrays, block)
            np.testing.assert_array_equal(found[f"{place}/ssa/o/spikes"], want, strict=True)
            assert 0.02 < want.mean() < 0.98


def test_the_output_projection_reads_the_spikes_and_its_own_weights(tmp_path: Path) -> None:
    arrays = weights()
    program, model = compiled(tmp_path, models.MAKERS["llama"](), arrays)
    spikes = next(n.name for n in program.graph.nodes if n.name.endswith("/ssa/o/spikes"))
    projection = next(n for n in program.graph.nodes if n.op == "SpikeLinear" and n.attrs["radix"] == 1)
    feed = {"input_ids": np.arange(14).reshape(2, 7)}
    found = run(model.session("packed", outputs=[spikes, projection.outputs[0].name]), feed)
    mean = found[spikes].mean(0, dtype=np.float64).transpose(0, 2, 1, 3).reshape(2, 7, -1)
    want = mean @ arrays["block0.wo"].astype(np.float64)
    np.testing.assert_allclose(found[projection.outputs[0].name], want, rtol=1e-5, atol=1e-6)


def test_both_executions_are_equal_bit_for_bit_and_causal(tmp_path: Path) -> None:
    program, model = compiled(tmp_path, models.MAKERS["gqa"](), weights(2), "int8")
    ids = np.random.default_rng(2).integers(0, models.VOCABULARY, (1, 12))
    compared = compare_executions(model, {"input_ids": ids})
    assert compared["different_codes"] == compared["max_output_difference"] == 0 and compared["codes"] > 0
    session, other = model.session("packed"), ids.copy()
    other[0, -1] = (ids[0, -1] + 1) % models.VOCABULARY
    before, after = (run(session, {"input_ids": x})["logits"] for x in (ids, other))
    np.testing.assert_array_equal(before[:, :-1], after[:, :-1])
    assert (before[:, -1] != after[:, -1]).any()
    assert not [
        n.op for n in program.graph.nodes if n.op in ("SpikeSoftmax", "SpikeMatMul", "Softmax", "MatMul")
    ][1:]


def test_a_wrong_neuron_in_the_graph_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = ssa._fire
    monkeypatch.setattr(ssa, "_fire", lambda *a: right(*a[:4], a[4] * 0.5, a[5]))
    with pytest.raises(SpikecError, match="was put in wrongly"):
        compiled(tmp_path, models.MAKERS["llama"](), weights())


def test_every_spike_of_the_attention_is_counted(tmp_path: Path) -> None:
    program, model = compiled(tmp_path, models.MAKERS["llama"](), weights())
    counter, feed = EventCounter(model), {"input_ids": np.arange(20).reshape(2, 10)}
    counter.add(feed)
    names = [n.name for n in program.graph.nodes if n.op == "LIFEncode"]
    assert len(names) == 4 * LAYERS
    found = run(model.session("packed", outputs=names), feed)
    for name in names:
        fan_out = {"q": 10, "k": 0, "v": 10, "o": DIM}[name.split("/")[-2]]
        assert counter.sites[name].events == found[name].sum()
        assert counter.sites[name].synaptic == found[name].sum() * fan_out
        assert counter.sites[name].macs == 2 * 10 * DIM * fan_out


# The example


@pytest.fixture(scope="module")
def example() -> ModuleType:
    for name in ("torch", "transformers", "onnxscript"):
        pytest.importorskip(name)
    spec = importlib.util.spec_from_file_location("train_ssa", ROOT / "examples/train_ssa.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(ROOT / "examples"))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(ROOT / "examples"))
    return module


def test_what_is_trained_is_what_runs(example: ModuleType) -> None:
    import torch

    rng = np.random.default_rng(3)
    theta = rng.uniform(0.5, 1.5, (4, 1, 1)).astype(np.float32)
    trains = []
    for frames in (1, 4, 4):
        current = rng.standard_normal((frames, 2, 4, 128, 16)).astype(np.float32)
        got = example.lif(torch.from_numpy(current), torch.from_numpy(theta), torch.tensor(0.8), 4)
        want = OPS["LIFEncode"].numpy(current, theta, beta=0.8, steps=4)
        np.testing.assert_array_equal(got.numpy(), want)
        trains.append(want)
    q, k, v = trains
    want = OPS["SpikeSelfAttention"].numpy(q, k.swapaxes(-1, -2).copy(), v, scale=0.05, causal=1)
    for tokens in (128, 100):  # in chunks, and whole
        got = example.attend(
            *(torch.from_numpy(x[..., :tokens, :].astype(np.float32)) for x in trains), torch.tensor(0.05)
        )
        np.testing.assert_allclose(got.numpy(), want[..., :tokens, :], rtol=1e-6)


def test_the_weights_that_ship_with_the_story(tmp_path: Path) -> None:
    """Far better than chance, and nowhere near the original: the README says so, with numbers."""
    path = STORY / "ssa.npz"
    assert path.stat().st_size < 1_000_000
    settings = Settings("ssa", options={"ssa_weights": str(path)})
    program = compile_model(STORY / "model.onnx", tmp_path / "out", settings)
    assert len(program.certificates) == 56 and all(c.holds for c in program.certificates)
    model = Compiled(tmp_path / "out")
    feeds = token_feeds(model.inputs, STORY / "heldout.txt", STORY / "tokenizer.json", 2048, 256)
    found = verify(model, feeds, unrolled_tokens=16)
    assert 9 < found["ann"]["perplexity"] < 11 and 1.5 < found["snn"]["perplexity"] / 10 < 3
    assert found["unrolled"]["different_codes"] == 0
    assert found["events"]["products"] < 0.7
