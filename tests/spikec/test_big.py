"""Large models: weights that are never copied, symlinks of model hubs, calibration a stretch at a time."""

from __future__ import annotations

import hashlib
import os
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import models
import numpy as np
import onnx
import onnxruntime as ort
import pytest

from spikec.compile import compile_model
from spikec.ir import graph as graphs
from spikec.ir import storage, stream, wire
from spikec.ir.diagnostics import SpikecError
from spikec.ir.stream import Stream
from spikec.ir.weights import MappedValues, array, pieces
from spikec.runtime.session import Compiled, run

FEED = {"input_ids": np.arange(10).reshape(2, 5)}
Make = Callable[..., onnx.ModelProto]


def external(folder: Path, make: Make = models.llama, files: int = 1) -> Path:
    """The model with its large tensors in one data file, or in one of their own each."""
    folder.mkdir(parents=True)
    onnx.save(
        make(),
        folder / "model.onnx",
        save_as_external_data=True,
        all_tensors_to_one_file=files == 1,
        location="model.onnx_data" if files == 1 else None,
        size_threshold=1024,
    )
    return folder / "model.onnx"


def hub(folder: Path) -> Path:
    """As a model hub caches it: names in `snapshots` are symlinks to files named by their hash."""
    path = external(folder / "plain")
    blobs, snapshot = folder / "blobs", folder / "snapshots" / "0123abc"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    for file in (path, path.with_name("model.onnx_data")):
        blob = blobs / hashlib.sha256(file.read_bytes()).hexdigest()
        file.rename(blob)
        (snapshot / file.name).symlink_to(Path("../../blobs") / blob.name)
    return snapshot / "model.onnx"


