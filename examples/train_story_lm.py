"""Train the story model that ships with spikec: a 1.1 M parameter LLaMA that writes TinyStories.

    python examples/train_story_lm.py ../shared/data/tinystories-sample.txt --out examples/story

Why one of our own: an example must be small enough to live in the repository, real enough that a perplexity
means something, and shaped like the models users bring (RMSNorm, RoPE, grouped-query attention, SwiGLU, tied
embeddings). The last 5 % of the stories are held out: half of them choose the epoch whose weights are kept,
the other half (heldout.txt) measure it. Writes model.onnx (input_ids -> logits, fp32 weights inside),
tokenizer.json and heldout.txt, and prints the numbers that examples/story/README.md states.
Needs torch, transformers, tokenizers, onnx, onnxscript and onnxruntime.
"""

import argparse
import copy
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

SEPARATOR = "<|endoftext|>"  # between stories, and before the first: also the BOS that `encode` puts in front
VOCABULARY = 1024
CONTEXT = 256
PROMPT = "Once upon a time"
LARGEST_FILE = 4_800_000


class Decoder(torch.nn.Module):
    """input_ids -> logits, causal mask and positions written out, which exports a clean graph."""

    def __init__(self, model: LlamaForCausalLM) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        batch, length = input_ids.shape
        position = torch.arange(length)
        visible = position[None, :] <= position[:, None]
        mask = torch.where(visible, 0.0, -3.0e38)[None, None].expand(batch, 1, length, length)
        positions = position[None].expand(batch, length)
        return self.model(input_ids, attention_mask=mask, position_ids=positions, use_cache=False).logits


def read_stories(path: Path) -> list[str]:
    """The whole stories of a text; what follows the last separator is cut off in mid-sentence."""
    pieces = path.read_text(encoding="utf-8").split(SEPARATOR)[:-1]
    return [story for piece in pieces if (story := piece.strip())]


def train_tokenizer(stories: list[str]) -> Tokenizer:
    """Byte-level BPE: any text has ids, and every id is below VOCABULARY."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    separator = AddedToken(SEPARATOR, special=True, lstrip=True, rstrip=True)  # takes the newlines around it
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[separator],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(stories, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{SEPARATOR} $A", special_tokens=[(SEPARATOR, tokenizer.token_to_id(SEPARATOR))]
    )
    assert tokenizer.get_vocab_size() == VOCABULARY
    return tokenizer


def as_text(stories: list[str]) -> str:
    return "".join(f"{story}\n{SEPARATOR}\n" for story in stories)


def token_stream(tokenizer: Tokenizer, stories: list[str]) -> torch.Tensor:
    """One row of ids, the separator before every story."""
    ids = [encoding.ids for encoding in tokenizer.encode_batch(stories)]
    assert max(max(row) for row in ids) < VOCABULARY
    return torch.tensor([token for row in ids for token in row])


def build_model() -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=5,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        attn_implementation="sdpa",
    )
    model = LlamaForCausalLM(config)
    for layer in model.model.layers:
        for branch in (layer.self_attn.o_proj, layer.mlp.down_proj):
            torch.nn.init.normal_(branch.weight, std=0.02 / math.sqrt(2 * config.num_hidden_layers))
    return model


class Muon(torch.optim.Optimizer):
    """Momentum made orthogonal (Jordan 2024), in fp32: torch.optim.Muon's bfloat16 is slow on many CPUs."""

    def __init__(self, weights: list[torch.nn.Parameter], lr: float, weight_decay: float) -> None:
        super().__init__(weights, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        group = self.param_groups[0]
        by_shape: dict[torch.Size, list[torch.nn.Parameter]] = {}
        for weight in group["params"]:
            by_shape.setdefault(weight.shape, []).append(weight)
        for shape, weights in by_shape.items():
            gradient = torch.stack([weight.grad for weight in weights])
            momentum = self.state[weights[0]].setdefault("momentum", torch.zeros_like(gradient))
            momentum.lerp_(gradient, 0.05)
            direction = orthogonal(gradient.lerp(momentum, 0.95)) * math.sqrt(max(1.0, shape[0] / shape[1]))
            for weight, update in zip(weights, direction, strict=True):
                weight.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update, alpha=group["lr"])


def orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """About the nearest semi-orthogonal matrices: five quintic steps push singular values towards 1."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.mT if tall else x


def windows(stream: torch.Tensor, batch: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """One epoch: the stream cut at a random offset into CONTEXT + 1 tokens, in random order."""
    offset = int(torch.randint(CONTEXT, (1,), generator=generator))
    starts = torch.arange(offset, len(stream) - CONTEXT - 1, CONTEXT)
    for chosen in starts[torch.randperm(len(starts), generator=generator)].split(batch):
        yield stream[chosen[:, None] + torch.arange(CONTEXT + 1)]


def next_token_loss(model: LlamaForCausalLM, ids: torch.Tensor) -> torch.Tensor:
    logits = model(ids[:, :-1], use_cache=False).logits
    return functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())


@torch.no_grad()
def heldout_loss(model: LlamaForCausalLM, stream: torch.Tensor) -> float:
    """Mean over non-overlapping windows of CONTEXT tokens, the first token of each given, not predicted."""
    model.eval()
    rows = stream[: len(stream) // CONTEXT * CONTEXT].view(-1, CONTEXT)
    loss = torch.stack([next_token_loss(model, row[None]) for row in rows]).mean().item()
    model.train()
    return loss


def train(
    model: LlamaForCausalLM, options: argparse.Namespace, text: torch.Tensor, chosen_on: torch.Tensor
) -> None:
    """Muon for the matrices, AdamW for the embedding and norms; leaves the best weights in `model`."""
    generator = torch.Generator().manual_seed(options.seed)
    matrices = [weight for weight in model.model.layers.parameters() if weight.ndim == 2]
    others = [weight for weight in model.parameters() if not any(weight is matrix for matrix in matrices)]
    muon = Muon(matrices, lr=options.rate, weight_decay=options.decay)
    adam = torch.optim.AdamW(others, lr=options.rate / 4, betas=(0.9, 0.95), weight_decay=0.0)
    steps = options.epochs * len(text) // (CONTEXT * options.batch)
    best, best_loss, step, started = copy.deepcopy(model.state_dict()), math.inf, 0, time.monotonic()
    for epoch in range(options.epochs):
        for ids in windows(text, options.batch, generator):
            step += 1
            factor = min(step / 50, 0.02 + 0.98 * (1 + math.cos(math.pi * min(step / steps, 1))) / 2)
            loss = next_token_loss(model, ids)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimiser, rate in ((muon, options.rate), (adam, options.rate / 4)):
                optimiser.param_groups[0]["lr"] = rate * factor
                optimiser.step()
                optimiser.zero_grad()
        measured = heldout_loss(model, chosen_on)
        if measured < best_loss:
            best, best_loss = copy.deepcopy(model.state_dict()), measured
        elapsed = f"{time.monotonic() - started:.0f} s"
        print(f"epoch {epoch + 1}: {elapsed}, loss {loss.item():.3f}, unseen {measured:.4f}", flush=True)
    model.load_state_dict(best)


def export(model: LlamaForCausalLM, path: Path) -> float:
    """Write one self-contained file; returns the largest difference between onnxruntime and torch."""
    model.set_attn_implementation("eager")
    decoder = Decoder(model).eval()
    batch, length = torch.export.Dim("batch", min=1, max=64), torch.export.Dim("seq", min=2, max=512)
    program = torch.onnx.export(
        decoder,
        (torch.randint(VOCABULARY, (2, 16)),),
        input_names=["input_ids"],
        output_names=["logits"],
        dynamo=True,
        opset_version=18,
        dynamic_shapes=({0: batch, 1: length},),
        optimize=True,
        verbose=False,
    )
    assert program is not None
    proto = program.model_proto
    for described in (proto, proto.graph, *proto.graph.node, *proto.graph.value_info):
        described.ClearField("metadata_props")  # stack traces of this machine, half a megabyte of them
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)
    assert path.stat().st_size <= LARGEST_FILE
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    differences = []
    for shape in ((1, 37), (3, 64), (2, CONTEXT)):
        ids = torch.randint(VOCABULARY, shape)
        (got,) = session.run(None, {"input_ids": ids.numpy()})
        with torch.no_grad():
            differences.append((torch.from_numpy(got) - decoder(ids)).abs().max().item())
    return max(differences)


def onnx_perplexity(path: Path, stream: torch.Tensor) -> float:
    """exp of the mean loss over non-overlapping windows of CONTEXT tokens, as `heldout_loss` defines it."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    losses = []
    for row in stream[: len(stream) // CONTEXT * CONTEXT].view(-1, 1, CONTEXT):
        (logits,) = session.run(None, {"input_ids": row.numpy()})
        losses.append(functional.cross_entropy(torch.from_numpy(logits[0, :-1]), row[0, 1:]).item())
    return math.exp(float(np.mean(losses)))


def greedy_story(path: Path, tokenizer: Tokenizer) -> str:
    """The most likely continuation of PROMPT, until the separator or the end of the trained context."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    ids = tokenizer.encode(PROMPT).ids
    while len(ids) < CONTEXT:
        (logits,) = session.run(None, {"input_ids": np.array([ids])})
        if (token := int(logits[0, -1].argmax())) == tokenizer.token_to_id(SEPARATOR):
            break
        ids.append(token)
    return tokenizer.decode(ids)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("text", type=Path, help=f"stories with {SEPARATOR} between them")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch", type=int, default=8, help=f"windows of {CONTEXT} tokens in a step")
    parser.add_argument("--rate", type=float, default=0.04, help="Muon's; AdamW's is a quarter of it")
    parser.add_argument("--decay", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="more helps only on an otherwise idle machine")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)

    stories = read_stories(options.text)
    seen = len(stories) * 95 // 100
    middle = (seen + len(stories)) // 2
    tokenizer = train_tokenizer(stories[:seen])
    tokenizer.save(str(options.out / "tokenizer.json"))
    (options.out / "heldout.txt").write_text(as_text(stories[middle:]), encoding="utf-8")

    model = build_model()
    text, chosen_on = (token_stream(tokenizer, part) for part in (stories[:seen], stories[seen:middle]))
    print(f"{model.num_parameters():,} parameters, {len(text):,} tokens to learn from", flush=True)
    train(model, options, text, chosen_on)

    path = options.out / "model.onnx"
    difference = export(model, path)
    heldout = torch.tensor(tokenizer.encode((options.out / "heldout.txt").read_text(encoding="utf-8")).ids)
    print(f"{path}: {path.stat().st_size:,} bytes, onnxruntime against torch {difference:.1e}")
    print(f"perplexity on heldout.txt, {len(heldout):,} tokens: {onnx_perplexity(path, heldout):.3f}")
    print(greedy_story(path, tokenizer))


if __name__ == "__main__":
    main()
