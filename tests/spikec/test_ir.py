"""The compiler's own structures: mapped weights, shared data files, order, pruning, Program, pipeline."""

from __future__ import annotations

import itertools
from pathlib import Path

import models
import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime as ort
import pytest
from onnx import parser

from spikec.ir import graph as graphs
from spikec.ir import pipeline
from spikec.ir.diagnostics import SpikecError
from spikec.ir.program import Certificate, Finding, Program
from spikec.ir.session import with_outputs
from spikec.ir.storage import ALIGNMENT, DataFile
from spikec.ir.weights import (
    INLINE_BYTES,
    DerivedValues,
    MappedValues,
    array,
    derived,
    dtype_of,
)

HEADER = '<ir_version: 9, opset_import: ["": 18]>'


def graph_of(text: str, **weights: np.ndarray) -> gs.Graph:
    model = parser.parse_model(f"{HEADER} g {text}")
    for name, values in weights.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    return gs.import_onnx(onnx.shape_inference.infer_shapes(model))


def tensor(graph: gs.Graph, name: str) -> gs.Tensor:
    return graph.tensors()[name]


# Weights


@pytest.fixture
def external(tmp_path: Path) -> Path:
    """The tiny llama with its large tensors in model.data."""
    model = models.llama()
    onnx.save(
        model, tmp_path / "model.onnx", save_as_external_data=True, location="model.data", size_threshold=1024
    )
    return tmp_path / "model.onnx"


def test_external_weights_are_views_of_the_file(external: Path) -> None:
    graph = graphs.load(external)
    expected = {i.name: onnx.numpy_helper.to_array(i) for i in models.llama().graph.initializer}
    mapped = [c for c in graphs.constants(graph) if isinstance(c._values, MappedValues)]
    assert {c.name for c in mapped} == {n for n, v in expected.items() if v.nbytes >= 1024}
    for constant in mapped:
        view = array(constant)
        assert isinstance(view, np.memmap) and not view.flags.writeable and not view.flags.owndata
        assert Path(view.filename) == external.with_name("model.data")
        np.testing.assert_array_equal(view, expected[constant.name])
        assert isinstance(constant._values, MappedValues), "reading must not cache a copy in the graph"


def test_a_change_in_the_file_is_seen_so_nothing_was_copied(external: Path) -> None:
    graph = graphs.load(external)
    constant = next(c for c in graphs.constants(graph) if c.name == "table")
    assert isinstance(constant._values, MappedValues)
    with external.with_name("model.data").open("r+b") as stream:
        stream.seek(constant._values.offset)
        stream.write(np.float32(42).tobytes())
    assert array(constant)[0, 0] == 42


