"""Calibration inputs without data, for any model: sizes that it runs on are found by trial, values by what
the graph does with each input."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs

from .ir import graph as graphs
from .ir import roles as of
from .ir.diagnostics import SpikecError
from .ir.inputs import Feed, ModelInput, plain_value
from .ir.program import Program
from .ir.session import Session, reference_session
from .ir.sizes import Sizes, fixed, word

LENGTHS = (64, 32, 16, 8, 4, 2, 1)
SHARES = (1, 1, 1, 1, 0.5, 0.1, 0.03, 0)
"""How much of each sampled sequence is no padding: attention over few tokens averages less, values grow."""
PASTS = (0, 8)
"""Lengths of a first cache: none, or some for a model that does not begin."""
IMAGES = (224, 32)
TRIALS = 64
MOST_MARKS = 4096


def sample_feeds(program: Program, model: Path, seed: int) -> list[Feed]:
    """Calibration inputs without data, such as the model (the original, or as normalised) runs on."""
    inputs = program.settings["inputs"]
    session = reference_session(model, str(program.source))
    sampler = Sampler(program.graph, inputs, session, seed)
    feeds = sampler.feeds()
    free = any(i.role.kind == of.TOKENS and not fixed(i.shape[-1]) for i in inputs)
    if free and sampler.length < LENGTHS[0]:
        text = f"the model takes no longer inputs: calibrated on sequences of {sampler.length} tokens"
        program.tell("SPK302", program.source.name, text)
    return feeds


class Sampler:
    """Draws feeds for a model. `session` runs it, to see whether it takes them."""

    def __init__(self, graph: gs.Graph, inputs: list[ModelInput], session: Session, seed: int) -> None:
        self.graph, self.inputs, self.session, self.seed = graph, inputs, session, seed
        self.rng = np.random.default_rng(seed)
        self.marks = self.length = 0

    def feeds(self) -> list[Feed]:
        """Inputs that the model runs on. For a model with a cache half of them are second parts, which go on
        from what the first part left in it."""
        for i in self.inputs:
            if i.role.kind == of.TOKENS and i.role.rows is None:
                raise SpikecError(
                    "cannot tell how many tokens the model knows",
                    where=self.session.where,
                    why=f"no table is looked up by {i.name!r}",
                    fix="give calibration inputs with --data TEXT or --npz FILE",
                )
        sizes = self._mark(self._fit())
        self.length = sizes["length"]
        self.rng, made = np.random.default_rng(self.seed), []
        for index, share in enumerate(SHARES):
            feed = self.draw(sizes)
            if index % 2 and self._cached() and sizes["past"] == 0:
                feed = self._second_part(feed, sizes) or feed
            made.append(self._pad(feed, share))
        return made

    def shapes(self) -> Iterator[Feed]:
        """Feeds of two shapes as far apart as the model allows: one sequence going on from a cache if it has
        one, and two short ones from the beginning."""
        sizes = self._mark(self._fit())
        feed = self.draw(sizes)
        yield (self._second_part(feed, sizes) if self._cached() else None) or feed
        yield self.draw(self._sized(sizes, batch=2, length=max(min(5, sizes["length"]), self.marks + 2)))

    def _sized(self, sizes: Sizes, **given: int) -> Sizes:
        return Sizes(self.inputs, **sizes.known | given)

    def _fit(self) -> Sizes:
        """The first of the candidate sizes on which the model runs; if none, the most likely one's error."""
        refused: SpikecError | None = None
        for sizes in itertools.islice(self._candidates(), TRIALS):
            try:
                self.session.run(None, self.draw(sizes))
                return sizes
            except SpikecError as error:
                refused = refused or error
        assert refused is not None
        listed = ", ".join(f"{i.name} {i.dtype}{list(i.shape)}" for i in self.inputs)
        raise SpikecError(
            f"found no inputs that this model runs on: {refused.what}",
            where=self.session.where,
            why=f"{refused.why}; it takes {listed}",
            fix="give inputs it was made for with --npz FILE, or export it again",
        )

    def _candidates(self) -> Iterator[Sizes]:
        """Likely sizes, the most likely first: long sequences, no past, images that fill a position table."""
        choices: dict[str, Sequence[int]] = {"length": LENGTHS}
        free = {word(i, axis) for i in self.inputs for axis, dim in enumerate(i.shape) if not fixed(dim)}
        if "past" in free:
            choices["past"] = PASTS
        for i in self.inputs:
            if i.role.kind == of.IMAGE and "height" in free | {"width"}:
                choices["height"] = choices["width"] = self._image_sizes(i.role.stride)
            if i.role.kind == of.SOUND and "frames" in free:
                choices["frames"] = self._frames()
        choices = {name: sizes if name in free else sizes[:1] for name, sizes in choices.items()}
        for values in itertools.product(*choices.values()):
            given = dict(zip(choices, values, strict=True))
            if given.get("height") == given.get("width") or not {"height", "width"} <= free:
                known = {name: size for name, size in given.items() if name in free or name == "length"}
                for total in ({}, {"total": known["length"]}) if "past" in known else ({},):
                    yield Sizes(self.inputs, **self._without_fixed(known | total))

    def _without_fixed(self, given: dict[str, int]) -> dict[str, int]:
        """Sizes that no input was exported with."""
        declared = Sizes(self.inputs).known
        return {name: size for name, size in given.items() if name not in declared}

    def _tables(self) -> list[int]:
        """Rows of constants that may hold a vector for each position."""
        shapes = (c.shape for c in graphs.constants(self.graph))
        return sorted({int(s[-2]) for s in shapes if len(s) > 1 and math.prod(s[:-2]) == 1}, reverse=True)

    def _image_sizes(self, stride: int) -> list[int]:
        """Sides of square images whose patches, with up to two tokens more, fill a table of positions."""
        sides = [math.isqrt(n - extra) for n in self._tables() for extra in (1, 0, 2) if n > extra
                 if math.isqrt(n - extra) ** 2 == n - extra]  # fmt: skip
        return list(dict.fromkeys([*(side * stride for side in sides if side > 1), *IMAGES, stride]))

    def _frames(self) -> list[int]:
        """Frames of which a table holds a position for each, or for every second."""
        return [frames for rows in self._tables() for frames in (2 * rows, rows)]

    def draw(self, sizes: Sizes) -> Feed:
        """Random values, nothing padded."""
        return {i.name: self._value(i, sizes) for i in self.inputs}

    def _value(self, i: ModelInput, sizes: Sizes) -> np.ndarray:
        shape, kind = sizes.shape(i), i.role.kind
        if kind in (of.TOKENS, of.SEGMENTS):
            ids = self.rng.integers(0, i.role.rows or 1, shape)
            if i.role.mark is not None and kind == of.TOKENS and self._sees():
                ids = np.where(ids == i.role.mark, (ids + 1) % (i.role.rows or 1), ids)
                ids[..., : self.marks] = i.role.mark
            return ids.astype(i.dtype)
        if kind in (of.IMAGE, of.SOUND, of.STATES, of.CACHE):
            return self.rng.standard_normal(shape).astype(i.dtype)
        return plain_value(i, sizes)

    def _sees(self) -> bool:
        return any(i.role.kind in (of.IMAGE, of.STATES) for i in self.inputs)

    def _mark(self, sizes: Sizes) -> Sizes:
        """For a model that puts an image's features in the places of one token: as many of those as it has
        features, found by bisection, since with more it does not run."""
        if not self._sees() or all(i.role.mark is None for i in self.inputs):
            return sizes
        least, most = 0, 1
        while most <= MOST_MARKS and self._runs_with(most, sizes):
            least, most = most, 2 * most
        while most - least > 1:
            middle = (least + most) // 2
            least, most = (middle, most) if self._runs_with(middle, sizes) else (least, middle)
        self.marks = least
        return self._longer(sizes, least)

    def _runs_with(self, marks: int, sizes: Sizes) -> bool:
        self.marks = marks
        try:
            self.session.run(None, self.draw(self._longer(sizes, marks)))
        except SpikecError:
            return False
        return True

    def _longer(self, sizes: Sizes, marks: int) -> Sizes:
        """Room for the marks and a few tokens more."""
        return self._sized(sizes, length=max(sizes["length"], marks + 8))

    def _cached(self) -> bool:
        caches = [i for i in self.inputs if i.role.kind == of.CACHE]
        return bool(caches) and all(i.role.present for i in caches)

    def _second_part(self, feed: Feed, sizes: Sizes) -> Feed | None:
        """The last third of the sequence, with the cache that the model makes of the rest; None when the
        model does not go on that way."""
        half = sizes["length"] * 2 // 3
        if not half:
            return None
        first = self._sized(sizes, length=half)
        caches = {i.role.present: i.name for i in self.inputs if i.role.kind == of.CACHE}
        try:
            made = self.session.run(list(caches), self.draw(first))
            rest = self._sized(sizes, length=sizes["length"] - half, past=half)
            second = self.draw(rest) | dict(zip(caches.values(), made, strict=True))
            self.session.run(None, second)
        except SpikecError:
            return None
        return second

    def _pad(self, feed: Feed, share: float) -> Feed:
        """Hides all but the first share of the positions, one at least, where a mask has two dimensions."""
        for i in self.inputs:
            value = feed[i.name]
            if i.role.kind == of.MASK and value.ndim == 2:
                value[:, max(1, int(share * value.shape[1])) :] = 0
        return feed
