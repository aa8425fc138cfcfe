"""Fine-tune spike-based self-attention for the story model, for `spikec compile --method ssa --ssa-weights`.

    python examples/train_ssa.py ../shared/data/tinystories-sample.txt --out examples/story/ssa.npz

Every attention of examples/story/model.onnx is replaced by leaky integrate-and-fire neurons and two products
of 0/1 spikes without a softmax (`spikec/custom_ops/lif_encode.py`, `self_attention.py`), initialised from the
model's own projections and trained with surrogate gradients from text and from the original's next-token
distribution; everything else (embedding, norms, feed-forward, head) stays frozen, as in NeurTransformer
(arXiv 2510.00133). The stories of heldout.txt are not trained on. Writes the weights (format:
`spikec/passes/calibrate/ssa_weights.py`) and prints what examples/story/README.md states. Needs torch,
transformers, tokenizers, onnx, onnxscript and onnxruntime (those of train_story_lm.py).
"""

import argparse
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional
from train_story_lm import CONTEXT, read_stories, token_stream, windows

HEADS, KEY_HEADS, SIZE = 4, 2, 32
EPSILON = 1e-6
SHARPNESS = 2.0
"""Of the surrogate: how fast the pretended derivative of a spike falls off around its threshold."""
CHUNK = 64
RIDGE = 1e-2
NAMES = ("wq", "wk", "wv", "wo", "theta_q", "theta_k", "theta_v", "theta_o", "leak", "scale")


