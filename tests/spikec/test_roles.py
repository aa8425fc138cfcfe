"""What an input is for is told by what the graph does with it; names decide only where that does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from spikec.ir import graph as graphs
from spikec.ir import roles as of
from spikec.ir.inputs import ModelInput, describe, doubled, feed_tokens, past_length, token_input
from spikec.ir.session import reference_session
from spikec.sample import Sampler


def graph(tmp_path: Path, body: str, opset: str = '"": 17', **constants: np.ndarray) -> Path:
    """The file of a model in ONNX text, with constants."""
    model = parser.parse_model(f"<ir_version: 9, opset_import: [{opset}]> g {body}")
    model.graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in constants.items())
    for index, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{index}"
    onnx.save(model, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def inputs_of(path: Path) -> dict[str, ModelInput]:
    return {i.name: i for i in describe(graphs.load(path))}


def sampler(path: Path) -> Sampler:
    made = graphs.load(path)
    return Sampler(made, describe(made), reference_session(path), seed=0)


def table(rows: int, width: int = 8) -> np.ndarray:
    return np.random.default_rng(rows).standard_normal((rows, width)).astype(np.float32)


ENCODER = """(int64[B, S] a, int64[B, S] b, int64[B, S] c) => (float[B, S, 8] y) {
  word = Gather (words, a) kind = Gather (kinds, b) both = Add (word, kind)
  f = Cast <to = 1> (c) d = Unsqueeze (f, last) hidden = Sub (one, d) y = Sub (both, hidden) }"""
LAST = np.array([2])
ONE = np.float32(1)


def test_inputs_without_telling_names(tmp_path: Path) -> None:
    path = graph(tmp_path, ENCODER, words=table(50), kinds=table(2), last=LAST, one=ONE)
    found = inputs_of(path)
    assert [found[n].role.kind for n in "abc"] == [of.TOKENS, of.SEGMENTS, of.MASK]
    assert (found["a"].role.rows, found["b"].role.rows) == (50, 2)
    assert token_input(found.values()) == "a"
    feeds = sampler(path).feeds()
    assert max(f["a"].max() for f in feeds) > 40 and {v for f in feeds for v in np.unique(f["b"])} == {0, 1}
    assert feeds[0]["c"].all() and feeds[-1]["c"].sum() == 1
    twice = doubled(found.values(), feeds[0])
    assert {v.shape for v in twice.values()} == {(2, 64)}


def test_described_inputs_survive_the_report(tmp_path: Path) -> None:
    path = graph(tmp_path, ENCODER, words=table(50), kinds=table(2), last=LAST, one=ONE)
    for i in inputs_of(path).values():
        assert ModelInput.from_json(i.as_json()) == i


CACHED = """(int64[B, S] ids, float[B, 2, P, 4] x, float[B, T] seen)
  => (float[B, T, 8] y, float[B, 2, T, 4] z) {
  e = Gather (words, ids) r = Reshape (e, heads) k = Transpose <perm = [0, 2, 1, 3]> (r)
  z = Concat <axis = 2> (x, k) w = Transpose <perm = [0, 2, 1, 3]> (z) v = Reshape (w, whole)
  d = Unsqueeze (seen, last) y = Mul (v, d) }"""
SHAPES = {"heads": np.array([0, 0, 2, 4]), "whole": np.array([0, 0, 8])}


def test_a_cache_is_what_grows_into_an_output(tmp_path: Path) -> None:
    path = graph(tmp_path, CACHED, words=table(50), last=LAST, **SHAPES)
    inputs = inputs_of(path)
    assert inputs["x"].role == of.Role(of.CACHE, present="z") and inputs["seen"].role.kind != of.CACHE
    feed = feed_tokens([inputs["ids"], inputs["x"]], np.zeros((3, 5), int))
    assert feed["x"].shape == (3, 2, 0, 4)
    past = {"x": np.ones((3, 2, 7, 4), np.float32)}
    assert past_length(inputs.values(), past) == 7
    assert feed_tokens([inputs["ids"], inputs["x"]], np.zeros((3, 5), int), past)["x"] is past["x"]


def test_some_of_a_decoder_s_feeds_go_on_from_its_own_cache(tmp_path: Path) -> None:
    path = graph(tmp_path, CACHED.replace("seen", "attention_mask"), words=table(50), last=LAST, **SHAPES)
    feeds = sampler(path).feeds()
    assert [f["x"].shape[2] for f in feeds] == [0, 42, 0, 42, 0, 0, 0, 0]
    assert all(f["ids"].shape[1] + f["x"].shape[2] == 64 == f["attention_mask"].shape[1] for f in feeds)
    rows = table(50).reshape(50, 2, 4)
    assert (feeds[1]["x"][0, :, 0, None] == rows.transpose(1, 0, 2)).all(-1).any(-1).all()


@pytest.mark.parametrize(
    ("past", "present"),
    [
        ("past_key_values.{}.{}", "present.{}.{}"),
        ("past_key_values.{}.decoder.{}", "present.{}.decoder.{}"),
        ("past_{1}_{0}", "present_{1}_{0}"),
        ("past_{}_{}", "present_{}_{}"),
        ("pastKv.{}.{}", "presentKv.{}.{}"),
    ],
)
def test_caches_are_paired_by_name(tmp_path: Path, past: str, present: str) -> None:
    layers = [(layer, kind) for layer in (0, 1) for kind in ("key", "value")]
    names = {past.format(*one): present.format(*one) for one in layers}
    takes = ", ".join(f'float[B, 2, P, 4] "{name}"' for name in names)
    gives = ", ".join(f'float[B, 2, P, 4] "{name}"' for name in reversed(names.values()))
    body = " ".join(f'"{b}" = Mul ("{a}", two)' for a, b in names.items())
    path = graph(tmp_path, f"({takes}) => ({gives}) {{ {body} }}", two=np.float32(2))
    assert {name: i.role.present for name, i in inputs_of(path).items()} == names


@pytest.mark.parametrize(
    ("body", "kind"),
    [("s = Add (x, attn_mask)", of.BIAS), ("k = Sub (one, attn_mask) s = Sub (x, k)", of.MASK)],
)
def test_a_real_mask_is_added_or_turned_round_first(tmp_path: Path, body: str, kind: str) -> None:
    path = graph(
        tmp_path,
        f"(float[B, 1, S, S] attn_mask, float[B, H, S, S] x) => (float[B, H, S, S] s) {{ {body} }}",
        one=ONE,
    )
    assert inputs_of(path)["attn_mask"].role.kind == kind
    assert (sampler(path).feeds()[0]["attn_mask"] == (kind == of.MASK)).all()


def test_an_image_of_free_size_fills_the_position_table(tmp_path: Path) -> None:
    path = graph(
        tmp_path,
        """(float[B, C, H, W] picture) => (float[B, N, 8] y) {
          p = Conv <kernel_shape = [4, 4], strides = [4, 4]> (picture, kernel) f = Reshape (p, flat)
          t = Transpose <perm = [0, 2, 1]> (f) y = Add (t, places) }""",
        kernel=np.ones((8, 3, 4, 4), np.float32),
        flat=np.array([0, 8, -1]),
        places=table(25)[None],
    )
    assert inputs_of(path)["picture"].role.kind == of.IMAGE
    assert sampler(path).feeds()[0]["picture"].shape == (1, 3, 20, 20)


def test_sound_of_free_length_fills_the_position_table(tmp_path: Path) -> None:
    path = graph(
        tmp_path,
        """(float[B, 6, F] mel) => (float[B, N, 8] y) {
          c = Conv <kernel_shape = [3], pads = [1, 1], strides = [2]> (mel, kernel)
          t = Transpose <perm = [0, 2, 1]> (c) y = Add (t, places) }""",
        kernel=np.ones((8, 6, 3), np.float32),
        places=table(15),
    )
    assert inputs_of(path)["mel"].role.kind == of.SOUND
    assert sampler(path).feeds()[0]["mel"].shape == (1, 6, 30)


def test_a_length_that_tracing_wrote_into_the_graph(tmp_path: Path) -> None:
    path = graph(
        tmp_path,
        "(float[B, S, 8] x) => (float[B, S, 8] y) { h = Reshape (x, heads) y = Reshape (h, whole) }",
        heads=np.array([-1, 23, 2, 4]),
        whole=np.array([-1, 23, 8]),
    )
    assert sampler(path).feeds()[0]["x"].shape == (1, 23, 8)


def test_as_many_image_tokens_as_there_are_features(tmp_path: Path) -> None:
    path = graph(
        tmp_path,
        """(int64[B, S] ids, float[B, 9, 8] features) => (float[B, S, 8] y) {
          e = Gather (words, ids) here = Equal (ids, image) places = NonZero (here)
          at = Transpose <perm = [1, 0]> (places) n = Shape <start = 0, end = 1> (at)
          flat = Reshape (features, rows) given = GatherND (flat, counts) all = Slice (flat, zero, n, zero)
          y = ScatterND (e, at, all) }""",
        words=table(50),
        image=np.array(7),
        rows=np.array([-1, 8]),
        zero=np.array([0]),
        counts=np.array([[0]]),
    )
    assert inputs_of(path)["ids"].role.mark == 7
    assert [int((f["ids"] == 7).sum()) for f in sampler(path).feeds()] == [9] * 8


def test_group_query_attention_is_told_how_long_its_sequences_are(tmp_path: Path) -> None:
    path = graph(
        tmp_path,
        """(int64[B, S] ids, float[B, 1, P, 8] pk, float[B, 1, P, 8] pv, int32[B] n, int32 all)
          => (float[B, S, 16] y, float[B, 1, T, 8] k, float[B, 1, T, 8] v) {
          q = Gather (words, ids) u = Gather (others, ids)
          y, k, v = com.microsoft.GroupQueryAttention
            <num_heads = 2, kv_num_heads = 1> (q, u, u, pk, pv, n, all)
        }""",
        '"": 17, "com.microsoft": 1',
        words=table(50, 16),
        others=table(50, 8),
    )
    inputs = inputs_of(path)
    kinds = {name: i.role.kind for name, i in inputs.items()}
    assert kinds == {"ids": of.TOKENS, "pk": of.CACHE, "pv": of.CACHE, "n": of.LAST, "all": of.TOTAL}
    assert (inputs["pk"].role.present, inputs["pv"].role.present) == ("k", "v")
    past = {name: np.zeros((2, 1, 3, 8), np.float32) for name in ("pk", "pv")}
    feed = feed_tokens(inputs.values(), np.zeros((2, 5), int), past)
    assert feed["n"].tolist() == [7, 7] and feed["all"] == 8 and feed["all"].shape == ()
    assert [f["pk"].shape[2] for f in sampler(path).feeds()] == [0, 42, 0, 42, 0, 0, 0, 0]


def test_a_merged_decoder_is_told_whether_it_has_a_cache(tmp_path: Path) -> None:
    path = graph(
        tmp_path,
        """(int64[B, S] ids, float[B, P, 8] past, bool[1] use_cache_branch) => (float[B, T, 8] present) {
          e = Gather (words, ids)
          present = If (use_cache_branch) <
            then_branch = then () => (float[B, T, 8] longer) { longer = Concat <axis = 1> (past, e) },
            else_branch = other () => (float[B, T, 8] first) { first = Identity (e) } > }""",
        words=table(50),
    )
    inputs = inputs_of(path)
    assert inputs["use_cache_branch"].role.kind == of.BRANCH
    assert inputs["past"].role == of.Role(of.CACHE, present="present")
    assert not feed_tokens(inputs.values(), np.zeros((1, 5), int))["use_cache_branch"][0]
    past = {"past": np.zeros((1, 3, 8), np.float32)}
    assert feed_tokens(inputs.values(), np.zeros((1, 5), int), past)["use_cache_branch"][0]
    assert [f["past"].shape[1] for f in sampler(path).feeds()] == [0, 42, 0, 42, 0, 0, 0, 0]
