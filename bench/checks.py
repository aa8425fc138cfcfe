"""What `bench/acceptance.py` asks of every compiled model, whatever the model is."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from spikec.custom_ops.catalogue import OPS
from spikec.custom_ops.spec import DOMAIN
from spikec.ir.inputs import Feed, feed_tokens
from spikec.runtime.session import FILES, Compiled, run
from spikec.verify import compare_executions

PROMPTS = (
    "Once upon a time",
    "The capital of France is",
    "Lily and her friend Ben",
    "The most important thing about water is",
    "One day, a little dog",
)
CODES_THAT_MAY_DIFFER = 1e-5
OUTPUT_DIFFERENCE = 1e-3
COSINE = 0.999
SHAPES = ((1, 1), (2, 7), (1, 512), (2, 64))


@dataclass
class Run:
    shared: Path
    cache: Path
    work: Path
    failures: list[str] = field(default_factory=list)

    def check(self, what: str, holds: bool, value: Any) -> None:
        print(f"{'ok  ' if holds else 'FAIL'}  {what}: {value}", flush=True)
        if not holds:
            self.failures.append(f"{what}: {value}")

    def compile(self, model: Path, out: str, *options: str) -> tuple[Compiled, dict[str, Any]]:
        """Through the command line, in a process of its own, so that seconds and peak memory are its own."""
        done = spikec("compile", str(model), "-o", str(self.work / out), "--json", *options)
        if done.returncode:
            raise SystemExit(f"spikec compile {model} {' '.join(options)} failed: {done.stderr}")
        return Compiled(self.work / out), json.loads(done.stdout)

    def text(self, name: str) -> Path:
        return self.shared / "data" / name


def spikec(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "spikec", *command], capture_output=True, text=True)


def executions(run_: Run, name: str, compiled: Compiled, feed: Feed, exact: bool) -> None:
    """Unrolled equals packed: bit for bit with int8 weights, within rounding with fp32."""
    got = compare_executions(compiled, feed)
    if exact:
        run_.check(f"{name}: unrolled == packed bit for bit", got["bit_identical"], got)
        return
    holds = (
        got["different_codes"] <= CODES_THAT_MAY_DIFFER * got["codes"]
        and got["unexplained_codes"] == 0
        and got["max_output_difference"] <= OUTPUT_DIFFERENCE
    )
    run_.check(f"{name}: unrolled == packed within rounding", holds, got)


def stock(run_: Run, name: str, compiled: Compiled, feed: Feed, exact: bool) -> None:
    """The same file without the library registered."""
    bodies = run(compiled.session("packed", native=False), feed)
    native = run(compiled.session("packed", native=True), feed)
    gap = max(float(np.abs(bodies[o] - native[o]).max()) for o in compiled.outputs)
    holds = gap == 0 if exact else gap <= OUTPUT_DIFFERENCE
    run_.check(f"{name}: stock ONNX Runtime == native library", holds, gap)


def definition(run_: Run, name: str, compiled: Compiled, feed: Feed) -> None:
    """In stock ONNX Runtime, every spiking node gives what its numpy definition gives on its inputs: the same
    bits, save that sums of fp32 weights may round differently."""
    for execution in ("packed", "unrolled"):
        graph = onnx.load(compiled.folder / FILES[execution]).graph
        nodes = [node for node in graph.node if node.domain == DOMAIN]
        produced = {output for node in graph.node for output in node.output}
        wanted = dict.fromkeys(v for node in nodes for v in (*node.input, *node.output) if v in produced)
        values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
        values |= run(compiled.session(execution, native=False, outputs=list(wanted)), feed)
        wrong = []
        for node in nodes:
            inputs, got = [values[i] for i in node.input], values[node.output[0]]
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            want = OPS[node.op_type].numpy(*inputs, **attributes)
            rounds = node.op_type == "SpikeLinear" and inputs[1].dtype == np.float32
            if not (np.allclose(want, got, rtol=2e-7, atol=0) if rounds else np.array_equal(want, got)):
                wrong.append(node.name)
        what = f"{name} {execution}: nodes equal to their numpy definition"
        run_.check(what, bool(nodes) and not wrong, f"{len(nodes)} nodes, wrong: {wrong}")


def shapes(run_: Run, name: str, compiled: Compiled, sizes: tuple[tuple[int, int], ...] = SHAPES) -> None:
    """Random tokens at every batch and length, against the ANN."""
    ann, snn = compiled.session("ann"), compiled.session("packed")
    rng = np.random.default_rng(0)
    for batch, length in sizes:
        feed = feed_tokens(compiled.inputs, rng.integers(3, compiled.vocabulary, (batch, length)))
        a, s = run(ann, feed)[compiled.outputs[0]], run(snn, feed)[compiled.outputs[0]]
        cosine = float(np.vdot(a, s) / np.linalg.norm(a) / np.linalg.norm(s))
        run_.check(f"{name} at batch {batch}, length {length}: cosine", cosine > COSINE, cosine)


def texts(run_: Run, name: str, folder: Path) -> None:
    """Greedy text of both models, from every prompt."""
    for prompt in PROMPTS:
        done = spikec("run", str(folder), "--prompt", prompt, "--compare", "--max-tokens", "24")
        said = (done.stdout.strip() or done.stderr.strip()).replace("\n", "\n      ")
        run_.check(f"{name} writes", done.returncode == 0, f"\n      {said}")


def percent(result: dict[str, Any]) -> str:
    return f"{100 * result['perplexity_change']:+.3f} %"
