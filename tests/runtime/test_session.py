"""Sessions of a compiled folder: packed, unrolled and ANN, native or not, with interior values, and what is
missing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import models
import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

from spikec.compile import Settings, compile_model
from spikec.custom_ops.train import total
from spikec.ir.diagnostics import SpikecError
from spikec.ir.inputs import Feed, feed_tokens
from spikec.runtime import library, session
from spikec.runtime.generate import generate
from spikec.runtime.session import FILES, Compiled, run

BITS = 8
KINDS = sorted(models.MAKERS)
Folder = Callable[[str], Compiled]
native_only = pytest.mark.skipif(bool(library.problem()), reason="the native library cannot be used here")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every tiny model with int8 weights, compiled once."""
    root = tmp_path_factory.mktemp("compiled")
    for kind in KINDS:
        path = models.save(root / kind, models.MAKERS[kind])
        compile_model(path, root / f"{kind}-out", Settings(timesteps=BITS, weights="int8"))
    return {kind: root / f"{kind}-out" for kind in KINDS}


@pytest.fixture
def folder(folders: dict[str, Path]) -> Folder:
    return lambda kind: Compiled(folders[kind])


@pytest.fixture
def copy(folders: dict[str, Path], tmp_path: Path) -> Compiled:
    """A compiled llama that may be broken."""
    shutil.copytree(folders["llama"], tmp_path / "copy")
    return Compiled(tmp_path / "copy")


def feed(compiled: Compiled, batch: int = 2, length: int = 9) -> Feed:
    ids = np.random.default_rng(length).integers(0, models.VOCABULARY, (batch, length))
    return feed_tokens(compiled.inputs, ids)


@pytest.mark.parametrize("native", [pytest.param(True, marks=native_only), False])
@pytest.mark.parametrize("kind", KINDS)
def test_packed_is_unrolled_and_near_the_ann(folder: Folder, kind: str, native: bool) -> None:
    compiled = folder(kind)
    (name,), given = compiled.outputs, feed(compiled)
    packed, unrolled = (
        run(compiled.session(which, native=native), given)[name] for which in ("packed", "unrolled")
    )
    ann = run(compiled.session("ann"), given)[name]
    np.testing.assert_array_equal(packed, unrolled, strict=True)
    assert ann.shape == packed.shape and 0 < np.abs(ann - packed).max() < 0.1 * np.abs(ann).max()


