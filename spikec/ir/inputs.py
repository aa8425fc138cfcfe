"""What a model takes, and how to feed it: from tokens, from arrays, from what its own cache holds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from . import roles as of
from .diagnostics import SpikecError
from .roles import Role
from .sizes import Sizes, fixed, word

Feed = dict[str, np.ndarray]

FILLERS = {"attention_mask", "position_ids", "token_type_ids"}
"""Names of inputs that say nothing about the text itself."""
REAL = {of.IMAGE, of.SOUND, of.STATES}
"""Roles of inputs that no text gives."""


@dataclass(frozen=True)
class ModelInput:
    """An input's declared type and shape (a size, a name, or None), and what the graph does with it."""

    name: str
    dtype: np.dtype
    shape: tuple[int | str | None, ...]
    role: Role

    def as_json(self) -> dict[str, Any]:
        role = {key: value for key, value in asdict(self.role).items() if value not in (None, "", ())}
        return {"name": self.name, "dtype": str(self.dtype), "shape": list(self.shape), "role": role}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> ModelInput:
        role = stored["role"] | {"widths": tuple(map(tuple, stored["role"].get("widths", ())))}
        return cls(stored["name"], np.dtype(stored["dtype"]), tuple(stored["shape"]), Role(**role))


def describe(graph: gs.Graph) -> list[ModelInput]:
    """The graph's inputs; initialisers listed as inputs do not count."""
    found = of.roles(graph)
    return [
        ModelInput(t.name, np.dtype(t.dtype), tuple(t.shape or ()), found[t.name])
        for t in graph.inputs
        if isinstance(t, gs.Variable)
    ]


def token_input(inputs: Iterable[ModelInput]) -> str | None:
    """The input that takes token ids, the decoder's of two; None for a model not fed by tokens alone."""
    inputs = list(inputs)
    names = [i.name for i in inputs if i.role.kind == of.TOKENS]
    if not names or any(i.role.kind in REAL for i in inputs):
        return None
    return next((name for name in names if "decoder" in name), names[0])


def fixed_tokens(inputs: Iterable[ModelInput]) -> tuple[int | None, int | None]:
    """(batch, length) as far as the token input was exported with fixed sizes."""
    inputs = list(inputs)
    shape = next((i.shape for i in inputs if i.name == token_input(inputs)), ())
    sizes = [dim if isinstance(dim, int) and dim >= 0 else None for dim in (None, None, *shape)]
    return sizes[-2], sizes[-1]


def vocabulary_size(inputs: Iterable[ModelInput]) -> int | None:
    """Rows of the table that the token input looks up."""
    inputs = list(inputs)
    return next((i.role.rows for i in inputs if i.name == token_input(inputs)), None)


def feed_tokens(inputs: Iterable[ModelInput], ids: np.ndarray, past: Feed | None = None) -> Feed:
    """A feed from token ids `[batch, length]`, which go on from `past`, values of the cache inputs by name
    (nothing by default); raises SpikecError when the model needs more than tokens."""
    inputs = list(inputs)
    if token_input(inputs) is None:
        listed = ", ".join(f"{i.name} {i.dtype}{list(i.shape)}" for i in inputs)
        raise SpikecError(
            "are not token ids alone",
            where="the model's inputs",
            why=listed,
            fix="give them as arrays with --npz FILE",
        )
    sizes = Sizes(inputs, batch=ids.shape[0], length=ids.shape[1], past=past_length(inputs, past))
    return {i.name: _value(i, sizes, ids, past) for i in inputs}


def past_length(inputs: Iterable[ModelInput], past: Feed | None) -> int:
    """How many positions the caches hold."""
    for i in inputs:
        if i.role.kind == of.CACHE:
            for axis in range(len(i.shape)):
                if word(i, axis) == "past":
                    dim = past[i.name].shape[axis] if past else i.shape[axis]
                    return dim if isinstance(dim, int) and dim >= 0 else 0
    return 0