def contents(folder: Path) -> dict[str, tuple[str, int]]:
    """Bytes and time of change of every file."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(f): (hashlib.sha256(f.read_bytes()).hexdigest(), f.stat().st_mtime_ns) for f in files}


def logits(folder: Path, which: str = "packed") -> np.ndarray:
    return run(Compiled(folder).session(which), FEED)["logits"]


@pytest.fixture
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "LINK_BYTES", 1)
    monkeypatch.setattr(stream, "SEGMENT_BYTES", 30_000)
    monkeypatch.setattr(stream, "SEGMENT_VALUES", 5)


# The output folder


@pytest.mark.usefixtures("everything_is_large")
@pytest.mark.parametrize("files", [1, 2])
def test_untouched_weights_are_linked_and_survive_their_source(tmp_path: Path, files: int) -> None:
    path = external(tmp_path / "source", files=files)
    before = contents(path.parent)
    compile_model(path, tmp_path / "out")
    assert contents(path.parent) == before, "the source was written to"
    linked = sorted((tmp_path / "out").glob("source*.bin"))
    assert len(linked) == (1 if files == 1 else len(before) - 1)
    for file in linked:
        # a reflink is a file of its own that shares its blocks, which no test can see without root
        assert file.stat().st_nlink == 2 or file.stat().st_ino not in {
            f.stat().st_ino for f in path.parent.iterdir()
        }
    new = tmp_path / "out" / "weights.bin"
    written = new.read_bytes() if new.exists() else b""
    large = [onnx.numpy_helper.to_array(i) for i in models.llama().graph.initializer]
    assert not any(values.tobytes() in written for values in large if values.nbytes >= 1024)
    expected = logits(tmp_path / "out")
    shutil.rmtree(path.parent)
    (tmp_path / "out").rename(tmp_path / "elsewhere")
    np.testing.assert_array_equal(logits(tmp_path / "elsewhere"), expected)
    for name in ("ann.onnx", "model.onnx", "model.unrolled.onnx"):
        model = onnx.load(tmp_path / "elsewhere" / name, load_external_data=False)
        places = {e.value for t in model.graph.initializer for e in t.external_data if e.key == "location"}
        assert places <= {file.name for file in (tmp_path / "elsewhere").iterdir()}


@pytest.mark.usefixtures("everything_is_large")
def test_where_nothing_can_be_linked_the_used_tensors_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("not here")

    path = external(tmp_path / "source")
    compile_model(path, tmp_path / "linked")
    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(storage.fcntl, "ioctl", refuse)
    compile_model(path, tmp_path / "out")
    assert {f.name for f in (tmp_path / "out").iterdir()} >= {"weights.bin"}
    assert not list((tmp_path / "out").glob("source*"))
    np.testing.assert_array_equal(logits(tmp_path / "out"), logits(tmp_path / "linked"))
    monkeypatch.delattr(os, "copy_file_range")
    compile_model(path, tmp_path / "again")
    assert (tmp_path / "again/weights.bin").read_bytes() == (tmp_path / "out/weights.bin").read_bytes()


@pytest.mark.usefixtures("everything_is_large")
def test_compiling_again_over_linked_weights(tmp_path: Path) -> None:
    path = external(tmp_path / "source", files=2)
    before = contents(path.parent)
    compile_model(path, tmp_path / "out")
    first = logits(tmp_path / "out")
    compile_model(path, tmp_path / "out")
    np.testing.assert_array_equal(logits(tmp_path / "out"), first)
    assert contents(path.parent) == before
    (tmp_path / "out" / "notes.txt").touch()
    with pytest.raises(SpikecError, match=r"it holds notes\.txt"):
        compile_model(path, tmp_path / "out")


@pytest.mark.usefixtures("everything_is_large")
def test_a_source_written_over_in_place_is_noticed(tmp_path: Path) -> None:
    path = external(tmp_path / "source")
    compile_model(path, tmp_path / "out")
    if (tmp_path / "out" / "source.bin").stat().st_nlink == 1:
        pytest.skip("this file system has reflinks")
    with path.with_name("model.onnx_data").open("r+b") as stream_:
        stream_.write(b"another model")
    with pytest.raises(SpikecError, match=r"source\.bin: is not what was compiled"):
        Compiled(tmp_path / "out").session()


def test_small_models_are_copied_so_that_onnx_loads_them(tmp_path: Path) -> None:
    compile_model(external(tmp_path / "source"), tmp_path / "out")
    for name in ("ann.onnx", "model.onnx"):
        onnx.load(tmp_path / "out" / name)
    onnx.checker.check_model(tmp_path / "out" / "ann.onnx")


@pytest.mark.usefixtures("everything_is_large")
def test_tensors_too_small_for_a_data_file_are_taken_out_of_one(tmp_path: Path) -> None:
    path = external(tmp_path / "source")
    onnx.save(models.llama(), path, save_as_external_data=True, location="model.onnx_data", size_threshold=0)
    compile_model(path, tmp_path / "out")
    shutil.rmtree(path.parent)
    logits(tmp_path / "out"), logits(tmp_path / "out", "ann")


@pytest.mark.parametrize("make", [models.llama, models.bert], ids=["llama", "bert"])
def test_constants_of_a_function_may_lie_outside(tmp_path: Path, make: Make) -> None:
    """Every tensor in the data file, scalars too: what is run by itself must take them along."""
    path, inside = external(tmp_path / "outside", make), tmp_path / "inside.onnx"
    onnx.save(make(), path, save_as_external_data=True, location="model.onnx_data", size_threshold=0)
    onnx.save(make(), inside)
    outer, inner = compile_model(path, tmp_path / "a"), compile_model(inside, tmp_path / "b")
    assert outer.certificates == inner.certificates and outer.of("activation")


# Symlinks of model hubs


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("whole", [True, False], ids=["both", "data alone"])
def test_symlinks_of_a_hub(tmp_path: Path, request: pytest.FixtureRequest, large: bool, whole: bool) -> None:
    if large:
        request.getfixturevalue("everything_is_large")
    path = hub(tmp_path / "hub")
    if not whole:
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
    before = contents(tmp_path / "hub")
    program = compile_model(path, tmp_path / "out")
    assert program.source == path and contents(tmp_path / "hub") == before
    assert not any(file.is_symlink() for file in (tmp_path / "out").iterdir())
    shutil.rmtree(tmp_path / "hub")
    compile_model(external(tmp_path / "plain"), tmp_path / "other")
    np.testing.assert_array_equal(logits(tmp_path / "out"), logits(tmp_path / "other"))


# Weights inside the model file


def test_inline_weights_stay_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(models.llama(), path)
    expected = {i.name: onnx.numpy_helper.to_array(i) for i in models.llama().graph.initializer}
    monkeypatch.setattr(wire, "LARGE", 2000)
    graph = graphs.load(path)
    mapped = {c.name: c for c in graphs.constants(graph) if isinstance(c._values, MappedValues)}
    assert set(mapped) == {n for n, v in expected.items() if v.nbytes >= 2000}
    for name, constant in mapped.items():
        np.testing.assert_array_equal(array(constant), expected[name])
        np.testing.assert_array_equal(np.concatenate(list(pieces(constant._values, 500))), expected[name])
    compile_model(path, tmp_path / "out")
    monkeypatch.setattr(wire, "LARGE", 1 << 30)
    compile_model(path, tmp_path / "other")
    assert contents_of(tmp_path / "out") == contents_of(tmp_path / "other")


def test_an_inline_weight_that_says_so_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that was loaded from external data and saved inline says DEFAULT after the data."""
    model = models.llama()
    for tensor in model.graph.initializer:
        tensor.data_location = onnx.TensorProto.DEFAULT
    onnx.save(model, tmp_path / "model.onnx")
    monkeypatch.setattr(wire, "LARGE", 2000)
    graph = graphs.load(tmp_path / "model.onnx")
    table = next(c for c in graphs.constants(graph) if c.name == "table")
    expected = next(t for t in model.graph.initializer if t.name == "table")
    np.testing.assert_array_equal(array(table), onnx.numpy_helper.to_array(expected))


