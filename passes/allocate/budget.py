"""What a user asks of the spiking model's quality: `ppl<=+1%`, `kl<=0.01`, `cosine>=0.999`, `events<=1.0`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from spikec.ir.diagnostics import SpikecError

FORM = re.compile(
    r"\s*(ppl|kl|cosine|events)\s*(<=|>=)\s*([+-]?\d*\.?\d+(?:e[+-]?\d+)?)\s*(%?)\s*", re.IGNORECASE
)
EXAMPLES = 'write "ppl<=+1%", "kl<=0.01", "cosine>=0.999" or "events<=1.0"'
SENSE = {"ppl": "<=", "kl": "<=", "cosine": ">=", "events": "<="}


@dataclass(frozen=True)
class Budget:
    """A bound on one measure: `ppl` the change of perplexity as a share, `kl` nats a token, `cosine` of the
    outputs, `events` a synapse (then the best quality within it is sought)."""

    measure: str
    bound: float

    @classmethod
    def read(cls, text: str) -> Budget:
        """Raises SpikecError for a text that is no budget."""
        match = FORM.fullmatch(text)
        if match is None:
            raise SpikecError(f"{text!r} is no budget", where="--budget", fix=EXAMPLES)
        measure, sense, number, percent = match.groups()
        measure, bound = measure.lower(), float(number)
        if sense != SENSE[measure]:
            raise SpikecError(
                f"{measure} is bounded by {SENSE[measure]}, not {sense}", where="--budget", fix=EXAMPLES
            )
        if bool(percent) != (measure == "ppl"):
            why = (
                "a change of perplexity is given in percent"
                if measure == "ppl"
                else f"{measure} is no percentage"
            )
            raise SpikecError(f"{text!r} is no budget", where="--budget", why=why, fix=EXAMPLES)
        bound = bound / 100 if percent else bound
        if bound <= 0 or (measure == "cosine" and bound >= 1):
            raise SpikecError(f"{text!r} cannot be met", where="--budget", fix=EXAMPLES)
        return cls(measure, bound)

    def met(self, value: float) -> bool:
        return value >= self.bound if self.measure == "cosine" else value <= self.bound

    def __str__(self) -> str:
        if self.measure == "ppl":
            return f"ppl<=+{100 * self.bound:g}%"
        return f"{self.measure}{SENSE[self.measure]}{self.bound:g}"
