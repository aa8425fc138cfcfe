"""What a graph does with each input: looks rows of a table up by it, hides positions, goes on from it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

TOKENS, SEGMENTS, POSITIONS, INDEX = "tokens", "segments", "positions", "index"
MASK, BIAS = "mask", "bias"
CACHE, BRANCH, LAST, TOTAL = "cache", "branch", "last", "total"
IMAGE, SOUND, STATES = "image", "sound", "states"

WAYS = {
    "Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Clip", "Flatten", "Where", "Slice", "Expand",
    "Max", "Min", "Transpose",
}  # fmt: skip
"""Operators behind which an input is still itself."""
DEPTH = 7
FUSED_CACHE = {
    "GroupQueryAttention": {3: 1, 4: 2},
    "MultiHeadAttention": {6: 1, 7: 2},
    "Attention": {4: 1, 5: 2},
}
"""Inputs of fused attentions that are a past, and the outputs that are the present they grow into."""
NAMES = (
    (r"cache_branch", BRANCH),
    (r"seqlens_k", LAST),
    (r"total_(sequence|seq)_len", TOTAL),
    (r"past|cache_(key|value)|(key|value)_cache", CACHE),
    (r"mask", MASK),
    (r"position", POSITIONS),
    (r"token_type|segment", SEGMENTS),
)
"""Names that exporters agree on, the first that fits."""


@dataclass(frozen=True)
class Role:
    """`kind` is one of the words above. `rows` are those of the table an index goes into, `present` the
    output that a cache grows into, `mark` the token id in whose places an image's features are put, `widths`
    the sizes by axis that the first weights to read a real input ask for, and `stride` their step."""

    kind: str
    rows: int | None = None
    present: str = ""
    mark: int | None = None
    widths: tuple[tuple[int, int], ...] = ()
    stride: int = 1


def roles(graph: gs.Graph) -> dict[str, Role]:
    """The role of every input by its name."""
    inputs = [t for t in graph.inputs if isinstance(t, gs.Variable)]
    outputs = {id(o): o.name for o in graph.outputs}
    found = {t.name: _role(t, outputs) for t in inputs}
    _choose_tokens(found)
    _pair_caches(found, inputs, graph)
    return found


def _role(tensor: gs.Variable, outputs: dict[int, str]) -> Role:
    named = next((kind for pattern, kind in NAMES if re.search(pattern, tensor.name, re.IGNORECASE)), "")
    uses = list(_uses(tensor))
    real = tensor.dtype is not None and np.issubdtype(tensor.dtype, np.floating)
    if real:
        present = next((p for use in uses if (p := _grows_into(*use, outputs))), "")
        if present or (named == CACHE and len(tensor.shape or ()) > 2):
            return Role(CACHE, present=present)
        if named == MASK:
            return Role(BIAS if _is_added(uses) else MASK)
        return _real(tensor, uses)
    for node, index in uses:
        if node.op == "GroupQueryAttention" and index in (5, 6):
            return Role(LAST if index == 5 else TOTAL)
        if node.op == "If" or (named == BRANCH and len(tensor.shape or ()) < 2):
            return Role(BRANCH)
    if tensor.dtype == np.bool_:
        return Role(MASK)
    rows = next((r for node, index in uses if (r := _rows(node, index)) is not None), None)
    if named in (LAST, TOTAL, MASK, SEGMENTS, POSITIONS):
        return Role(named, rows)
    if rows is not None:
        return Role(INDEX, rows, mark=_mark(uses, rows))
    if re.search(r"ids|token", tensor.name, re.IGNORECASE):
        return Role(INDEX)
    if any(node.op in ("Mul", "MatMul", "RotaryEmbedding") for node, _ in uses):
        return Role(POSITIONS)
    return Role(MASK)


def _uses(tensor: gs.Tensor, ways: set[str] = WAYS) -> Iterator[tuple[gs.Node, int]]:
    """Nodes that read the tensor, or what reshaping, casting and selecting make of it, and at which input."""
    seen, frontier = {id(tensor)}, [tensor]
    for _ in range(DEPTH):
        following = []
        for current in frontier:
            for node in current.outputs:
                yield from ((node, index) for index, i in enumerate(node.inputs) if i is current)
                if node.op in ways:
                    new = [o for o in node.outputs if id(o) not in seen]
                    seen |= {id(o) for o in new}
                    following += new
        frontier = following


def _rows(node: gs.Node, index: int) -> int | None:
    """Rows of the table of vectors that the node looks up by this input."""
    table: int | None = None
    if node.op in ("Gather", "GatherBlockQuantized") and index == 1:
        table = 0
    elif node.op == "EmbedLayerNormalization" and index in (0, 1):
        table = {0: 2, 1: 4}[index]
    if table is None or table >= len(node.inputs):
        return None
    shape = node.inputs[table].shape
    return int(shape[0]) if shape and len(shape) == 2 and isinstance(shape[0], int) else None


SCATTERS = {"NonZero", "ScatterND", "ScatterElements", "CumSum", "GatherND"}
WAYS_OF_MARKS = WAYS | {"And", "Or", "Not", "Equal", "Mul", "Sub", "Add"}


def _mark(uses: list[tuple[gs.Node, int]], rows: int) -> int | None:
    """The token id that the input is compared with to find the places into which other values are put."""
    for node, index in uses:
        if node.op != "Equal":
            continue
        value = _scalar(node.inputs[1 - index])
        if value is not None and 0 <= value < rows:
            readers = (user.op for user, _ in _uses(node.outputs[0], WAYS_OF_MARKS))
            if not SCATTERS.isdisjoint(readers):
                return value
    return None


def _scalar(tensor: Any) -> int | None:
    values: Any = None
    if isinstance(tensor, gs.Constant):
        values = tensor.values
    elif isinstance(tensor, gs.Variable) and tensor.inputs and tensor.inputs[0].op == "Constant":
        values = next(iter(tensor.inputs[0].attrs.values()), None)
        values = values.values if isinstance(values, gs.Constant) else values
    array = np.asarray(values) if values is not None else None
    return int(array.reshape(-1)[0]) if array is not None and array.size == 1 else None


def _grows_into(node: gs.Node, index: int, outputs: dict[int, str]) -> str:
    """The graph output that this use of an input as a cache is appended to, or ""."""
    if node.op == "Concat" and len(node.inputs) == 2:
        stack = [node.outputs[0]]
        for tensor in stack:
            if id(tensor) in outputs:
                return outputs[id(tensor)]
            stack += [o for n in tensor.outputs if n.op in ("Identity", "Cast") for o in n.outputs]
        return ""
    place = FUSED_CACHE.get(node.op, {}).get(index)
    if place is not None and place < len(node.outputs):
        return outputs.get(id(node.outputs[place]), "")
    return ""


def _is_added(uses: list[tuple[gs.Node, int]]) -> bool:
    """Whether a real mask is added to scores as it is, not first turned from ones into zeros."""
    return any(node.op in ("Add", "Attention", "MultiHeadAttention") for node, _ in uses) and not any(
        node.op == "Sub" for node, _ in uses
    )


def _real(tensor: gs.Variable, uses: list[tuple[gs.Node, int]]) -> Role:
    rank = len(tensor.shape or ())
    for node, index in uses:
        weight = node.inputs[1].shape if len(node.inputs) > 1 else None
        if node.op == "Conv" and index == 0 and weight:
            kind = IMAGE if rank == 4 else SOUND
            stride = int((node.attrs.get("strides") or [1])[0])
            channels = int(weight[1]) * int(node.attrs.get("group", 1))
            return Role(kind, widths=((1, channels),), stride=stride)
    for node, index in uses:
        if node.op in ("MatMul", "Gemm") and index == 0 and isinstance(node.inputs[1], gs.Constant):
            shape = node.inputs[1].shape
            return Role(STATES, widths=((rank - 1, int(shape[1 if node.attrs.get("transB") else -2])),))
        if node.op in ("LayerNormalization", "RMSNormalization") and isinstance(node.inputs[1], gs.Constant):
            return Role(STATES, widths=((rank - 1, int(node.inputs[1].shape[-1])),))
    return Role(STATES)


def _choose_tokens(found: dict[str, Role]) -> None:
    """Indices of unknown meaning are token ids; of two or more, one into a table of two rows is of
    segments."""
    indices = [name for name, role in found.items() if role.kind == INDEX]
    for name in indices:
        few = len(indices) > 1 and (found[name].rows or 3) <= 2
        found[name] = Role(SEGMENTS if few else TOKENS, found[name].rows, mark=found[name].mark)


def _pair_caches(found: dict[str, Role], inputs: list[gs.Variable], graph: gs.Graph) -> None:
    """Gives every cache without one its present: by name, else by the order among outputs of its shape."""
    taken = {role.present for role in found.values() if role.present}
    free = [o for o in graph.outputs if o.name not in taken]
    caches = [t for t in inputs if found[t.name].kind == CACHE and not found[t.name].present]
    for named in (True, False):
        for tensor in list(caches):
            fits = (_key(o.name) == _key(tensor.name) if named else _alike(o, tensor) for o in free)
            match = next((o for o, fit in zip(free, fits, strict=True) if fit), None)
            if match is not None:
                found[tensor.name] = Role(CACHE, present=match.name)
                free.remove(match)
                caches.remove(tensor)


def _key(name: str) -> str:
    """What is left of a cache's name without the words for before and after."""
    words = re.sub(r"past_key_values|past_key|past_value|present_key|present_value|past|present", _kind, name)
    return ".".join(re.findall(r"[a-z]+|\d+", words.lower().replace("_values", "")))


def _kind(match: re.Match[str]) -> str:
    word = match.group()
    return "key" if word.endswith("_key") else "value" if word.endswith("_value") else ""


def _alike(output: gs.Tensor, cache: gs.Variable) -> bool:
    a, b = output.shape, cache.shape
    return (
        a is not None
        and b is not None
        and len(a) == len(b)
        and all(x == y for x, y in zip(a, b, strict=True) if isinstance(x, int) and isinstance(y, int))
    )
