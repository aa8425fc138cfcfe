"""Weights stay in their files: memory-mapped views, read in pieces, never copied through protobuf."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx.external_data_helper import ExternalDataInfo
from onnx_graphsurgeon.ir.tensor import LazyValues, SparseValues

from .diagnostics import SpikecError
from .wire import PACKED

INLINE_BYTES = 1024
"""Tensors up to this size stay inside the protobuf, where shape inference can see them."""
PIECE = 1 << 26
"""Bytes of a weight that are in memory at a time when all of it is read."""


class MappedValues(LazyValues):
    """A tensor in a file: external data, or a large one inside the model file itself."""

    def __init__(self, tensor: onnx.TensorProto, folder: Path) -> None:
        try:
            super().__init__(tensor)
            info = ExternalDataInfo(tensor)
            self.numpy = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SpikecError(
                f"tensor {tensor.name!r} does not say where its data is",
                where=str(folder),
                why=str(error),
                fix="export the model again",
            ) from error
        self.path = resolve(folder, info.location, tensor.name)
        self.offset = info.offset or 0
        bits = PACKED.get(tensor.data_type, 8 * self.numpy.itemsize)
        self.nbytes = -(-math.prod(tensor.dims) * bits // 8)
        self.packed = tensor.data_type in PACKED
        self.inside_model = False
        """Whether it lies in the model file itself, at any offset."""
        size = self.path.stat().st_size
        if min(self.offset, self.nbytes) < 0 or self.offset + self.nbytes > size:
            raise SpikecError(
                f"external data of tensor {tensor.name!r} is truncated",
                where=str(self.path),
                why=f"needs {self.nbytes} bytes from {self.offset}, the file has {size}",
                fix="copy the model again with its whole data file",
            )
        if info.length and info.length != self.nbytes:
            raise SpikecError(
                f"external data of tensor {tensor.name!r} has the wrong length",
                where=str(self.path),
                why=f"its shape {list(tensor.dims)} needs {self.nbytes} bytes, not {info.length}",
                fix="export the model again",
            )

    @property
    def array(self) -> np.ndarray:
        """A read-only view of the file, mapped anew: what is no longer looked at takes no memory."""
        shape = tuple(self.shape)
        if not self.nbytes:
            return np.zeros(shape, self.numpy)
        if self.packed:
            raw = np.memmap(self.path, np.uint8, "r", self.offset, (self.nbytes,)).tobytes()
            kind = self.tensor.data_type
            return onnx.numpy_helper.to_array(onnx.TensorProto(data_type=kind, dims=shape, raw_data=raw))
        return np.memmap(self.path, self.numpy, "r", self.offset, shape)

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


def pieces(values: np.ndarray | LazyValues, size: int = PIECE) -> Iterator[np.ndarray]:
    """The numbers a few rows at a time, read from the file rather than mapped: all of a large model goes by
    without staying in memory."""
    if not isinstance(values, MappedValues) or values.packed or not values.nbytes:
        whole = read(values)
        rows = max(1, size * len(whole) // max(1, whole.nbytes)) if whole.ndim else 1
        yield from (whole[i : i + rows] for i in range(0, len(whole), rows)) if whole.ndim else [whole]
        return
    shape = tuple(values.shape) or (1,)
    row = math.prod(shape[1:])
    rows = max(1, size // (row * values.numpy.itemsize))
    with values.path.open("rb") as stream:
        stream.seek(values.offset)
        for start in range(0, shape[0], rows):
            count = min(rows, shape[0] - start)
            yield np.fromfile(stream, values.numpy, count * row).reshape(count, *shape[1:])


def overlapping(values: Sequence[MappedValues]) -> tuple[MappedValues, MappedValues] | None:
    """Two tensors that share some of their bytes; to share all of them is to be tied, and right."""
    spans = sorted(values, key=lambda v: (str(v.path), v.offset, v.nbytes))
    for left, right in pairwise(spans):
        same = (left.offset, left.nbytes) == (right.offset, right.nbytes)
        if left.path == right.path and not same and right.offset < left.offset + left.nbytes:
            return left, right
    return None