def contents_of(folder: Path) -> dict[str, str]:
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in folder.iterdir()}


def test_reading_a_model_of_inline_weights_takes_no_memory_for_them(tmp_path: Path) -> None:
    model = models.llama()
    name = next(t for t in model.graph.initializer if t.name == "table")
    name.CopyFrom(onnx.numpy_helper.from_array(np.ones((1 << 14, 1 << 10), np.float32), "table"))
    onnx.save(model, tmp_path / "model.onnx")
    del model, name
    tracemalloc.start()
    assert len(wire.skim(tmp_path / "model.onnx")) < 1 << 20
    assert tracemalloc.get_traced_memory()[1] < 1 << 21
    tracemalloc.stop()


@pytest.mark.parametrize("where", range(0, 60000, 7001))
def test_a_damaged_file_is_read_as_the_parser_reads_it(tmp_path: Path, where: int) -> None:
    content = bytearray(models.llama().SerializeToString())
    content[where] ^= 0x15
    (tmp_path / "model.onnx").write_bytes(content)
    try:
        expected = onnx.ModelProto.FromString(bytes(content))
    except Exception:
        with pytest.raises(Exception):  # noqa: B017
            onnx.ModelProto.FromString(wire.skim(tmp_path / "model.onnx"))
    else:
        assert onnx.ModelProto.FromString(wire.skim(tmp_path / "model.onnx")) == expected


# Running a stretch at a time


@pytest.mark.parametrize("make", models.MAKERS.values(), ids=models.MAKERS)
def test_segments_give_what_the_whole_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Make
) -> None:
    path, ones = external(tmp_path / "source", make), np.ones((2, 5), np.int64)
    names = [i.name for i in make().graph.input]
    feeds = [
        {n: np.arange(10).reshape(2, 5) * k if n == "input_ids" else ones for n in names} for k in (1, 3)
    ]
    interior = [node.output[0] for node in make().graph.node if node.op_type in ("MatMul", "Softmax")]
    asked = list(dict.fromkeys([*interior, *(o.name for o in make().graph.output), "input_ids"]))
    whole = {(i, n): v for i, n, v in Stream(path).fetch(feeds, asked)}
    monkeypatch.setattr(stream, "SEGMENT_BYTES", 20_000)
    monkeypatch.setattr(stream, "SEGMENT_VALUES", 4)
    parts = Stream(path)
    segments = parts.segments(asked)
    assert len(segments) > 6
    assert all(sum(s.weights.values()) <= 20_000 or len(s.nodes) == 1 for s in segments)
    told: list[tuple[int, int]] = []
    found = {(i, n): v for i, n, v in parts.fetch(feeds, asked, lambda *step: told.append(step))}
    assert found.keys() == whole.keys() and len(found) == 2 * len(asked)
    for key, value in whole.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-5, atol=1e-5)
    assert told == [(i + 1, 2 * len(segments)) for i in range(2 * len(segments))]


def test_a_stretch_reads_what_a_body_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = """<ir_version: 9, opset_import: ["": 18]> g (bool c, float[N, 64] x) => (float[N, 64] y)
        { a = MatMul (x, w) b = MatMul (a, v) y = If (c) <
        then_branch = t () => (float[N, 64] p) { p = Add (a, b) },
        else_branch = e () => (float[N, 64] q) { q = MatMul (b, w) }> }"""
    model = onnx.parser.parse_model(text)
    for name in "wv":
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.eye(64, dtype=np.float32) * 2, name))
    onnx.save(model, tmp_path / "m.onnx")
    monkeypatch.setattr(stream, "SEGMENT_BYTES", 1)
    parts = Stream(tmp_path / "m.onnx")
    assert len(parts.segments(["y"])) == 3
    for c in (True, False):
        feed = {"c": np.array(c), "x": np.ones((3, 64), np.float32)}
        expected = ort.InferenceSession(tmp_path / "m.onnx").run(None, feed)[0]
        np.testing.assert_array_equal(parts.run(None, feed)[0], expected)


@pytest.mark.usefixtures("everything_is_large")
def test_a_model_calibrated_in_stretches_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = external(tmp_path / "source")
    parts = compile_model(path, tmp_path / "parts").neurons
    monkeypatch.setattr(stream, "SEGMENT_BYTES", 1 << 30)
    whole = compile_model(path, tmp_path / "whole").neurons
    assert parts.keys() == whole.keys()
    for name, threshold in whole.items():
        assert parts[name].scale == pytest.approx(threshold.scale, rel=1e-3)