class Fire(torch.autograd.Function):
    """s = [x ≥ 0]; backward pretends that s is an arctangent (Fang et al. 2021)."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        context.save_for_backward(x)
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        (x,) = context.saved_tensors
        return gradient * (SHARPNESS / 2) / (1 + (math.pi / 2 * SHARPNESS * x) ** 2)


def lif(current: Tensor, theta: Tensor, leak: Tensor, steps: int) -> Tensor:
    """Spikes [steps, ...] of u ← leak·u + I_t, s = [u ≥ θ], u ← u - θ·s; current [1 or steps, ...]."""
    u, spikes = torch.zeros_like(current[0]), []
    for t in range(steps):
        u = leak * u + current[t if len(current) > 1 else 0]
        spikes.append(Fire.apply((u - theta) / theta.detach() if u.requires_grad else u - theta))
        u = u - theta * spikes[-1]
    return torch.stack(spikes)


def attend(q: Tensor, k: Tensor, v: Tensor, scale: Tensor) -> Tensor:
    """scale·((Q_t K_tᵀ ⊙ causal) V_t): q, k, v [steps, batch, heads, tokens, size].

    Without a softmax the product associates: what came before a chunk of tokens is one matrix Σ kᵀv.
    Counts are integers, so that both orders are equal.
    """
    if q.shape[-2] % CHUNK:
        return (((q @ k.mT).tril()) @ v) * scale
    q, k, v = (x.unflatten(-2, (-1, CHUNK)) for x in (q, k, v))
    now = k.mT @ v
    return ((q @ (now.cumsum(-3) - now) + (q @ k.mT).tril() @ v) * scale).flatten(-3, -2)


class SpikingAttention(torch.nn.Module):
    """From the normed stream [batch, tokens, width] to what the block adds to it."""

    def __init__(self, q: Tensor, k: Tensor, v: Tensor, o: Tensor, steps: int) -> None:
        super().__init__()
        self.wq, self.wk, self.wv, self.wo = (torch.nn.Parameter(w.clone()) for w in (q, k, v, o))
        self.steps = steps
        self.log_theta = torch.nn.ParameterDict(
            {name: torch.zeros(heads) for name, heads in zip("qkvo", (HEADS, KEY_HEADS, KEY_HEADS, HEADS))}
        )
        self.leak_logit = torch.nn.Parameter(torch.tensor(1.5))
        self.log_scale = torch.nn.Parameter(torch.tensor(0.0))
        self.events: dict[str, float] = {}

    def theta(self, name: str) -> Tensor:
        return self.log_theta[name].exp()[:, None, None]

    def currents(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = (split(x @ w, h) for w, h in ((self.wq, HEADS), (self.wk, KEY_HEADS), (self.wv, KEY_HEADS)))
        return rotate(q, cos, sin), rotate(k, cos, sin), v

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        return self.rates(x, cos, sin) @ self.wo

    def rates(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """The share of steps in which each neuron of the output fires, heads side by side."""
        leak, scale = self.leak_logit.sigmoid(), self.log_scale.exp()
        spikes = {
            name: lif(current[None], self.theta(name), leak, self.steps)
            for name, current in zip("qkv", self.currents(x, cos, sin))
        }
        k, v = (spikes[name].repeat_interleave(HEADS // KEY_HEADS, 2) for name in "kv")
        spikes["o"] = lif(attend(spikes["q"], k, v, scale), self.theta("o"), leak, self.steps)
        with torch.no_grad():
            self.events = {name: self.steps * s.mean().item() for name, s in spikes.items()}
        return spikes["o"].mean(0).transpose(1, 2).flatten(2)

    @torch.no_grad()
    def start(self, x: Tensor, wanted: Tensor, cos: Tensor, sin: Tensor) -> None:
        """Thresholds by the currents' root mean square of each head, the scale that does the same for the
        output's, and the output weights by least squares on what the original attention gives."""
        leak = self.leak_logit.sigmoid()
        spikes = {}
        for name, current in zip("qkv", self.currents(x, cos, sin)):
            self.log_theta[name].copy_(current.square().mean((0, 2, 3)).sqrt().mul(1.5).log())
            spikes[name] = lif(current[None], self.theta(name), leak, self.steps)
        k, v = (spikes[name].repeat_interleave(HEADS // KEY_HEADS, 2) for name in "kv")
        counts = attend(spikes["q"], k, v, torch.tensor(1.0))
        self.log_scale.copy_(-counts.square().mean().sqrt().log())
        rates = self.rates(x, cos, sin).flatten(0, 1)
        ridge = RIDGE * len(rates) * torch.eye(rates.shape[1])
        self.wo.copy_(torch.linalg.solve(rates.T @ rates + ridge, rates.T @ wanted.flatten(0, 1)))

    def stored(self, dtype: type) -> dict[str, np.ndarray]:
        values = {name: getattr(self, name) for name in ("wq", "wk", "wv", "wo")}
        values |= {f"theta_{name}": self.log_theta[name].exp() for name in "qkvo"}
        values |= {"leak": self.leak_logit.sigmoid(), "scale": self.log_scale.exp()}
        return {
            n: v.detach().numpy().astype(dtype if n in NAMES[:4] else np.float32) for n, v in values.items()
        }

    @torch.no_grad()
    def take(self, values: dict[str, np.ndarray]) -> None:
        """The parameters as they are stored, rounded."""
        for name in NAMES[:4]:
            getattr(self, name).copy_(torch.from_numpy(values[name].astype(np.float32)))
        for name in "qkvo":
            self.log_theta[name].copy_(torch.from_numpy(values[f"theta_{name}"]).log())


def split(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, SIZE)).transpose(1, 2)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat((-second, first), -1) * sin


class Story(torch.nn.Module):
    """The bundled model, read from its ONNX file; any block's attention may be a spiking one."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        graph = onnx.load(path).graph
        tensors = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in graph.initializer}
        products = [
            tensors[n.input[1]] for n in graph.node if n.op_type == "MatMul" and n.input[1] in tensors
        ]
        self.layers = [products[i : i + 7] for i in range(0, len(products) - len(products) % 7, 7)]
        norms = "model.model.layers.{}.{}_layernorm.weight"
        self.norms = [
            [tensors[norms.format(i, which)] for which in ("input", "post_attention")]
            for i in range(len(self.layers))
        ]
        self.embedding, self.last = tensors["model.lm_head.weight"], tensors["model.model.norm.weight"]
        self.frequencies = tensors["model.model.rotary_emb.inv_freq"]

    def turn(self, length: int) -> tuple[Tensor, Tensor]:
        angles = (torch.arange(length)[:, None] * self.frequencies).repeat(1, 2)
        return angles.cos(), angles.sin()

    def analog(self, index: int, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """The original attention of a block."""
        wq, wk, wv, wo = self.layers[index][:4]
        q, k, v = split(x @ wq, HEADS), split(x @ wk, KEY_HEADS), split(x @ wv, KEY_HEADS)
        k, v = (y.repeat_interleave(HEADS // KEY_HEADS, 1) for y in (rotate(k, cos, sin), v))
        mixed = functional.scaled_dot_product_attention(rotate(q, cos, sin), k, v, is_causal=True)
        return mixed.transpose(1, 2).flatten(2) @ wo

    def forward(
        self, ids: Tensor, spiking: Any = None, seen: list[tuple[Tensor, Tensor]] | None = None
    ) -> Tensor:
        """Logits; `seen` takes each attention's input and output."""
        x = self.embedding[ids]
        cos, sin = self.turn(ids.shape[1])
        for index, (gains, weights) in enumerate(zip(self.norms, self.layers)):
            normed = norm(x, gains[0])
            attended = spiking[index](normed, cos, sin) if spiking else self.analog(index, normed, cos, sin)
            if seen is not None:
                seen.append((normed, attended))
            x = x + attended
            normed = norm(x, gains[1])
            x = x + (functional.silu(normed @ weights[4]) * (normed @ weights[5])) @ weights[6]
        return norm(x, self.last) @ self.embedding.T


def norm(x: Tensor, gain: Tensor) -> Tensor:
    return gain * (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPSILON))


def cross_entropy(logits: Tensor, ids: Tensor) -> Tensor:
    return functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


