"""Sizes of free dimensions: what each axis of an input counts, and one consistent size for each of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from . import roles as of

if TYPE_CHECKING:
    from .inputs import ModelInput

ORDER = (of.TOKENS, of.IMAGE, of.SOUND, of.STATES, of.CACHE, of.POSITIONS, of.SEGMENTS, of.MASK)
"""Whose word for a shared dimension counts, and whose fixed size."""


def fixed(dim: int | str | None) -> bool:
    return isinstance(dim, int) and dim >= 0


def word(i: ModelInput, axis: int) -> str:
    """What the axis counts: batch, length (of the tokens), past, total (of both), source (an encoder's
    positions), height, width, frames; "" for what is not known."""
    kind, rank, dim = i.role.kind, len(i.shape), i.shape[axis]
    name = dim.lower() if isinstance(dim, str) else ""
    if kind in (of.LAST, of.TOTAL):
        return "batch" if kind == of.LAST and axis == 0 else ""
    if kind == of.CACHE:
        if "encoder_seq" in name or re.search(r"cross|\bencoder\b", i.name):
            return _aligned(("batch", "", "source", ""), rank, axis)
        return _aligned(("batch", "", "past", "") if rank > 3 else ("batch", "past", ""), rank, axis)
    if kind == of.IMAGE:
        return ("batch", "", "height", "width")[axis]
    if kind == of.SOUND:
        return ("batch", "", "frames")[axis]
    if kind == of.STATES:
        length = "source" if "encoder" in i.name or "memory" in i.name else "length"
        return ("batch", length)[axis] if axis < rank - 1 and axis < 2 else ""
    if kind in (of.MASK, of.BIAS):
        total = "source" if i.name.startswith("encoder") else "total"
        words = {1: (total,), 2: ("batch", total)}.get(rank, ("batch", "", "length", total))
        return _aligned(words if rank != 3 else ("batch", "length", total), rank, axis)
    if kind in (of.TOKENS, of.POSITIONS, of.SEGMENTS):
        return _aligned(("batch", "length"), rank, axis)
    return ""


def _aligned(words: tuple[str, ...], rank: int, axis: int) -> str:
    """The word of an axis, counted from the last."""
    place = axis - rank + len(words)
    return words[place] if 0 <= place < len(words) else ""


class Sizes:
    """A size for every word, and through them for every dimension of every input: a dimension named by a
    symbol has one size wherever the name stands."""

    def __init__(self, inputs: Iterable[ModelInput], **given: int) -> None:
        inputs = sorted(
            inputs, key=lambda i: ORDER.index(i.role.kind) if i.role.kind in ORDER else len(ORDER)
        )
        self.words: dict[str, str] = {}
        known: dict[str, int] = {}
        for i in inputs:
            for axis, dim in enumerate(i.shape):
                if fixed(dim):
                    known.setdefault(word(i, axis), int(dim or 0))
                elif isinstance(dim, str) and dim:
                    self.words.setdefault(dim, word(i, axis))
        given = {key: size for key, size in given.items() if key in FREE or key not in known}
        self.known = known | given

    def __getitem__(self, name: str) -> int:
        if name in self.known:
            return self.known[name]
        if name == "total":
            return self["past"] + self["length"]
        if name == "past":
            return max(0, self.known["total"] - self["length"]) if "total" in self.known else 0
        return self["length"] if name == "source" else 1

    def shape(self, i: ModelInput) -> tuple[int, ...]:
        widths = dict(i.role.widths)
        return tuple(
            int(dim or 0) if fixed(dim) else widths.get(axis) or self[self._word(i, axis)]
            for axis, dim in enumerate(i.shape)
        )

    def _word(self, i: ModelInput, axis: int) -> str:
        dim = i.shape[axis]
        return self.words.get(dim, "") if isinstance(dim, str) and dim else word(i, axis)


FREE = ("batch", "length", "past")
"""Words of which a caller's size counts even where an input was exported with another."""
