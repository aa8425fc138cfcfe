"""Words for what a model has, each with the evidence it rests on."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Features:
    """`words` by what they rest on; `counts` for the numbers in the text."""

    words: dict[str, str] = field(default_factory=dict)
    heads: str = ""
    activation: str = ""

    def add(self, word: str, evidence: str) -> None:
        self.words.setdefault(word, evidence)

    def __contains__(self, word: str) -> bool:
        return word in self.words
