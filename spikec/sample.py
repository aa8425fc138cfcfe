"""Calibration inputs without data, for any model: sizes that it runs on are found by trial, values by what
the graph does with each input."""

from __future__ import annotations

import contextlib
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
from .ir.sizes import Sizes, fixed, word
from .ir.stream import Stream
from .ir.weights import array
from .runtime.session import FILES, Compiled

LENGTHS = (64, 32, 16, 8, 4, 2, 1)
SHARES = (1, 1, 1, 1, 0.5, 0.1, 0.03, 0)
"""How much of each sampled sequence is no padding: attention over few tokens averages less, values grow."""
SOURCES = (64, 8)
"""Lengths of an encoder's output."""
PASTS = (0, 8)
"""Lengths of a first cache: none, or some for a model that does not begin."""
IMAGES = (224, 32)
BATCHES = (1, 2)
LONGEST = 4096
TRIALS = 200


def sample_feeds(program: Program, model: Path, seed: int) -> list[Feed]:
    """Calibration inputs without data, such as the model (the original, or as normalised) runs on."""
    inputs = program.settings["inputs"]
    session = Stream(model, str(program.source))
    sampler = Sampler(program.graph, inputs, session, seed)
    feeds = sampler.feeds()
    free = any(i.role.kind == of.TOKENS and not fixed(i.shape[-1]) for i in inputs)
    if free and sampler.length < LENGTHS[0]:
        text = f"the model takes no longer inputs: calibrated on sequences of {sampler.length} tokens"
        program.tell("SPK302", program.source.name, text)
    return feeds


def sample_compiled(compiled: Compiled, seed: int = 1) -> list[Feed]:
    """Inputs such as a compiled model runs on; others than it was calibrated on."""
    graph = graphs.load(compiled.folder / FILES["ann"])
    return Sampler(graph, compiled.inputs, compiled.session("ann"), seed).feeds()


