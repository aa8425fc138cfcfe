"""ANN against SNN on data, block by block and end to end, and unrolled against packed, code by code."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .custom_ops.train import total
from .ir.diagnostics import SpikecError
from .ir.inputs import Feed, shorten, token_input
from .ir.likelihood import log_softmax
from .ir.session import Session
from .runtime.events import EventCounter
from .runtime.session import Compiled, run

ROWS = 128
"""Rows of logits taken to float64 at a time."""
ROUNDING = 1e-5
"""Two inputs of one encoder this close (relative) differ by float32 rounding only."""
STREAMED = 128
"""Tokens on which the events of a stream are counted."""


def verify(
    compiled: Compiled,
    feeds: list[Feed],
    unrolled_tokens: int = 32,
    native: bool | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Perplexity of both (when a causal output is over the vocabulary), KL(ANN‖SNN) in nats a token, top-1
    agreement, cosine of the outputs and of every block, the worst block, and the comparison of executions."""
    blocks = compiled.report["block_outputs"]
    names = list(blocks.values())
    ann, snn = (
        compiled.session("ann", outputs=names),
        compiled.session("packed", native=native, outputs=names),
    )
    tokens, output = token_input(compiled.inputs), ""
    score, layers = Score(), {name: Cosine() for name in names}
    ends = {name: Cosine() for name in compiled.outputs}
    for index, feed in enumerate(feeds):
        a, s = run(ann, feed), run(snn, feed)
        for name in names:
            layers[name].add(*real_tokens(feed, a[name], s[name]))
        for name in compiled.outputs:
            check_finite(name, a[name], s[name])
            ends[name].add(*real_tokens(feed, a[name], s[name]))
        if tokens is not None:
            if index == 0:
                output = over_vocabulary(compiled, a, feed[tokens])
                score.causal = bool(output) and is_causal(ann, feed, tokens, output)
            if output:
                score.add(a[output], s[output], feed[tokens], token_mask(feed, feed[tokens].shape))
        if progress:
            progress(index + 1, len(feeds))
    cosines = {block: layers[name].value for block, name in blocks.items()}
    ann_perplexity, snn_perplexity = score.perplexity(0), score.perplexity(1)
    result: dict[str, Any] = {
        "ann": {"perplexity": ann_perplexity},
        "snn": {"perplexity": snn_perplexity},
        "perplexity_change": snn_perplexity / ann_perplexity - 1
        if ann_perplexity and snn_perplexity
        else None,
        "kl": score.kl / score.rows if score.rows else None,
        "top1_agreement": score.agree / score.rows if score.rows else None,
        "cosine": min(c.value for c in ends.values()),
        "max_difference": max(c.largest for c in ends.values()),
        "tokens": score.targets,
        "windows": len(feeds),
        "blocks": cosines,
        "worst_block": min(cosines, key=cosines.__getitem__) if cosines else None,
        "timesteps": compiled.report["timesteps"],
        "weights": compiled.report["weights"],
    }
    counter = EventCounter(compiled, native)
    few = any(encoder.streams for encoder in counter.encoders.values())  # spikes of every step are held
    counter.add(shorten(compiled.inputs, feeds[0], STREAMED) if few else feeds[0])
    result["events"] = counter.summary()
    if unrolled_tokens:
        feed = shorten(compiled.inputs, feeds[0], unrolled_tokens)
        result["unrolled"] = compare_executions(compiled, feed, native)
    return result


def check_finite(name: str, ann: np.ndarray, snn: np.ndarray) -> None:
    """Raises SpikecError when either model's output is not finite: no distance to it means anything."""
    for which, values in (("original", ann), ("spiking", snn)):
        if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
            raise SpikecError(f"the {which} model gives NaN or Inf on this data", where=name)


def over_vocabulary(compiled: Compiled, outputs: Feed, ids: np.ndarray) -> str:
    """The output that scores every token of the vocabulary at every position, or ""."""
    shape = (*ids.shape, compiled.vocabulary)
    return next((name for name in compiled.outputs if outputs[name].shape == shape), "")


def token_mask(feed: Feed, shape: tuple[int, ...]) -> np.ndarray | None:
    """Which of the tokens are no padding; a mask over a cache too begins with the cache's."""
    mask = feed.get("attention_mask")
    if mask is None or mask.ndim != 2 or mask.shape[0] != shape[0] or mask.shape[1] < shape[1]:
        return None
    return mask[:, mask.shape[1] - shape[1] :].astype(bool)


def real_tokens(feed: Feed, *outputs: np.ndarray) -> tuple[np.ndarray, ...]:
    """The outputs' rows that are not padding, where the attention mask fits them."""
    mask = feed.get("attention_mask")
    if mask is None or outputs[0].shape[:2] != mask.shape:
        return outputs
    return tuple(output[mask.astype(bool)] for output in outputs)


def is_causal(session: Session, feed: Feed, tokens: str, output: str) -> bool:
    """Whether a change of the last token leaves the first position's output as it was."""
    ids = feed[tokens].copy()
    ids[:, -1] = np.where(ids[:, -1] > 0, ids[:, -1] - 1, 1)
    changed = run(session, {**feed, tokens: ids})[output]
    return ids.shape[1] > 1 and np.allclose(
        changed[:, 0], run(session, feed)[output][:, 0], rtol=1e-4, atol=1e-4
    )


class Cosine:
    """Cosine similarity and largest difference of two streams of arrays."""

    def __init__(self) -> None:
        self.dot = self.left = self.right = self.largest = 0.0

    def add(self, a: np.ndarray, b: np.ndarray) -> None:
        wide = np.result_type(a.dtype, np.float32)
        x, y = (values.reshape(-1).astype(wide, copy=False) for values in (a, b))
        self.dot += float(np.dot(x, y))
        self.left += float(np.dot(x, x))
        self.right += float(np.dot(y, y))
        self.largest = max(self.largest, float(np.abs(x - y).max(initial=0.0)))

    @property
    def value(self) -> float:
        return (
            self.dot / math.sqrt(self.left * self.right)
            if self.left and self.right
            else float(self.left == self.right)
        )


