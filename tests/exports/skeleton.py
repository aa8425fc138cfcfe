"""Models stored without their random weights: structure and meaningful constants, noise as a recipe.

A float tensor that looks like independent noise is replaced by `noise MEAN DEVIATION SEED ORDER` in its
doc_string. The seed comes from the tensor's values, whichever way round a matrix lies, so tied weights (also
one folded to its transpose) get equal values again. Everything else stays as it is, bit for bit.
"""

from __future__ import annotations

import hashlib
import lzma
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto

SMALLEST = 40
"""Shorter tensors are kept: frequencies, slopes, scales, and too few values to call them noise."""
SIGMAS = 5.0


def pack(model: ModelProto) -> bytes:
    """The skeleton of `model`, which is changed: call it on a copy."""
    for tensor in tensors(model):
        values = onnx.numpy_helper.to_array(tensor)
        tensor.doc_string = ""
        if is_noise(values):
            seed, order = identity(values)
            wide = values.astype(np.float64)
            tensor.doc_string = f"noise {wide.mean():.6g} {wide.std():.6g} {seed} {order}"
            for name in ("raw_data", "float_data", "int32_data", "double_data"):
                tensor.ClearField(name)
    return lzma.compress(model.SerializeToString(deterministic=True), preset=9 | lzma.PRESET_EXTREME)


def unpack(data: bytes) -> ModelProto:
    """The model with its noise made again; the same values on every machine."""
    model = ModelProto.FromString(lzma.decompress(data))
    for tensor in tensors(model):
        if tensor.doc_string.startswith("noise "):
            _, mean, deviation, seed, order = tensor.doc_string.split()
            dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
            shape = tuple(tensor.dims)
            values = noise(shape[::-1] if order == "T" else shape, int(seed))
            values = float(mean) + float(deviation) * (values.T if order == "T" else values)
            tensor.raw_data = np.ascontiguousarray(values).astype(dtype).tobytes()
            tensor.doc_string = ""
    return model


def load(path: Path) -> ModelProto:
    return unpack(path.read_bytes())


def noise(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Mean 0, deviation 1, nearly normal: sums of four uniform 16-bit numbers, exact on every machine."""
    size = int(np.prod(shape))
    draws = np.random.PCG64(seed).random_raw(size).astype("<u8").view("<u2").reshape(size, 4)
    centred = draws.astype(np.float64).sum(axis=1) - 2 * 65535
    return (centred / np.sqrt((2.0**32 - 1) / 3)).reshape(shape)


def identity(values: np.ndarray) -> tuple[int, str]:
    """A seed from the values, and whether a matrix or its transpose gave it."""
    sides = {"N": values} if values.ndim != 2 else {"N": values, "T": values.T}
    digests = {
        side: hashlib.sha256(repr(array.shape).encode() + np.ascontiguousarray(array).tobytes()).digest()
        for side, array in sides.items()
    }
    order = min(digests, key=lambda side: digests[side])
    return int.from_bytes(digests[order][:6], "little"), order


def is_noise(values: np.ndarray) -> bool:
    """No zeros or repeats; neighbours and means of slices are as independent values have them."""
    if (values.dtype.kind != "f" and values.dtype.name != "bfloat16") or values.size < SMALLEST:
        return False
    wide = values.astype(np.float64)
    if (
        not np.isfinite(wide).all()
        or (wide == 0).sum() > 2
        or np.unique(wide).size < 0.1 * wide.size
        or wide.std() < 1e-6
    ):
        return False
    unit = (wide - wide.mean()) / wide.std()
    if np.abs(unit).max() > 7 or not 1.5 < (unit**4).mean() < 6:
        return False
    for axis, length in enumerate(unit.shape):
        others = unit.size // length
        if length > 1:
            pairs = np.take(unit, range(1, length), axis) * np.take(unit, range(length - 1), axis)
            if abs(pairs.mean()) > SIGMAS / np.sqrt(pairs.size):
                return False
        if others > 1 and np.abs(np.mean(np.moveaxis(unit, axis, 0).reshape(length, -1), 1)).max() > (
            SIGMAS / np.sqrt(others)
        ):
            return False
    return True


def tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Every constant of the model: initialisers and Constant nodes, in subgraphs and functions too."""
    yield from tensors_of_graph(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from tensors_of_node(node)


def tensors_of_graph(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        yield from tensors_of_node(node)


def tensors_of_node(node: NodeProto) -> Iterator[TensorProto]:
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.TENSOR:
            yield attribute.t
        for graph in [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]:
            yield from tensors_of_graph(graph)
