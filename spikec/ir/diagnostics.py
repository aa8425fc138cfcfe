"""What users are told: one error class for their mistakes, one record for everything else worth knowing."""

from __future__ import annotations

from dataclasses import dataclass


class SpikecError(Exception):
    """A mistake the user can mend: what happened, where, why, and how to fix it. Shown without a traceback."""

    def __init__(self, what: str, *, where: str = "", why: str = "", fix: str = "", exit_code: int = 1) -> None:
        self.what, self.where, self.why, self.fix, self.exit_code = what, where, why, fix, exit_code
        text = f"{where}: {what}" if where else what
        if why:
            text += f" ({why})"
        if fix:
            text += f"; {fix}"
        super().__init__(" ".join(text.split()))


@dataclass(frozen=True)
class Diagnostic:
    """Something a user may want to know about one place in the graph."""

    severity: str
    where: str
    text: str