@torch.no_grad()
def measure(story: Story, spiking: Any, stream: Tensor) -> dict[str, float]:
    """Over non-overlapping windows: perplexities, cosine of the last norm's logits, events per neuron."""
    rows = stream[: len(stream) // CONTEXT * CONTEXT].view(-1, CONTEXT)
    sums: dict[str, float] = {}
    for ids in rows.split(8):
        original, ours = story(ids), story(ids, spiking)
        share = len(ids) / len(rows)
        values = {
            "ann": cross_entropy(original, ids),
            "ssa": cross_entropy(ours, ids),
            "cosine": functional.cosine_similarity(original, ours, dim=-1).mean(),
            "agree": (original.argmax(-1) == ours.argmax(-1)).float().mean(),
        }
        values |= {f"events_{n}": sum(b.events[n] for b in spiking) / len(spiking) for n in "qkvo"}
        for name, value in values.items():
            sums[name] = sums.get(name, 0.0) + share * float(value)
    return sums | {name: math.exp(sums[name]) for name in ("ann", "ssa")}


def train(story: Story, spiking: Any, options: argparse.Namespace, text: Tensor) -> None:
    """AdamW on the next token and on the original's distribution over it, cosine schedule."""
    generator = torch.Generator().manual_seed(options.seed)
    weights = [p for p in spiking.parameters() if p.ndim == 2]
    neurons = [p for p in spiking.parameters() if p.ndim < 2]
    groups = [{"params": weights, "base": options.rate}, {"params": neurons, "base": 3 * options.rate}]
    optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.95), weight_decay=0.0)
    log: list[tuple[float, float]] = []
    started, step = time.monotonic(), 0
    while step < options.updates:
        for ids in windows(text, options.batch, generator):
            ids, step = ids[:, :-1], step + 1
            factor = min(
                step / 30, 0.02 + 0.98 * (1 + math.cos(math.pi * min(step / options.updates, 1))) / 2
            )
            for group in optimiser.param_groups:
                group["lr"] = group["base"] * factor
            with torch.no_grad():
                target = story(ids).log_softmax(-1)
            logits = story(ids, spiking)
            distance = functional.kl_div(logits.log_softmax(-1), target, log_target=True, reduction="none")
            loss, away = cross_entropy(logits, ids), distance.sum(-1).mean()
            (loss + options.distil * away).backward()
            torch.nn.utils.clip_grad_norm_(spiking.parameters(), 1.0)
            optimiser.step()
            optimiser.zero_grad()
            log.append((loss.item(), away.item()))
            if step % 25 == 0 or step == options.updates:
                events = ", ".join(
                    f"{n} {sum(b.events[n] for b in spiking) / len(spiking):.2f}" for n in "qkvo"
                )
                means = "loss {:.3f}, KL {:.3f}".format(*np.mean(log[-25:], 0))
                print(f"{step}: {time.monotonic() - started:.0f} s, {means}, events {events}", flush=True)
            if step == options.updates:
                return


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("text", type=Path, help="the stories that train_story_lm.py was given")
    parser.add_argument("--story", type=Path, default=Path(__file__).parent / "story")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--timesteps", type=int, default=4, help="T")
    parser.add_argument("--updates", type=int, default=900)
    parser.add_argument("--batch", type=int, default=4, help=f"windows of {CONTEXT} tokens in an update")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--distil", type=float, default=1.0, help="weight of the original's distribution")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)

    stories = read_stories(options.text)
    tokenizer = Tokenizer.from_file(str(options.story / "tokenizer.json"))
    text = token_stream(tokenizer, stories[: len(stories) * 95 // 100])
    heldout = torch.tensor(tokenizer.encode((options.story / "heldout.txt").read_text(encoding="utf-8")).ids)

    story = Story(options.story / "model.onnx")
    spiking = torch.nn.ModuleList(SpikingAttention(*layer[:4], options.timesteps) for layer in story.layers)
    session = onnxruntime.InferenceSession(options.story / "model.onnx", providers=["CPUExecutionProvider"])
    ids, seen = heldout[None, :CONTEXT], []
    with torch.no_grad():
        difference = np.abs(
            session.run(None, {"input_ids": ids.numpy()})[0] - story(ids, seen=seen).numpy()
        ).max()
    assert difference < 1e-3, f"this is not the model: logits differ by {difference}"
    first = text[: 16 * CONTEXT].view(16, CONTEXT)
    seen.clear()
    with torch.no_grad():
        story(first, seen=seen)
    for block, (x, wanted) in zip(spiking, seen):
        block.start(x, wanted, *story.turn(CONTEXT))
    train(story, spiking, options, text)

    arrays: dict[str, np.ndarray] = {"format": np.int64(1), "timesteps": np.int64(options.timesteps)}
    for index, block in enumerate(spiking):
        values = block.stored(np.float16)
        block.take(values)
        arrays |= {f"block{index}.{name}": value for name, value in values.items()}
    np.savez_compressed(options.out, **arrays)
    print(f"{options.out}: {options.out.stat().st_size:,} bytes")
    for name, value in measure(story, spiking, heldout).items():
        print(f"{name}: {value:.4f}")


if __name__ == "__main__":
    main()
