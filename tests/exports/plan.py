"""Which models the matrix holds: every architecture by several exporters, the core five by all."""

from __future__ import annotations

from dataclasses import dataclass

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

    @property
    def name(self) -> str:
        flags = [self.dtype] * (self.dtype != "fp32") + ["static"] * self.static + ["past"] * self.past
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


WITHOUT_SDPA = {"gemma2", "gptj", "bloom", "mpt", "gpt_neo", "mpnet", "deberta", "deberta_v3", "t5"}
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


def models(architectures: list[str]) -> list[Model]:
    """Everything that is planned, without repeats."""
    rest = [name for name in architectures if name not in CORE]
    return list(dict.fromkeys(core() + others(rest)))