class Score:
    """Divergence and agreement of both models over the vocabulary; next-token likelihood of causal ones."""

    def __init__(self) -> None:
        self.loss, self.kl, self.agree, self.rows, self.targets = [0.0, 0.0], 0.0, 0, 0, 0
        self.causal = True

    def add(self, ann: np.ndarray, snn: np.ndarray, ids: np.ndarray, mask: np.ndarray | None = None) -> None:
        real = np.ones(ids.shape, bool) if mask is None else mask.astype(bool)
        for a, s, sequence in ((x[r], y[r], i[r]) for x, y, i, r in zip(ann, snn, ids, real, strict=True)):
            for start in range(0, len(a), ROWS):
                log_a, log_s = (log_softmax(x[start : start + ROWS]) for x in (a, s))
                self.kl += float((np.exp(log_a) * (log_a - log_s)).sum())
                self.agree += int((log_a.argmax(-1) == log_s.argmax(-1)).sum())
                self.rows += len(log_a)
                targets = sequence[start + 1 : start + 1 + len(log_a)] if self.causal else sequence[:0]
                at = np.arange(len(targets))
                self.loss[0] -= float(log_a[at, targets].sum())
                self.loss[1] -= float(log_s[at, targets].sum())
                self.targets += len(targets)

    def perplexity(self, which: int) -> float | None:
        return math.exp(self.loss[which] / self.targets) if self.targets else None


def compare_executions(compiled: Compiled, feed: Feed, native: bool | None = None) -> dict[str, Any]:
    """Every code of every encoder, unrolled against packed, and the outputs. `unexplained` counts codes that
    differ although their encoder's two inputs are not within float32 rounding of each other: it must be 0.
    `unsettled`, of neurons that stream: how many at each site end with another code than their input asks
    for, more steps of which would bring them there."""
    encoders = compiled.encoders("unrolled")
    trains = [encoder.train for encoder in encoders]
    known = list(dict.fromkeys(encoder.source for encoder in encoders))
    packed = run(compiled.session("packed", native=native, outputs=trains + known), feed)
    known += [name for encoder in encoders if encoder.wanted for name in (encoder.code, encoder.wanted)]
    unrolled = run(compiled.session("unrolled", native=native, outputs=trains + known), feed)
    unsettled = {e.source: int((unrolled[e.code] != unrolled[e.wanted]).sum()) for e in encoders if e.wanted}
    codes = different = unexplained = 0
    for encoder in encoders:
        train, source = encoder.train, encoder.source
        a, b = total(packed[train], encoder.radix), total(unrolled[train], encoder.radix)
        if a.shape != b.shape:
            raise SpikecError("the two executions give trains of different shapes", where=train)
        apart = a != b
        codes += a.size
        different += int(apart.sum())
        if apart.any():
            x, y = packed[source][apart], unrolled[source][apart]
            rounding = (x != y) & (np.abs(x - y) <= ROUNDING * np.maximum(np.abs(x), np.abs(y)))
            unexplained += int((~rounding).sum())
    gap = max(float(np.abs(packed[name] - unrolled[name]).max(initial=0.0)) for name in compiled.outputs)
    tokens = int(np.prod(next(iter(feed.values())).shape[:2]))
    return {
        "tokens": tokens,
        "codes": codes,
        "different_codes": different,
        "unexplained_codes": unexplained,
        "max_output_difference": gap,
        "bit_identical": gap == 0 and different == 0,
        "unsettled": unsettled,
    }


def as_text(result: dict[str, Any]) -> str:
    lines = [f"T = {result['timesteps']}, {result['weights']} weights"]
    if result["tokens"]:
        lines.append(
            f"perplexity      ANN {result['ann']['perplexity']:.4f}   SNN {result['snn']['perplexity']:.4f}"
            f"   ({100 * result['perplexity_change']:+.3f} %) on {result['tokens']} tokens"
        )
    if result["kl"] is not None:
        lines += [
            f"KL              {result['kl']:.3e} nats a token",
            f"top-1 agreement {100 * result['top1_agreement']:.2f} %",
        ]
    lines.append(
        f"output          cosine {result['cosine']:.7f}, largest difference {result['max_difference']:.3g}"
    )
    if result["worst_block"] is not None:
        worst = result["worst_block"]
        lines.append(
            f"worst block     {worst} of {len(result['blocks'])}: cosine {result['blocks'][worst]:.7f}"
        )
    events = result["events"]
    if events["events_per_synapse"] is not None:
        parts = [f"{part} {events[part]:.2f}" for part in ("linear", "products") if events[part] is not None]
        lines.append(f"events          {events['events_per_synapse']:.3f} a synapse ({', '.join(parts)})")
    if "unrolled" in result:
        u = result["unrolled"]
        verdict = (
            "bit-identical" if u["bit_identical"] else f"largest difference {u['max_output_difference']:.2e}"
        )
        lines.append(
            f"unrolled/packed {verdict}; {u['different_codes']} of {u['codes']} codes differ, "
            f"{u['unexplained_codes']} beyond rounding ({u['tokens']} tokens)"
        )
        if u["unsettled"]:
            count, site = sum(u["unsettled"].values()), max(u["unsettled"], key=u["unsettled"].__getitem__)
            most = f", most of them in {site} ({u['unsettled'][site]})" if count else ""
            lines.append(f"unsettled       {count} of {u['codes']} neurons after the last step{most}")
    return "\n".join(lines)
