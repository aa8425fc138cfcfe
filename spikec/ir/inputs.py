"""What a model takes: which input holds token ids, and how to feed it from tokens or from arrays."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from .diagnostics import SpikecError

Feed = dict[str, np.ndarray]

FILLERS = {
    "attention_mask": lambda ids: np.ones(ids.shape),
    "position_ids": lambda ids: np.broadcast_to(np.arange(ids.shape[1]), ids.shape),
    "token_type_ids": lambda ids: np.zeros(ids.shape),
}
"""Integer inputs beside the token ids that have one sensible value for plain text."""


@dataclass(frozen=True)
class ModelInput:
    name: str
    dtype: np.dtype
    shape: tuple[int | str | None, ...]


def is_free(model_input: ModelInput, axis: int) -> bool:
    """Whether the input has this axis and leaves its size to the caller."""
    return axis < len(model_input.shape) and not _fixed(model_input.shape[axis])


def _fixed(dim: int | str | None) -> bool:
    return isinstance(dim, int) and dim >= 0


def fixed_tokens(inputs: Iterable[ModelInput]) -> tuple[int | None, int | None]:
    """(batch, length) as far as the token input was exported with fixed sizes."""
    inputs = list(inputs)
    shape = next((i.shape for i in inputs if i.name == token_input(inputs)), (None, None))
    batch, length = (dim if isinstance(dim, int) and dim >= 0 else None for dim in shape)
    return batch, length


def describe(graph: gs.Graph) -> list[ModelInput]:
    """The graph's inputs; initialisers listed as inputs do not count."""
    return [
        ModelInput(t.name, np.dtype(t.dtype), tuple(t.shape or ()))
        for t in graph.inputs
        if isinstance(t, gs.Variable)
    ]


def token_input(inputs: Iterable[ModelInput]) -> str | None:
    """The name of the input that takes token ids, or None for a model that is not fed by tokens alone."""
    inputs = list(inputs)
    others = [i for i in inputs if i.name not in FILLERS]
    if len(others) == 1 and np.issubdtype(others[0].dtype, np.integer) and len(others[0].shape) == 2:
        return others[0].name
    return None


def feed_tokens(inputs: Iterable[ModelInput], ids: np.ndarray) -> Feed:
    """A feed from token ids `[batch, length]`; raises SpikecError when the model needs more than tokens."""
    inputs = list(inputs)
    name = token_input(inputs)
    if name is None:
        listed = ", ".join(f"{i.name} {i.dtype}{list(i.shape)}" for i in inputs)
        raise SpikecError(
            "are not token ids alone",
            where="the model's inputs",
            why=listed,
            fix="give them as arrays with --npz FILE",
        )
    return {i.name: (ids if i.name == name else FILLERS[i.name](ids)).astype(i.dtype) for i in inputs}


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
            _fixed(d) and d != n for d, n in zip(i.shape, array.shape, strict=True)
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