def _value(i: ModelInput, sizes: Sizes, ids: np.ndarray, past: Feed | None) -> np.ndarray:
    if i.role.kind == of.TOKENS:
        return (ids if len(i.shape) == 2 else ids.reshape(-1)).astype(i.dtype)
    if i.role.kind == of.CACHE and past:
        return past[i.name]
    value = plain_value(i, sizes)
    if i.role.kind == of.MASK and not past and sizes["past"] and value.ndim:
        value[..., : sizes["past"]] = 0  # a cache of fixed length that holds nothing
    return value


def plain_value(i: ModelInput, sizes: Sizes) -> np.ndarray:
    """The one sensible value of an input beside the tokens, where nothing is padding."""
    shape, kind, past, length = sizes.shape(i), i.role.kind, sizes["past"], sizes["length"]
    if kind == of.POSITIONS:
        value: Any = np.broadcast_to(np.arange(past, past + length), shape) if shape else past
    elif kind == of.MASK:
        value = np.ones(shape)
    elif kind in (of.LAST, of.TOTAL):
        value = np.full(shape, past + length - (kind == of.LAST))
    elif kind == of.BRANCH:
        value = np.full(shape, past > 0)
    else:
        value = np.zeros(shape)
    return np.asarray(value).astype(i.dtype)


def feed_windows(inputs: Iterable[ModelInput], windows: np.ndarray) -> list[Feed]:
    """A feed for every window `[length]`, or for every few when the model was exported for a fixed batch."""
    inputs = list(inputs)
    batch = fixed_tokens(inputs)[0] or 1
    if len(windows) < batch:
        raise SpikecError(
            f"gives only {len(windows)} windows",
            where="the text",
            why=f"the model takes batches of exactly {batch}",
            fix="give a longer text, or arrays with --npz FILE",
        )
    whole = windows[: len(windows) // batch * batch]
    return [feed_tokens(inputs, ids) for ids in whole.reshape(-1, batch, windows.shape[1])]


def doubled(inputs: Iterable[ModelInput], feed: Feed) -> Feed | None:
    """The feed twice in one batch; None when the model takes only the batch it was exported for."""
    axes = {
        i.name: axis
        for i in inputs
        for axis in range(len(i.shape))
        if word(i, axis) == "batch" and not fixed(i.shape[axis])
    }
    if not axes:
        return None
    return {
        name: np.concatenate([value, value], axes[name]) if name in axes else value
        for name, value in feed.items()
    }


def feed_arrays(inputs: Iterable[ModelInput], arrays: dict[str, np.ndarray], where: str) -> Feed:
    """A feed from named arrays, checked against what the model takes."""
    inputs = list(inputs)
    if missing := [i.name for i in inputs if i.name not in arrays]:
        raise SpikecError(
            f"has no array for input {missing[0]!r}",
            where=where,
            why=f"it holds {sorted(arrays)}",
            fix="name the arrays like the inputs",
        )
    feed = {}
    for i in inputs:
        array = arrays[i.name]
        if array.ndim != len(i.shape) or any(
            fixed(d) and d != n for d, n in zip(i.shape, array.shape, strict=True)
        ):
            raise SpikecError(
                f"array {i.name!r} has shape {list(array.shape)}",
                where=where,
                why=f"the model takes {list(i.shape)}",
                fix="give an array of that shape",
            )
        if not np.can_cast(array.dtype, i.dtype, "same_kind"):
            raise SpikecError(
                f"array {i.name!r} is {array.dtype}",
                where=where,
                why=f"the model takes {i.dtype}",
                fix="give an array of that type",
            )
        feed[i.name] = array.astype(i.dtype)
    return feed


def shorten(inputs: list[ModelInput], feed: Feed, tokens: int) -> Feed:
    """The first `tokens` of a feed of tokens; any other feed, and one of a fixed length, as it is."""
    if token_input(inputs) is None or fixed_tokens(inputs)[1] is not None or past_length(inputs, feed):
        return feed
    cut = {i.name for i in inputs if len(i.shape) == 2 and i.role.kind != of.CACHE}
    return {name: value[:, :tokens] if name in cut else value for name, value in feed.items()}
