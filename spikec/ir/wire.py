"""Reads a model file without its weights: large inline tensors become references into the file itself.

ONNX's protobuf classes would hold every weight in memory, twice while reading. The wire format says how long
each field is, so that the large ones can be stepped over (https://protobuf.dev/programming-guides/encoding).
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

import onnx

LARGE = 1 << 16
"""Tensors from this many bytes on are left in the file."""
WITHIN = {
    ("model", 7): "graph",
    ("graph", 1): "node", ("graph", 5): "tensor",
    ("node", 5): "attribute",
    ("attribute", 6): "graph", ("attribute", 11): "graph",
}  # fmt: skip
"""The messages that hold initialisers, by the message and number of the field they stand in."""
TYPE, RAW = 2, 9
PACKED = {
    onnx.TensorProto.UINT4: 4, onnx.TensorProto.INT4: 4, onnx.TensorProto.FLOAT4E2M1: 4,
    **{getattr(onnx.TensorProto, name): 2 for name in ("UINT2", "INT2") if hasattr(onnx.TensorProto, name)},
}  # fmt: skip
"""Bits of an element of the types that share bytes."""

Data = mmap.mmap | bytes


def skim(path: Path) -> bytes:
    """The file's bytes with large tensors as external data whose location is the file itself.

    Raises ValueError when it is not in wire format.
    """
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _skimmed(data, 0, len(data), "model", path.name)


def _skimmed(data: Data, start: int, end: int, kind: str, location: str) -> bytes:
    pieces, kept, last_word = [], start, b""
    for begin, number, first, last in _long_fields(data, start, end):
        if kind == "tensor" and number == RAW:
            if _is_packed(data, start, end):
                continue
            tensor = onnx.TensorProto()
            # said at the very end: a file may say DEFAULT after the data, and what is said last holds
            last_word = onnx.TensorProto(data_location=onnx.TensorProto.EXTERNAL).SerializeToString()
            for key, value in (("location", location), ("offset", first), ("length", last - first)):
                tensor.external_data.add(key=key, value=str(value))
            piece = tensor.SerializeToString()
        elif (kind, number) in WITHIN:
            body = _skimmed(data, first, last, WITHIN[kind, number], location)
            piece = _varint(number << 3 | 2) + _varint(len(body)) + body
        else:
            continue
        pieces += [data[kept:begin], piece]
        kept = last
    return b"".join([*pieces, data[kept:end], last_word])


def _long_fields(data: Data, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """(start of the field, its number, start and end of its value) of those of LARGE bytes or more."""
    for begin, tag, first, last in _fields(data, start, end):
        if last - first >= LARGE and tag & 7 == 2:
            yield begin, tag >> 3, first, last


def _fields(data: Data, position: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """(start, tag, start and end of the value) of every field between two places."""
    while position < end:
        begin = position
        tag, position = _number(data, position, end)
        match tag & 7:
            case 0:
                first, (_, position) = position, _number(data, position, end)
            case 1:
                first, position = position, position + 8
            case 2:
                length, first = _number(data, position, end)
                position = first + length
            case 5:
                first, position = position, position + 4
            case other:
                raise ValueError(f"wire type {other} at byte {begin}")
        if position > end:
            raise ValueError(f"the field at byte {begin} goes beyond the end")
        yield begin, tag, first, position


def _number(data: Data, position: int, end: int) -> tuple[int, int]:
    """(a number of seven bits a byte, where the next thing begins)."""
    value = shift = 0
    while position < end and shift < 70:
        byte = data[position]
        value |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return value, position
    raise ValueError(f"no number at byte {position}")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _is_packed(data: Data, start: int, end: int) -> bool:
    types = (
        _number(data, first, last)[0] for _, tag, first, last in _fields(data, start, end) if tag == TYPE << 3
    )
    return any(kind in PACKED for kind in types)
