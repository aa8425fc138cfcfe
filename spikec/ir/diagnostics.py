"""What users are told: one error class for their mistakes, one record for everything else worth knowing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

ORT_NOISE = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : \w+ : |Load model from \S+ failed:\s*"
    r"|/\S*onnxruntime\S*:\d+ [^()]*\([^()]*\) "
)


class SpikecError(Exception):
    """A mistake the user can mend: what happened, where, why, how to fix it. Shown without a traceback, on
    one line and one for each of `details`."""

    def __init__(
        self,
        what: str,
        *,
        where: str = "",
        why: str = "",
        fix: str = "",
        exit_code: int = 1,
        details: Sequence[str] = (),
    ) -> None:
        self.what, self.where, self.why, self.fix, self.exit_code = what, where, why, fix, exit_code
        self.details = tuple(details)
        text = f"{where}: {what}" if where else what
        if why:
            text += f" ({why})"
        if fix:
            text += f"; {fix}"
        super().__init__(" ".join(text.split()))


def reason(error: BaseException, limit: int = 300) -> str:
    """The first line that says something of another library's complaint, without its boilerplate."""
    lines = (ORT_NOISE.sub("", line.strip()) for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)[:limit]


@dataclass(frozen=True)
class Code:
    """One kind of remark: its stable number's severity ("note" or "warning"), meaning and remedy.

    A warning that is `aside` does not say that something was left unconverted, so `--strict` ignores it.
    """

    severity: str
    title: str
    explanation: str
    remedy: str
    aside: bool = False


CODES: dict[str, Code] = {}
"""Every code there is, by its number; numbers are never given anew. Filled by `codes.py`."""


@dataclass(frozen=True)
class Diagnostic:
    """Something a user may want to know about one place in the graph; `code` is a key of CODES."""

    code: str
    where: str
    text: str

    @property
    def severity(self) -> str:
        return CODES[self.code].severity

    @property
    def remedy(self) -> str:
        return CODES[self.code].remedy

    def __str__(self) -> str:
        return f"{self.code} {self.severity}: {self.where}: {self.text}"