def test_two_models_share_one_data_file(external: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    data = DataFile(out / "weights.bin")
    graph = graphs.load(external)
    graphs.save(graph, out / "a.onnx", data)
    size = data.path.stat().st_size
    graphs.save(graph, out / "b.onnx", data)
    graphs.save(graphs.load(external), out / "c.onnx", data)
    data.close()
    assert data.path.stat().st_size == size
    large = [a for c in graphs.constants(graph) if (a := array(c)).nbytes > INLINE_BYTES]
    assert sum(a.nbytes for a in large) <= size < sum(a.nbytes + ALIGNMENT for a in large)
    assert all((out / f"{n}.onnx").stat().st_size < 60_000 for n in "abc")
    feed = {"input_ids": np.arange(10).reshape(2, 5)}
    want = ort.InferenceSession(external).run(None, feed)[0]
    for name in "abc":
        got = ort.InferenceSession(out / f"{name}.onnx").run(None, feed)[0]
        np.testing.assert_array_equal(got, want)


def test_references_are_aligned_and_point_at_the_bytes(tmp_path: Path) -> None:
    data = DataFile(tmp_path / "w.bin")
    first, second = np.arange(700, dtype=np.int8), np.arange(300, dtype=np.float32).reshape(20, 15).T
    protos = [data.reference(gs.Constant(n, v)) for n, v in (("a", first), ("b", second), ("a", first))]
    data.close()
    info = [{e.key: e.value for e in p.external_data} for p in protos]
    assert info[0] == info[2] == {"location": "w.bin", "offset": "0", "length": "700"}
    assert info[1] == {"location": "w.bin", "offset": str(ALIGNMENT), "length": "1200"}
    content = (tmp_path / "w.bin").read_bytes()
    np.testing.assert_array_equal(np.frombuffer(content[ALIGNMENT:], np.float32).reshape(15, 20), second)


def test_saving_leaves_the_graph_as_it_was(external: Path, tmp_path: Path) -> None:
    graph = graphs.load(external)
    before = {c.name: c._values for c in graphs.constants(graph)}
    data = DataFile(tmp_path / "w.bin")
    graphs.save(graph, tmp_path / "a.onnx", data)
    data.close()
    assert all(c._values is before[c.name] for c in graphs.constants(graph))
    skeleton = graphs.skeleton(graph)
    assert skeleton.ByteSize() < 60_000 and len(skeleton.graph.node) == len(graph.nodes)


# Order and pruning


def chain(length: int) -> gs.Graph:
    """x → Neg → ... → y, listed back to front."""
    tensors = [gs.Variable(f"t{i}", np.float32, (1,)) for i in range(length + 1)]
    nodes = [gs.Node("Neg", f"n{i}", inputs=[tensors[i]], outputs=[tensors[i + 1]]) for i in range(length)]
    return gs.Graph(nodes[::-1], inputs=[tensors[0]], outputs=[tensors[-1]], opset=18)


def test_a_long_reversed_chain_is_sorted() -> None:
    graph = chain(3000)
    graphs.sort(graph)
    assert [node.name for node in graph.nodes] == [f"n{i}" for i in range(3000)]
    graphs.sort(graph)
    assert graph.nodes[0].name == "n0"


@pytest.mark.parametrize("order", list(itertools.permutations(range(5)))[::7])
def test_one_order_whatever_order_the_nodes_had(order: tuple[int, ...]) -> None:
    text = (
        "(float[2] x) => (float[2] y) { b = Neg (x) a = Abs (x) c = Exp (x) d = Add (a, b) y = Add (d, c) }"
    )
    graph = graph_of(text)
    graph.nodes[:] = [graph.nodes[i] for i in order]
    graphs.sort(graph)
    assert [node.outputs[0].name for node in graph.nodes] == ["a", "b", "d", "c", "y"]


def test_nodes_without_a_name_are_named_after_their_result() -> None:
    graph = graph_of("(float[2] x) => (float[2] y) { b = Neg (x) c = Neg (b) d = Neg (c) y = Neg (d) }")
    for node, name in zip(graph.nodes, ["", "twice", "twice", "Neg#b"], strict=True):
        node.name = name
    graphs.name_nodes(graph)
    assert [node.name for node in graph.nodes] == ["Neg#b'", "twice#c", "twice#d", "Neg#b"]


def test_what_a_subgraph_reads_comes_first() -> None:
    text = """(bool c, float[2] x) => (float[2] y) { k = Neg (x) y = If (c) <
        then_branch = t () => (float[2] a) { a = Abs (k) },
        else_branch = e () => (float[2] b) { b = Exp (x) }> }"""
    graph = graph_of(text)
    graph.nodes[:] = graph.nodes[::-1]
    graphs.sort(graph)
    assert [node.op for node in graph.nodes] == ["Neg", "If"]
    graphs.prune(graph)
    assert len(graph.nodes) == 2


def test_a_cycle_is_an_error() -> None:
    graph = chain(3)
    graph.nodes[-1].inputs[0] = graph.nodes[0].outputs[0]
    with pytest.raises(SpikecError, match="the graph has a cycle"):
        graphs.sort(graph)


def test_pruning_removes_what_no_output_needs() -> None:
    text = "(float[2] x) => (float[2] y) { a = Neg (x) dead = Abs (a) deader = Exp (dead) y = Exp (a) }"
    graph = graph_of(text)
    graphs.prune(graph)
    assert [node.outputs[0].name for node in graph.nodes] == ["a", "y"]
    assert [user.op for user in tensor(graph, "a").outputs] == ["Exp"]


# Program and pipeline


def test_replacing_a_result_keeps_every_reader_and_the_certificate(tmp_path: Path) -> None:
    graph = graph_of("(float[2] x) => (float[2] y, float[2] a) { a = Exp (x) y = Neg (a) }")
    program, a = Program(tmp_path, graph), tensor(graph, "a")
    twin = gs.Variable("twin", np.float32)
    graph.nodes.append(gs.Node("Abs", "twin", inputs=[tensor(graph, "x")], outputs=[twin]))
    finding = Finding("k", (tensor(graph, "x"),), a, ())
    broken = Certificate("a", "k", "Abs", "nothing", 1, 2.0, 1.0)
    program.replace(finding, twin, broken)
    assert graphs.producer(a).op == "Exp" and "kept on host" in program.diagnostics[0].text
    certificate = Certificate("a", "k", "Abs", "nothing", 1, 1.0, 1.0)
    program.replace(finding, twin, certificate)
    graphs.prune(graph)
    graphs.sort(graph)
    assert [node.op for node in graph.nodes] == ["Abs", "Neg"]
    assert graph.nodes[0].outputs == [a] and graph.outputs[1] is a
    assert program.certificates == [broken, certificate]


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Three toy passes c after b after a; returns the list they write into."""
    monkeypatch.setattr(pipeline, "PASSES", {})
    done: list[str] = []

    @pipeline.compiler_pass(after=["b", "absent"])
    def c(program: Program, *, loud: bool = False) -> None:
        done.append(f"c{loud}")

    @pipeline.compiler_pass()
    def a(program: Program) -> None:
        done.append("a")

    @pipeline.compiler_pass(after=["a"])
    def b(program: Program, *, size: int = 1) -> None:
        done.append(f"b{size}")

    return done


def test_passes_run_in_declared_order_with_the_options_they_declare(
    passes: list[str], tmp_path: Path
) -> None:
    assert pipeline.order(["c", "b", "a"]) == ["a", "b", "c"] and pipeline.order(["c", "a"]) == ["c", "a"]
    program = Program(tmp_path, gs.Graph())
    pipeline.run(program, ["c", "b", "a"], {"size": 7, "other": 1}, [pipeline.Stopwatch()])
    assert passes == ["a", "b7", "cFalse"]
    assert [t["pass"] for t in program.timings] == ["a", "b", "c"]
    assert pipeline.PASSES["c"].options == {"loud": False}
    with pytest.raises(KeyError, match="nonsense"):
        pipeline.order(["a", "nonsense"])


def test_interior_values_can_be_asked_for(tmp_path: Path) -> None:
    onnx.save(models.bert(), tmp_path / "m.onnx")
    path = with_outputs(tmp_path / "m.onnx", ["l0_gelu", "hidden"], tmp_path / "probe.onnx")
    names = [o.name for o in ort.InferenceSession(path).get_outputs()]
    assert names == ["hidden", "l0_gelu"]


# Derived weights


def test_derived_values_are_made_on_demand_and_written_once(tmp_path: Path) -> None:
    made = []

    def transpose(x: np.ndarray) -> np.ndarray:
        made.append(x.shape)
        return x.T

    source = gs.Constant("w", np.arange(600, dtype=np.float32).reshape(20, 30))
    constant = derived("w", [source], transpose, (30, 20), np.float32)
    assert made == [] and constant.shape == [30, 20] and dtype_of(constant) == np.float32
    data = DataFile(tmp_path / "data.bin")
    assert data.add(source) != data.add(constant), "a derived tensor may bear its source's name"
    first = data.add(constant)
    assert data.add(constant) == first and len(made) == 1
    data.close()
    _, offset, length = first
    written = np.fromfile(tmp_path / "data.bin", np.float32, offset=offset, count=length // 4)
    np.testing.assert_array_equal(written.reshape(30, 20), array(source).T)
    assert isinstance(constant._values, DerivedValues), "reading must not cache a copy in the graph"


def test_derived_values_must_be_what_they_claim() -> None:
    source = gs.Constant("w", np.zeros((20, 30), np.float32))
    with pytest.raises(TypeError, match="not float16"):
        array(derived("v", [source], np.transpose, (30, 20), np.float16))


def test_small_derived_values_are_plain_arrays() -> None:
    source = gs.Constant("w", np.ones((2, 3), np.float32))
    assert isinstance(derived("v", [source], np.transpose, (3, 2), np.float32)._values, np.ndarray)
