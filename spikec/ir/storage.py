"""Where a written model's weights lie: in a data file of their own, or in the source's, linked beside it."""

from __future__ import annotations

import fcntl
import os
import zlib
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx_graphsurgeon.ir.tensor import LazyValues

from .weights import MappedValues, dtype_of, pieces
from .wire import PACKED

ALIGNMENT = 4096
LINK_BYTES = 1 << 30
"""Data files from this size on are linked, not copied. A small copy costs little, does not change when the
source is written over in place, and is read by onnx.load, which refuses files of several hard links."""
FICLONE = 0x40049409
SAMPLES, SAMPLE_BYTES = 64, 4096


class DataFile:
    """One data file written tensor by tensor; a source is written once, so several models share it.

    With `link`, tensors of large data files are not copied: their file becomes `source.bin` (then
    `source-1.bin` and so on) beside this one, a reflink or else a hard link. With `refer` they are not even
    that: models refer to the source where it is, which is only good for models that stay here.
    """

    def __init__(self, path: Path, *, link: bool = False, refer: bool = False) -> None:
        self.path, self.link, self.refer = path, link, refer
        self.stream = path.open("wb", buffering=0)
        self.end = 0
        self.written: dict[object, tuple[str, int, int]] = {}
        self.links: dict[Path, str] = {}
        """Name of each source's link here; "" when there can be none."""

    def add(self, constant: gs.Constant) -> tuple[str, int, int]:
        """(location, offset, length) of the tensor's bytes."""
        values = constant._values
        key: object = constant.name
        if isinstance(values, MappedValues):
            key = (values.path, values.offset, values.nbytes)
        elif isinstance(values, LazyValues):
            key = values  # not by name: the tensor it is made from may have had the same one
        if key not in self.written:
            location = self._elsewhere(values) if isinstance(values, MappedValues) else ""
            if location:
                self.written[key] = (location, values.offset, values.nbytes)
            else:
                offset = self.end + -self.end % ALIGNMENT
                self.stream.seek(offset)
                self.end = offset + self._write(values, offset)
                self.written[key] = (self.path.name, offset, self.end - offset)
        return self.written[key]

    def _elsewhere(self, values: MappedValues) -> str:
        """The source's file as a model written here may call it; "" when the bytes must be copied."""
        if values.inside_model:
            return ""  # neither aligned nor worth keeping the rest for
        if self.refer:
            return str(values.path.resolve())
        source = values.path.resolve()
        if source not in self.links:
            count = sum(map(bool, self.links.values()))
            name = f"source-{count}.bin" if count else "source.bin"
            able = self.link and source.stat().st_size >= LINK_BYTES
            self.links[source] = name if able and link(source, self.path.with_name(name)) else ""
        return self.links[source]

    def _write(self, values: np.ndarray | LazyValues, offset: int) -> int:
        if isinstance(values, MappedValues):
            copy_range(values.path, values.offset, values.nbytes, self.stream.fileno(), offset)
            return values.nbytes
        count = 0
        for piece in pieces(values):
            data = np.ascontiguousarray(piece).reshape(-1)
            kind = onnx.helper.np_dtype_to_tensor_dtype(data.dtype)
            packed = (
                onnx.numpy_helper.from_array(data).raw_data if kind in PACKED else data.view(np.uint8).data
            )
            self.stream.write(packed)
            count += len(packed)
        return count

    def flush(self) -> None:
        """Nothing is held back; here for whoever reads the file while it grows."""
        self.stream.flush()

    def close(self) -> None:
        self.stream.close()

    @property
    def files(self) -> list[Path]:
        """The data files there are, this one and the links; an empty one is none."""
        return ([self.path] if self.end else []) + [self.path.with_name(n) for n in self.links.values() if n]

    def remove(self) -> None:
        self.close()
        self.path.unlink()

    def reference(self, constant: gs.Constant) -> onnx.TensorProto:
        """A protobuf tensor that points into the file."""
        location, offset, length = self.add(constant)
        proto = onnx.TensorProto(name=constant.name, data_location=onnx.TensorProto.EXTERNAL)
        proto.data_type = onnx.helper.np_dtype_to_tensor_dtype(dtype_of(constant))
        proto.dims.extend(constant.shape)
        for key, value in (("location", location), ("offset", offset), ("length", length)):
            proto.external_data.add(key=key, value=str(value))
        return proto


def link(source: Path, target: Path) -> bool:
    """A reflink where the file system has them, else a hard link; False when there can be neither.

    The source is opened for reading only, and a hard link is never opened at all: it is the source.
    """
    with source.open("rb") as old:
        try:
            with target.open("xb") as new:
                fcntl.ioctl(new, FICLONE, old.fileno())
            return True
        except OSError:
            target.unlink(missing_ok=True)
    try:
        os.link(source, target)
        return True
    except OSError:
        return False


def copy_range(source: Path, offset: int, length: int, target: int, position: int) -> None:
    """Copies bytes between files inside the kernel where it can, a piece at a time where not."""
    with source.open("rb") as stream:
        done = 0
        while done < length:
            try:
                count = os.copy_file_range(
                    stream.fileno(), target, length - done, offset + done, position + done
                )
            except (OSError, AttributeError):
                count = os.pwrite(
                    target,
                    os.pread(stream.fileno(), min(length - done, 1 << 24), offset + done),
                    position + done,
                )
            if not count:
                raise OSError(f"{source} became shorter while it was copied")
            done += count


def fingerprint(path: Path) -> dict[str, int]:
    """Size and checksum of some blocks all over the file: whether it is the one compiled, told in no time."""
    size, checksum = path.stat().st_size, 0
    with path.open("rb") as stream:
        for start in sorted({int(i) for i in np.linspace(0, max(0, size - SAMPLE_BYTES), SAMPLES)}):
            checksum = zlib.crc32(os.pread(stream.fileno(), SAMPLE_BYTES, start), checksum)
    return {"bytes": size, "crc32": checksum}
