"""Does spikec keep its promises on real models? Compiles them, measures on real text, and fails when one is
broken.

    python bench/acceptance.py --shared ../shared --cache DIR [--only SECTION ...]

DIR is where `bench/models.py` put the models. Every number printed was measured in this run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

sys.path.insert(0, str(Path(__file__).parent))

from speed import measure

from spikec.custom_ops.catalogue import OPS
from spikec.custom_ops.spec import DOMAIN
from spikec.data import token_feeds
from spikec.ir.inputs import Feed, feed_tokens
from spikec.runtime.session import FILES, Compiled, run
from spikec.text import load_tokenizer
from spikec.verify import compare_executions, verify

STORY = Path(__file__).parent.parent / "examples" / "story"
PROMPTS = (
    "Once upon a time",
    "The capital of France is",
    "Lily and her friend Ben",
    "The most important thing about water is",
    "One day, a little dog",
)
CODES_THAT_MAY_DIFFER = 1e-5
OUTPUT_DIFFERENCE = 1e-3


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
        command = ["compile", str(model), "-o", str(self.work / out), "--json", *options]
        done = subprocess.run([sys.executable, "-m", "spikec", *command], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"spikec {' '.join(command)} failed: {done.stderr}")
        return Compiled(self.work / out), json.loads(done.stdout)

    def text(self, name: str) -> Path:
        return self.shared / "data" / name


def smollm2(run_: Run) -> None:
    """Perplexity on WikiText-2 test, first 16 384 tokens at context 512; calibrated on validation text."""
    model = run_.cache / "smollm2" / "model.onnx"
    calibration = ("--data", str(run_.text("wikitext2-valid.txt")), "--tokens", "8192")
    feeds: list[Feed] | None = None
    folders = []
    for steps, limit in ((8, 0.005), (16, 0.001)):
        compiled, report = run_.compile(model, f"smollm2-T{steps}", "-T", str(steps), *calibration)
        folders.append(compiled.folder)
        feeds = feeds or token_feeds(
            compiled.inputs, run_.text("wikitext2-test.txt"), model.parent / "tokenizer.json", 16384, 512
        )
        cost = (
            f"compiled in {report['seconds']} s, peak {report['peak_mb']} MB, coverage {report['coverage']}"
        )
        run_.check(
            f"SmolLM2 T={steps}, dense MACs in blocks", report["coverage"]["dense_macs_in_blocks"] == 0, cost
        )
        result = verify(compiled, feeds, unrolled_tokens=0)
        change = result["perplexity_change"]
        run_.check(
            f"SmolLM2 T={steps}, perplexity within +{100 * limit:.1f} %",
            change <= limit,
            f"ANN {result['ann']['perplexity']:.4f}, SNN {result['snn']['perplexity']:.4f}, "
            f"{percent(result)}, KL {result['kl']:.2e}, top-1 {100 * result['top1_agreement']:.2f} %, "
            f"worst block {result['worst_block']} on {result['tokens']} tokens",
        )
    assert feeds is not None
    eight = Compiled(folders[0])
    executions(run_, "SmolLM2 fp32 weights", eight, feeds[0], exact=False)
    whole, _ = run_.compile(model, "smollm2-int8", "-T", "8", "--weights", "int8", *calibration)
    executions(run_, "SmolLM2 int8 weights", whole, feeds[0], exact=True)
    result = verify(whole, feeds[:8], unrolled_tokens=0)
    print(f"      SmolLM2 int8 weights: perplexity {percent(result)} on {result['tokens']} tokens")
    texts(run_, "SmolLM2", folders[0], PROMPTS)
    medians = measure([folders[0], whole.folder], 128, 9)
    for name, milliseconds in list(medians.items())[1:]:
        ratio = milliseconds / medians["ann"]
        print(f"      packed {Path(name).name} over ONNX Runtime fp32 at 128 tokens: {ratio:.2f}", flush=True)


def percent(result: dict[str, Any]) -> str:
    return f"{100 * result['perplexity_change']:+.3f} %"


def executions(run_: Run, name: str, compiled: Compiled, feed: Feed, exact: bool, tokens: int = 32) -> None:
    """Unrolled equals packed: bit for bit with int8 weights, within rounding with fp32."""
    short = {key: value[:, :tokens] if value.ndim == 2 else value for key, value in feed.items()}
    got = compare_executions(compiled, short)
    if exact:
        run_.check(f"{name}: unrolled == packed bit for bit", got["bit_identical"], got)
        return
    holds = (
        got["different_codes"] <= CODES_THAT_MAY_DIFFER * got["codes"]
        and got["unexplained_codes"] == 0
        and got["max_output_difference"] <= OUTPUT_DIFFERENCE
    )
    run_.check(f"{name}: unrolled == packed within rounding", holds, got)


def texts(run_: Run, name: str, folder: Path, prompts: tuple[str, ...]) -> None:
    for prompt in prompts:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "spikec",
                "run",
                str(folder),
                "--prompt",
                prompt,
                "--compare",
                "--max-tokens",
                "24",
            ],
            capture_output=True,
            text=True,
        )
        run_.check(
            f"{name} writes", done.returncode == 0, "\n      " + done.stdout.strip().replace("\n", "\n      ")
        )


def small(run_: Run) -> None:
    """stories260K and the bundled story model: both weight kinds, both executions, stock ONNX Runtime,
    shapes."""
    for name, folder, text in (
        ("stories260K", run_.cache / "stories260k", run_.text("tinystories-sample.txt")),
        ("story", STORY, STORY / "heldout.txt"),
    ):
        tokenizer = folder / "tokenizer.json"
        for weights in ("fp32", "int8"):
            options = (
                "-T",
                "8",
                "--weights",
                weights,
                "--data",
                str(text),
                "--tokens",
                "4096",
                "--context",
                "256",
            )
            compiled, _ = run_.compile(folder / "model.onnx", f"{name}-{weights}", *options)
            feeds = token_feeds(compiled.inputs, text, tokenizer, 8192, 256)[16:]
            result = verify(compiled, feeds, unrolled_tokens=0)
            print(f"      {name} {weights}: perplexity {percent(result)} on {result['tokens']} tokens")
            executions(run_, f"{name} {weights}", compiled, feeds[0], exact=weights == "int8")
            definition(run_, f"{name} {weights}", compiled, shorten(feeds[0], 12))
            stock(run_, f"{name} {weights}", compiled, shorten(feeds[0], 24), exact=weights == "int8")
        shapes(run_, name, compiled)
        texts(run_, name, compiled.folder, PROMPTS[:1] + PROMPTS[2:3] + PROMPTS[4:])
    load_tokenizer(STORY / "tokenizer.json")


def shorten(feed: Feed, tokens: int) -> Feed:
    return {key: value[:, :tokens] if value.ndim == 2 else value for key, value in feed.items()}


def stock(run_: Run, name: str, compiled: Compiled, feed: Feed, exact: bool) -> None:
    """The same file without the library registered."""
    bodies = run(compiled.session("packed", native=False), feed)
    native = run(compiled.session("packed", native=True), feed)
    gap = max(float(np.abs(bodies[o] - native[o]).max()) for o in compiled.outputs)
    run_.check(
        f"{name}: stock ONNX Runtime == native library", gap == 0 if exact else gap <= OUTPUT_DIFFERENCE, gap
    )


def definition(run_: Run, name: str, compiled: Compiled, feed: Feed) -> None:
    """In stock ONNX Runtime, every spiking node of the model gives what its numpy definition gives on its
    inputs."""
    for execution in ("packed", "unrolled"):
        graph = onnx.load(compiled.folder / FILES[execution]).graph
        nodes = [node for node in graph.node if node.domain == DOMAIN]
        weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
        produced = {o for node in graph.node for o in node.output}
        values = [i for node in nodes for i in node.input if i in produced] + [
            node.output[0] for node in nodes
        ]
        got = {
            **weights,
            **run(compiled.session(execution, native=False, outputs=list(dict.fromkeys(values))), feed),
        }
        wrong = []
        for node in nodes:
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            want = OPS[node.op_type].numpy(*(got[i] for i in node.input), **attributes)
            close = (
                np.allclose(want, got[node.output[0]], rtol=2e-7, atol=0)
                if node.op_type == "SpikeLinear"
                else None
            )
            if not (np.array_equal(want, got[node.output[0]]) or close):
                wrong.append(node.name)
        run_.check(
            f"{name} {execution}: nodes equal to their numpy definition",
            not wrong,
            f"{len(nodes)} nodes, wrong: {wrong}",
        )


def shapes(run_: Run, name: str, compiled: Compiled) -> None:
    """Batch 2, lengths 1, 7 and 512, each against the ANN."""
    ann, snn = compiled.session("ann"), compiled.session("packed")
    rng = np.random.default_rng(0)
    for batch, length in ((1, 1), (2, 7), (1, 512), (2, 64)):
        feed = feed_tokens(compiled.inputs, rng.integers(3, compiled.vocabulary, (batch, length)))
        a, s = run(ann, feed)[compiled.outputs[0]], run(snn, feed)[compiled.outputs[0]]
        cosine = float(np.vdot(a, s) / np.linalg.norm(a) / np.linalg.norm(s))
        run_.check(f"{name} at batch {batch}, length {length}: cosine", cosine > 0.999, cosine)


def minilm(run_: Run) -> None:
    """A BERT-style encoder on real sentences, padded to a batch with an attention mask."""
    folder = run_.cache / "minilm"
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    lines = [
        line for line in run_.text("wikitext2-valid.txt").read_text().splitlines() if 40 < len(line) < 400
    ]
    feeds = [padded(tokenizer, lines[i : i + 8]) for i in range(0, 64, 8)]
    calibration = run_.work / "minilm.npz"
    np.savez(calibration, **padded(tokenizer, lines[100:132]))
    for weights in ("fp32", "int8"):
        options = ("-T", "8", "--weights", weights, "--npz", str(calibration))
        compiled, report = run_.compile(folder / "model.onnx", f"minilm-{weights}", *options)
        run_.check(
            f"MiniLM {weights}, dense MACs in blocks",
            report["coverage"]["dense_macs_in_blocks"] == 0,
            report["found"],
        )
        real = [np.float64(0)] * 3
        ann, snn = compiled.session("ann"), compiled.session("packed")
        for feed in feeds:
            mask = feed["attention_mask"].astype(bool)
            a, s = (run(x, feed)[compiled.outputs[0]][mask] for x in (ann, snn))
            real = [real[0] + np.vdot(a, s), real[1] + np.vdot(a, a), real[2] + np.vdot(s, s)]
        cosine = float(real[0] / np.sqrt(real[1] * real[2]))
        run_.check(f"MiniLM {weights}, padded batches of 8: cosine of real tokens", cosine > 0.999, cosine)
        small_feed = {key: value[:2, :48] for key, value in feeds[0].items()}
        executions(run_, f"MiniLM {weights}", compiled, small_feed, exact=weights == "int8", tokens=48)


def padded(tokenizer: Any, lines: list[str]) -> Feed:
    """input_ids and attention_mask of sentences, padded to the longest."""
    ids = [tokenizer.encode(line).ids[:128] for line in lines]
    width = max(map(len, ids))
    tokens, mask = np.zeros((len(ids), width), np.int64), np.zeros((len(ids), width), np.int64)
    for row, sentence in enumerate(ids):
        tokens[row, : len(sentence)], mask[row, : len(sentence)] = sentence, 1
    return {"input_ids": tokens, "attention_mask": mask}


SECTIONS = {"small": small, "minilm": minilm, "smollm2": smollm2}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shared", type=Path, required=True, help="folder with data/")
    parser.add_argument("--cache", type=Path, required=True, help="where bench/models.py put the models")
    parser.add_argument("--only", nargs="*", choices=SECTIONS, default=list(SECTIONS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="spikec-acceptance-") as work:
        run_ = Run(options.shared, options.cache, Path(work))
        for name in options.only:
            print(f"--- {name}", flush=True)
            SECTIONS[name](run_)
    print(f"{len(run_.failures)} failed" if run_.failures else "acceptance passed")
    return bool(run_.failures)


if __name__ == "__main__":
    sys.exit(main())
