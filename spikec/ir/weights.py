"""Weights stay in their files: memory-mapped views in, one data file out, never copied through protobuf."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx.external_data_helper import ExternalDataInfo
from onnx_graphsurgeon.ir.tensor import LazyValues, SparseValues

from .diagnostics import SpikecError

ALIGNMENT = 4096
INLINE_BYTES = 1024
"""Tensors up to this size stay inside the protobuf, where shape inference can see them."""


class MappedValues(LazyValues):
    """A tensor of an external data file, as a read-only memory map."""

    def __init__(self, tensor: onnx.TensorProto, folder: Path) -> None:
        super().__init__(tensor)
        try:
            info = ExternalDataInfo(tensor)
            dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SpikecError(
                f"tensor {tensor.name!r} does not say where its data is",
                where=str(folder),
                why=str(error),
                fix="export the model again",
            ) from error
        self.path = resolve(folder, info.location, tensor.name)
        self.offset = info.offset or 0
        size = self.path.stat().st_size
        needed = int(np.prod(tensor.dims, dtype=np.int64)) * dtype.itemsize
        if min(self.offset, needed) < 0 or self.offset + needed > size:
            raise SpikecError(
                f"external data of tensor {tensor.name!r} is truncated",
                where=str(self.path),
                why=f"needs {needed} bytes from {self.offset}, the file has {size}",
                fix="copy the model again with its whole data file",
            )
        self.array = (
            np.memmap(self.path, dtype, "r", self.offset, tuple(tensor.dims))
            if needed
            else np.zeros(tuple(tensor.dims), dtype)
        )

    def load(self) -> np.ndarray:
        return self.array


class DerivedValues(LazyValues):
    """Values made from other tensors' when they are asked for (transposed, widened, dequantised), never kept.

    `function` takes the sources' arrays and gives one of exactly this shape and type.
    """

    def __init__(
        self,
        sources: Sequence[np.ndarray | LazyValues],
        function: Callable[..., np.ndarray],
        shape: Sequence[int],
        dtype: np.typing.DTypeLike,
    ) -> None:
        self.sources, self.function = tuple(sources), function
        self.shape, self.dtype = [int(size) for size in shape], np.dtype(dtype)
        self.nbytes = math.prod(self.shape) * self.dtype.itemsize

    @property
    def tensor(self) -> onnx.TensorProto:
        return onnx.numpy_helper.from_array(self.load())

    def load(self) -> np.ndarray:
        made = np.asarray(self.function(*(read(source) for source in self.sources)))
        if list(made.shape) != self.shape or made.dtype != self.dtype:
            given = f"{made.dtype}{list(made.shape)}"
            raise TypeError(f"derived values are {given}, not {self.dtype}{self.shape} as declared")
        return made


def derived(
    name: str,
    sources: Sequence[gs.Constant],
    function: Callable[..., np.ndarray],
    shape: Sequence[int],
    dtype: np.typing.DTypeLike,
) -> gs.Constant:
    """A constant made from others on demand; a small one at once."""
    values = DerivedValues([source._values for source in sources], function, shape, dtype)
    if max([values.nbytes, *(source._values.nbytes for source in sources)]) <= INLINE_BYTES:
        return gs.Constant(name, values.load())
    return gs.Constant(name, values)


def dtype_of(constant: gs.Constant) -> np.dtype:
    """The constant's type, without looking at its values; bfloat16 and the like are ml_dtypes' own."""
    dtype = constant._values.dtype
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(dtype) if isinstance(dtype, int) else dtype)


def resolve(folder: Path, location: str, tensor: str) -> Path:
    """The external data file, which must lie in the model's folder (hub-style symlinks are followed)."""
    given = Path(location)
    if given.is_absolute() or ".." in given.parts:
        raise SpikecError(
            f"external data of tensor {tensor!r} points outside the model's folder",
            where=location,
            why="a model may only read files beside it",
            fix="save the model again with its data in the same folder",
        )
    path = folder / given
    if not path.is_file():
        raise SpikecError(
            f"external data file of tensor {tensor!r} is missing",
            where=str(path),
            fix="put the data file beside the model, under this name",
        )
    return path


def array(constant: gs.Constant) -> np.ndarray:
    """The constant's values as a read-only view; nothing is cached in the graph."""
    return read(constant._values)


def read(values: np.ndarray | LazyValues) -> np.ndarray:
    """The numbers behind a constant's values, wherever they are."""
    if isinstance(values, MappedValues):
        return values.array
    if isinstance(values, (DerivedValues, SparseValues)):
        return values.load()
    if isinstance(values, LazyValues):
        return onnx.numpy_helper.to_array(values.tensor)
    return np.asarray(values)


class DataFile:
    """One data file written tensor by tensor; a source is written once, so several models share it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stream = path.open("wb")
        self.written: dict[object, tuple[int, int]] = {}

    def add(self, constant: gs.Constant) -> tuple[int, int]:
        """(offset, length) of the tensor's bytes."""
        values = constant._values
        key: object = constant.name
        if isinstance(values, MappedValues):
            key = (str(values.path), values.offset, constant.name)
        elif isinstance(values, DerivedValues):
            key = values  # not by name: the tensor it is made from may have had the same one
        if key not in self.written:
            data = np.ascontiguousarray(array(constant))
            self.stream.write(b"\0" * (-self.stream.tell() % ALIGNMENT))
            offset = self.stream.tell()
            self.stream.write(data.reshape(-1).view(np.uint8).data)
            self.written[key] = (offset, data.nbytes)
        return self.written[key]

    def flush(self) -> None:
        self.stream.flush()

    def close(self) -> None:
        self.stream.close()

    def reference(self, constant: gs.Constant) -> onnx.TensorProto:
        """A protobuf tensor that points into the file."""
        offset, length = self.add(constant)
        proto = onnx.TensorProto(name=constant.name, data_location=onnx.TensorProto.EXTERNAL)
        proto.data_type = onnx.helper.np_dtype_to_tensor_dtype(dtype_of(constant))
        proto.dims.extend(constant.shape)
        for key, value in (("location", self.path.name), ("offset", offset), ("length", length)):
            proto.external_data.add(key=key, value=str(value))
        return proto
