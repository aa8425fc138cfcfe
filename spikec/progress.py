"""Progress on stderr while a terminal watches; silence otherwise."""

from __future__ import annotations

import sys

from tqdm import tqdm

from .ir.program import Program


class Progress:
    """A pipeline instrument and a callback for long steps, drawn as one bar."""

    def __init__(self) -> None:
        self.bar = tqdm(
            total=1, file=sys.stderr, disable=None, leave=False, bar_format="{desc:<44}{bar:30} {elapsed}"
        )

    def before(self, program: Program, name: str, index: int, count: int) -> None:
        self.bar.reset(total=count)
        self.bar.update(index)
        self.bar.set_description(name.replace("_", " "))

    def after(self, program: Program, name: str, index: int, count: int) -> None:
        self.bar.update(1)

    def step(self, done: int, total: int, what: str = "observe: run") -> None:
        """Within a long pass: `done` of `total` runs of the model, or of whatever it works through."""
        self.bar.set_description(f"{what} {done} of {total}")

    def close(self) -> None:
        self.bar.close()