@native_only
@pytest.mark.parametrize("which", ["packed", "unrolled"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_library_is_the_function_bodies(folder: Folder, kind: str, which: str) -> None:
    compiled = folder(kind)
    kernels, bodies = (run(compiled.session(which, native=n), feed(compiled)) for n in (True, False))
    assert kernels.keys() == bodies.keys()
    for name in kernels:
        np.testing.assert_array_equal(kernels[name], bodies[name], strict=True)


@pytest.mark.parametrize("kind", KINDS)
def test_the_ann_is_the_original(folder: Folder, kind: str) -> None:
    compiled = folder(kind)
    original = ReferenceEvaluator(models.MAKERS[kind]())
    given = feed(compiled, 1, 4)
    np.testing.assert_allclose(
        run(compiled.session("ann"), given)[compiled.outputs[0]], original.run(None, given)[0], atol=2e-4
    )


@pytest.mark.parametrize("native", [pytest.param(True, marks=native_only), False])
def test_traced_spikes_are_the_digits_of_the_traced_codes(folder: Folder, native: bool) -> None:
    compiled = folder("llama")
    trains = compiled.spike_trains()
    assert len(trains) == len(set(trains)) == 8 * models.LAYERS
    given = feed(compiled)
    codes, spikes = (
        run(compiled.session(which, native=native, outputs=trains), given) for which in ("packed", "unrolled")
    )
    assert codes.keys() == spikes.keys() == {*trains, *compiled.outputs}
    for name in trains:
        assert codes[name].shape[0] == 1 and spikes[name].shape == (BITS, *codes[name].shape[1:])
        np.testing.assert_array_equal(total(spikes[name], 2), codes[name][0])
        weights = np.unique(np.abs(spikes[name]))
        assert weights[0] == 0 and 1 < len(weights) <= 4 and np.all(weights & (weights - 1) == 0)
        assert spikes[name].dtype.itemsize <= codes[name].dtype.itemsize


def test_traced_values_change_nothing_and_are_those_of_the_ann(folder: Folder) -> None:
    compiled = folder("bert")
    given, names = feed(compiled), ["l0_scores", "l1_x"]
    plain, traced = (run(compiled.session(outputs=o), given) for o in (None, names))
    assert plain.keys() == {"hidden"} and traced.keys() == {"hidden", *names}
    np.testing.assert_array_equal(plain["hidden"], traced["hidden"])
    ann = run(compiled.session("ann", outputs=names), given)
    for name in names:
        assert 0 < np.abs(ann[name] - traced[name]).max() < 0.1 * np.abs(ann[name]).max()


def test_tracing_leaves_no_file_behind(copy: Compiled) -> None:
    before = {path.name for path in copy.folder.iterdir()}
    assert before == {*FILES.values(), "weights.bin", "report.json"}
    copy.session(outputs=copy.spike_trains()[:1])
    with pytest.raises(SpikecError, match="cannot load this model"):
        copy.session(outputs=["absent"])
    assert {path.name for path in copy.folder.iterdir()} == before


@native_only
def test_the_library_is_taken_when_it_may_be(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path | None] = []
    where = library.path()
    monkeypatch.setattr(library, "path", lambda: asked.append(where) or where)
    for which, native, times in (
        ("packed", False, 0),
        ("ann", None, 0),
        ("packed", None, 1),
        ("packed", True, 1),
    ):
        asked.clear()
        folder("llama").session(which, native=native)
        assert len(asked) == times, (which, native)


def test_generation_is_greedy_and_stops(folder: Folder) -> None:
    compiled = folder("gqa")
    session = compiled.session()

    def feed_of(ids: np.ndarray) -> Feed:
        return feed_tokens(compiled.inputs, ids)

    tokens = list(generate(session, compiled.inputs, [3, 1, 4], 4))
    ids = [3, 1, 4]
    for token in tokens:
        assert token == int(session.run(None, feed_of(np.array([ids])))[0][0, -1].argmax())
        ids.append(token)
    assert len(tokens) == 4
    until = tokens.index(tokens[2])
    assert list(generate(session, compiled.inputs, [3, 1, 4], 4, end=tokens[2])) == tokens[:until]
    with pytest.raises(SpikecError, match="cannot continue a text"):
        next(generate(session, compiled.inputs, [3], 1, vocabulary=models.VOCABULARY + 1))


# What is missing or wrong


@pytest.mark.parametrize("which", FILES)
def test_a_missing_model_file(copy: Compiled, which: str) -> None:
    (copy.folder / FILES[which]).unlink()
    with pytest.raises(SpikecError, match=rf"{FILES[which]}: is missing; run spikec compile again"):
        copy.session(which)


def test_missing_weights(copy: Compiled) -> None:
    (copy.folder / "weights.bin").unlink()
    for which in FILES:
        with pytest.raises(SpikecError, match=r"weights.bin: is missing"):
            copy.session(which)


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(SpikecError, match=r"is not a compiled model \(it has no report.json\)"):
        Compiled(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "null", '{"inputs": [{}], "outputs": []}'])
def test_a_broken_report(copy: Compiled, content: str) -> None:
    (copy.folder / "report.json").write_text(content)
    with pytest.raises(SpikecError, match="is not a report of spikec"):
        Compiled(copy.folder)


def test_a_report_without_its_vocabulary(copy: Compiled) -> None:
    report = json.loads((copy.folder / "report.json").read_text())
    del report["vocabulary"]
    (copy.folder / "report.json").write_text(json.dumps(report))
    with pytest.raises(SpikecError, match="vocabulary"):
        Compiled(copy.folder)


def test_without_the_library(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for, its absence is an error; not asked for, the bodies run."""
    compiled = folder("llama")
    expected = run(compiled.session(native=False), feed(compiled))["logits"]
    monkeypatch.setattr(library, "problem", lambda: "it is on holiday")
    with pytest.raises(SpikecError, match=r"native library cannot be used \(it is on holiday\)"):
        compiled.session(native=True)
    np.testing.assert_array_equal(run(compiled.session(), feed(compiled))["logits"], expected)


@pytest.mark.parametrize("ids", [np.full((1, 3), models.VOCABULARY), np.full((1, 3), -models.VOCABULARY - 1)])
def test_token_ids_outside_the_table_are_refused(folder: Folder, ids: np.ndarray) -> None:
    compiled = folder("llama")
    for which in FILES:
        with pytest.raises(SpikecError, match=r"cannot run this model on input_ids \[1, 3\]"):
            run(compiled.session(which), feed_tokens(compiled.inputs, ids))


def test_a_large_model_stays_mapped(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = folder("llama")
    copied = run(compiled.session("ann"), feed(compiled))["logits"]
    monkeypatch.setattr(session, "LARGE", 0)
    for which in FILES:
        settings = compiled.session(which).get_session_options()
        assert settings.get_session_config_entry("session.disable_prepacking") == "1"
    mapped = run(compiled.session("ann"), feed(compiled))["logits"]
    np.testing.assert_allclose(mapped, copied, rtol=1e-4, atol=1e-4)
