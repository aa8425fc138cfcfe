"""Which models the matrix holds: every architecture by several exporters, the core five by all."""

from __future__ import annotations

from dataclasses import dataclass

from exports.counts import MORE

DYNAMO, LEGACY, OPTIMUM = (18, 20, 21, 23, 24), (11, 13, 14, 17, 20), 18
CORE = ("gpt2", "bert", "opt", "llama", "qwen3")


@dataclass(frozen=True)
class Model:
    """One file of the matrix; its name says how it was made."""

    architecture: str
    exporter: str
    opset: int
    attention: str = "eager"
    dtype: str = "fp32"
    static: bool = False
    past: bool = False
    tool: str = ""

    @property
    def name(self) -> str:
        flags = [self.dtype] * (self.dtype != "fp32") + ["static"] * self.static + ["past"] * self.past
        flags += [self.tool] * bool(self.tool)
        return "-".join([self.architecture, f"{self.exporter}{self.opset}", self.attention, *flags])


def core() -> list[Model]:
    models = []
    for name in CORE:
        for attention in ("eager", "sdpa"):
            models += [Model(name, "dynamo", opset, attention) for opset in DYNAMO]
            models += [Model(name, "legacy", 17, attention), Model(name, "optimum", OPTIMUM, attention)]
            models += [Model(name, "optimum", OPTIMUM, attention, past=True)] * (name != "bert")
        models += [Model(name, "legacy", opset) for opset in LEGACY if opset != 17]
        models += [Model(name, "legacy", 14, "sdpa", static=True), Model(name, "dynamo", 20, static=True)]
        models += [Model(name, "dynamo", 18, "sdpa", "fp16"), Model(name, "dynamo", 20, dtype="bf16")]
        models += [Model(name, "legacy", 17, dtype="fp16")]
    return models


WITHOUT_SDPA = {"gemma2", "gptj", "bloom", "mpt", "gpt_neo", "mpnet", "deberta", "deberta_v3", "gpt_oss"}
"""transformers refuses torch's fused attention for these."""


def others(names: list[str]) -> list[Model]:
    """Three ways for each, rotating through opsets so that every architecture family meets most of them."""
    models = []
    for index, name in enumerate(names):
        fused = "eager" if name in WITHOUT_SDPA else "sdpa"
        models += [
            Model(name, "dynamo", DYNAMO[index % 5]),
            Model(name, "dynamo", DYNAMO[(index + 3) % 5], fused),
            Model(name, "legacy", LEGACY[(index + 1) % 5]),
        ]
        if LEGACY[(index + 3) % 5] >= 14:
            models.append(Model(name, "legacy", LEGACY[(index + 3) % 5], fused))
    return list(dict.fromkeys(models))


def optimised() -> list[Model]:
    """A handful after the tools people run on an export."""
    made = []
    for tool in ("slim", "ort", "session"):
        made += [
            Model("bert", "optimum", OPTIMUM, "sdpa", tool=tool),
            Model("gpt2", "optimum", OPTIMUM, past=True, tool=tool),
            Model("llama", "optimum", OPTIMUM, "sdpa", past=True, tool=tool),
            Model("opt", "legacy", 14, tool=tool),
            Model("bert", "legacy", 17, dtype="fp16", tool=tool),
            Model("clip_vision", "legacy", 17, tool=tool),
            Model("t5", "legacy", 13, tool=tool),
            Model("qwen3", "dynamo", 18, tool=tool),
        ]
    names = ("gpt2", "bert", "opt", "llama", "qwen3", "vit")
    return made + [Model(name, "dynamo", 18, "sdpa", tool="onnxscript") for name in names]


def further() -> list[Model]:
    """Caches, precisions and opsets that the rotation above does not reach."""
    cached = (
        "smollm",
        "mistral",
        "qwen2",
        "gemma2",
        "gemma3",
        "phi3",
        "gpt_neox",
        "gptj",
        "falcon",
        "stablelm",
    )
    whole = ("roberta", "distilbert", "electra", "vit", "clip_text", "t5_encoder")
    half = ("t5_encoder", "vit", "clip_vision", "gemma3", "phi3", "whisper_encoder")
    made = [Model(name, "optimum", OPTIMUM, past=True) for name in cached]
    made += [Model(name, "optimum", OPTIMUM, "sdpa") for name in whole]
    made += [Model(name, "dynamo", 18, dtype="fp16") for name in half]
    made += [Model(name, "legacy", 17, dtype="fp16") for name in ("roberta", "mistral", "gpt_neox")]
    made += [Model(name, "dynamo", 20, dtype="bf16") for name in ("gemma", "smollm", "modernbert")]
    made += [Model("llava_joined", "dynamo", 18, static=True), Model("llava_joined", "dynamo", 21, "sdpa")]
    made += [Model("llava_joined", "legacy", 17), Model("glm4", "dynamo", 18), Model("apertus", "dynamo", 20)]
    return made + [
        Model(name, "legacy", 17) for name in ("falcon_alibi", "cohere", "whisper", "clip", "xlnet")
    ]


def twice(names: list[str]) -> list[Model]:
    """Two ways for each."""
    made = []
    for index, name in enumerate(names):
        made += [Model(name, "legacy", (17, 14, 13)[index % 3]), Model(name, "dynamo", DYNAMO[index % 5])]
    return made


def models(architectures: list[str]) -> list[Model]:
    """Everything that is planned, without repeats."""
    rest = [
        name for name in architectures if name not in CORE and name not in MORE and name != "llava_joined"
    ]
    return list(dict.fromkeys(core() + others(rest) + optimised() + further() + twice(list(MORE))))