class Sampler:
    """Draws feeds for a model. `session` runs it, to see whether it takes them."""

    def __init__(self, graph: gs.Graph, inputs: list[ModelInput], session: Stream, seed: int) -> None:
        self.graph, self.inputs, self.session, self.seed = graph, inputs, session, seed
        self.rng = np.random.default_rng(seed)
        self.marks = self.length = 0

    def feeds(self) -> list[Feed]:
        """Inputs that the model runs on. For a model with a cache some of them are second parts, which go on
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
            later = self._later(sizes, 5 * index) if index % 2 and share == 1 else None
            made.append(self._pad(later or self._shorter(sizes, share), share))
        return made

    def shapes(self) -> Iterator[Feed]:
        """Feeds of two shapes as far apart as the model allows: one sequence going on from a cache if it has
        one, and two short ones from the beginning."""
        sizes = self._mark(self._fit())
        yield self._later(sizes, 7) or self.draw(sizes)
        short, batch = max(min(5, sizes["length"]), self.marks + 2), 2 * sizes["batch"]
        for given in ({"batch": batch, "length": short}, {"batch": batch}, {"length": short}, {}):
            feed = self.draw(self._sized(sizes, **given))
            with contextlib.suppress(SpikecError):
                self.session.run(None, feed)
                break
        yield feed

    def _sized(self, sizes: Sizes, **given: int) -> Sizes:
        """The same with other sizes; a total that was found by trial stays as much larger than its parts."""
        known = sizes.known | given
        if "total" in known and "total" not in Sizes(self.inputs).known:
            known["total"] += sum(
                known.get(name, 0) - sizes[name] for name in ("length", "past") if name in given
            )
        return Sizes(self.inputs, **known)

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
        declared = Sizes(self.inputs).known
        free = {word(i, axis) for i in self.inputs for axis, dim in enumerate(i.shape) if not fixed(dim)}
        free -= declared.keys()
        likely: dict[str, Sequence[int]] = {"length": LENGTHS, "batch": BATCHES, "past": PASTS}
        likely |= {"source": SOURCES, "height": self._image_sizes(), "frames": self._frames()}
        for choices in (likely, likely | dict.fromkeys(("length", "source"), self._baked())):
            names = [name for name in choices if name in free]
            for values in itertools.product(*(choices[name] for name in names)):
                given = dict(zip(names, values, strict=True))
                if "height" in given:
                    given["width"] = given["height"]
                yield Sizes(self.inputs, **given)
                if "total" in free:
                    whole = Sizes(self.inputs, **given)
                    for patches in self._patches(whole):
                        yield Sizes(self.inputs, **given | {"total": whole["total"] + patches})
                if "past" in free & set(given) and "total" in free:
                    yield Sizes(self.inputs, **given | {"total": Sizes(self.inputs, **given)["length"]})

    def _patches(self, sizes: Sizes) -> list[int]:
        """How many features an image may put before the tokens: one a patch, perhaps one for the whole."""
        images = [(sizes.shape(i), i.role.stride) for i in self.inputs if i.role.kind == of.IMAGE]
        counts = [(h // stride) * (w // stride) for (_, _, h, w), stride in images]
        return [count + extra for count in counts for extra in (0, 1) if count]

    def _baked(self) -> list[int]:
        """Numbers in small constants: a traced export may know no other length than one of them."""
        small = [array(c) for c in graphs.constants(self.graph) if math.prod(c.shape) < 9]
        made = [v for n in self.graph.nodes if n.op == "Constant" for v in n.attrs.values()]
        small += [array(v) for v in made if isinstance(v, gs.Constant) and math.prod(v.shape) < 9]
        found = {int(n) for values in small if values.dtype == np.int64 for n in values.reshape(-1)}
        return sorted(n for n in found if 1 < n <= LONGEST)

    def _tables(self) -> list[int]:
        """Rows of constants that may hold a vector for each position."""
        shapes = (c.shape for c in graphs.constants(self.graph))
        return sorted({int(s[-2]) for s in shapes if len(s) > 1 and math.prod(s[:-2]) == 1}, reverse=True)

    def _image_sizes(self) -> list[int]:
        """Sides of square images whose patches, with up to two tokens more, fill a table of positions."""
        stride = next((i.role.stride for i in self.inputs if i.role.kind == of.IMAGE), 1)
        patches = [n - extra for n in self._tables() for extra in (1, 0, 2) if n > extra]
        sides = [math.isqrt(n) for n in patches if n > 1 and math.isqrt(n) ** 2 == n]
        return list(dict.fromkeys([*(side * stride for side in sides), *IMAGES, stride]))

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
        while most <= LONGEST and self._runs_with(most, sizes):
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

    def _shorter(self, sizes: Sizes, share: float) -> Feed:
        """Of a model that has no mask to hide positions with, only that share of them, if it takes so few."""
        declared = Sizes(self.inputs).known
        masked = any(i.role.kind == of.MASK and len(i.shape) == 2 for i in self.inputs)
        if share < 1 and not masked and not self.marks:
            words = {"length", "source"} - declared.keys()
            feed = self.draw(self._sized(sizes, **{w: max(1, int(share * sizes[w])) for w in words}))
            with contextlib.suppress(SpikecError):
                self.session.run(None, feed)
                return feed
        return self.draw(sizes)

    def _pairs(self) -> dict[str, str]:
        """Cache inputs by the outputs they grow into; none when some that grow have no output."""
        growing = [i for i in self.inputs if any(word(i, axis) == "past" for axis in range(len(i.shape)))]
        pairs = {i.role.present: i.name for i in growing}
        return {} if "" in pairs else pairs

    def _later(self, sizes: Sizes, turns: int) -> Feed | None:
        """Tokens that go on from what the model itself left in its cache: the last third of the sequence, or
        one (some take no more), or, of a model with a fixed number of tokens, the last of so many turns; None
        where there is no such thing."""
        length, pairs = sizes["length"], self._pairs()
        if not pairs:
            return None
        if "length" in Sizes(self.inputs).known:
            return self._turns(sizes, pairs, [length] * turns)
        third = self._turns(sizes, pairs, [length * 2 // 3, length - length * 2 // 3])
        return third or self._turns(sizes, pairs, [length - 1, 1])

    def _turns(self, sizes: Sizes, pairs: dict[str, str], parts: list[int]) -> Feed | None:
        past, cached = sizes["past"], Feed()
        try:
            for index, part in enumerate(parts):
                feed = self.draw(self._sized(sizes, length=part, past=past)) | cached
                made = self.session.run(list(pairs), feed)
                if index < len(parts) - 1:
                    cached, past = dict(zip(pairs.values(), made, strict=True)), past + part
        except SpikecError:
            return None
        return feed

    def _pad(self, feed: Feed, share: float) -> Feed:
        """Hides all but the first share of the positions, one at least, where a mask has two dimensions."""
        for i in self.inputs:
            value = feed[i.name]
            if i.role.kind == of.MASK and value.ndim == 2:
                value[:, max(1, int(share * value.shape[1])) :] = 0
        return feed
