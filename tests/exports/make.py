"""Exports the matrix: `python tests/exports/make.py [--plain FOLDER] [NAME...]`; needs transformers."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import onnx
import onnxruntime
import torch
from exports import matrix, plan, skeleton
from exports.architectures import ARCHITECTURES
from exports.case import Case, fill_padding, make_trained
from exports.census import census
from exports.counts import DROPPED, EXPECTED, Counts
from exports.exporters import export
from exports.optimised import TOOLS
from exports.optimum import with_past, with_positions

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
README = Path(__file__).with_name("README.md")
"""Ends with a table of the planned models that their exporter cannot make, and its reason."""


def build(model: plan.Model) -> Case:
    case = ARCHITECTURES[model.architecture](model.attention)
    fill_padding(case.module)
    if model.opset not in (11, 14):
        make_trained(case.module)  # left out at two opsets: exporters share equal gains between norms
    if model.exporter == "optimum":
        case = (with_past if model.past else with_positions)(case)
    dtype = DTYPES[model.dtype]
    case.module.to(dtype)
    case.inputs = {name: t.to(dtype) if t.is_floating_point() else t for name, t in case.inputs.items()}
    return case


def check(model: plan.Model, case: Case) -> None:
    """Compares the counts made by hand with what torch computes."""
    seen = census(case)
    ran = asdict(EXPECTED[model.architecture] + DROPPED.get(model.architecture, Counts()))
    if model.attention == "eager":
        ran.pop("attention")  # no function of torch's own
    wrong = {kind: (count, seen.get(kind, 0)) for kind, count in ran.items() if count != seen.get(kind, 0)}
    if wrong:
        raise SystemExit(f"{model.name}: by hand, in torch: {wrong}")


def strip(graph: onnx.GraphProto) -> None:
    """Leaves out stack traces, which are most of a tiny model."""
    for node in graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
        for attribute in node.attribute:
            if attribute.HasField("g"):
                strip(attribute.g)
    for value in [*graph.value_info, *graph.input, *graph.output]:
        del value.metadata_props[:]


def run(model: onnx.ModelProto, feed: dict[str, np.ndarray]) -> list[tuple[int, ...]] | str:
    """The shapes of the outputs in ONNX Runtime, or why there are none."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        names = [i.name for i in session.get_inputs()]
        return [np.shape(output) for output in session.run(None, {name: feed[name] for name in names})]
    except Exception as error:  # every kind of failure is one answer: it does not run
        return str(error).splitlines()[0].partition("Error in Node")[0][:100]


def make(model: plan.Model, plain: Path | None) -> str:
    """Writes one model; returns what to say about it."""
    case = build(model)
    check(model, case)
    exported = export(model.exporter, case, model.opset, not model.static)
    if model.tool:
        exported = TOOLS[model.tool](exported, model.architecture)
    strip(exported.graph)
    del exported.metadata_props[:], exported.graph.metadata_props[:]
    copy = onnx.ModelProto()
    copy.CopyFrom(exported)
    data = skeleton.pack(copy)
    said = f"{len(exported.graph.node)} nodes, {len(data)} bytes"
    if model.dtype != "bf16":  # which numpy cannot feed, and ONNX Runtime runs only in part
        feed = {name: tensor.numpy() for name, tensor in case.inputs.items()}
        before, after = run(exported, feed), run(skeleton.unpack(data), feed)
        if before != after:
            raise SystemExit(f"{model.name}: original {before}, stored {after}")
        if isinstance(before, str):
            one = {name: values[:1] for name, values in feed.items()}
            alone = run(exported, one)
            if (
                isinstance(alone, str) and "NOT_IMPLEMENTED" not in alone
            ):  # a valid graph without kernels is fine
                raise ValueError(f"exported, but ONNX Runtime cannot run it: {alone}")
            said += f"; ONNX Runtime: {before}"
    if plain:
        target = plain / f"{model.name}.onnx"
        onnx.save(exported, target.with_suffix(".tmp"))
        target.with_suffix(".tmp").rename(target)
    matrix.FOLDER.mkdir(exist_ok=True)
    (matrix.FOLDER / f"{model.name}{matrix.SUFFIX}").write_bytes(data)
    return said


def reason(error: Exception) -> str:
    """The exporter's own first line that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = next((line for line in lines if "<class" in line and "Error" in line), lines[0] if lines else "")
    told = told.partition("  [Caused by")[0].replace("|", "/")
    return f"{type(error).__name__}: {told}"[:240]


def read_refused() -> dict[str, str]:
    """The table at the end of the README."""
    rows = [
        line.strip("| ").split(" | ") for line in README.read_text().splitlines() if line.startswith("| `")
    ]
    return {name.strip("`"): why for name, why in rows if "-" in name}


def write_refused(refused: dict[str, str]) -> None:
    text = README.read_text()
    kept = text[: text.index("\n\n", text.index("## What exporters refuse") + 30)]
    rows = [f"| `{name}` | {why} |" for name, why in sorted(refused.items())]
    README.write_text("\n".join([kept, "", "| model | reason |", "|---|---|", *rows, ""]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="models (default: those planned and not yet stored)")
    parser.add_argument("--plain", type=Path, help="also write the models as they are, with expected.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    planned = {model.name: model for model in plan.models(list(ARCHITECTURES))}
    refused = read_refused()
    if unknown := set(options.names) - set(planned):
        parser.error(f"not planned: {', '.join(sorted(unknown))}")
    missing = [name for name in planned if name not in matrix.NAMES and name not in refused]
    missing.sort(key=lambda name: planned[name].exporter == "dynamo")  # which takes ten times as long
    for name in options.names or missing:
        started = time.perf_counter()
        try:
            said = make(planned[name], options.plain)
            refused.pop(name, None)
        except Exception as error:  # an exporter fails in any way it likes; the matrix says so and goes on
            said = refused[name] = reason(error)
        print(f"{name}: {said} ({time.perf_counter() - started:.1f} s)", flush=True)
        write_refused(refused)
        if options.plain:
            path = options.plain / "expected.json"
            counts = {n: matrix.expected(n) for n in planned if (options.plain / f"{n}.onnx").exists()}
            path.with_suffix(".tmp").write_text(json.dumps(counts, indent=1))
            path.with_suffix(".tmp").rename(path)


if __name__ == "__main__":
    main()
