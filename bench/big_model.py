"""A large model of random weights, made without a framework; what inspecting and compiling it takes.

    python bench/big_model.py folder/ --gigabytes 10     # make it, inspect, compile, run; then delete it
    python bench/big_model.py folder/ --nodes 50000      # a graph of many nodes instead

The model is LLaMA at the size of 7B (4096 wide, 32 heads, gated SiLU of 11008, vocabulary of 32000) with as
many layers as fill the size asked for. Every command runs in a process of its own, whose peak memory is
told.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ALIGNMENT = 4096
BLOCK = 1 << 22
"""Random numbers drawn once and written over and over, from another place each time."""


class Builder:
    """Nodes and weights of a model; large weights go straight to the data file."""

    def __init__(self, folder: Path, dtype: str, seed: int = 0) -> None:
        self.path = folder / "model.onnx"
        self.data = (folder / "model.onnx_data").open("wb")
        self.dtype = np.dtype(dtype)
        self.random = np.random.default_rng(seed).standard_normal(BLOCK).astype(np.float32)
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: dict[str, onnx.TensorProto] = {}

    def small(self, name: str, values: object, dtype: object = None) -> str:
        self.tensors[name] = numpy_helper.from_array(np.asarray(values, dtype or self.dtype), name)
        return name

    def matrix(self, name: str, rows: int, columns: int, spread: float) -> str:
        self.data.write(b"\0" * (-self.data.tell() % ALIGNMENT))
        offset, count = self.data.tell(), rows * columns
        left = count
        while left:
            start = (len(self.tensors) * 7919 + left) % (BLOCK // 2)
            part = self.random[start : start + min(left, BLOCK // 2)]
            self.data.write((part * np.float32(spread)).astype(self.dtype).tobytes())
            left -= part.size
        tensor = TensorProto(name=name, dims=[rows, columns], data_location=TensorProto.EXTERNAL)
        tensor.data_type = helper.np_dtype_to_tensor_dtype(self.dtype)
        length = count * self.dtype.itemsize
        for key, value in (("location", "model.onnx_data"), ("offset", offset), ("length", length)):
            tensor.external_data.add(key=key, value=str(value))
        self.tensors[name] = tensor
        return name

    def op(self, op: str, *inputs: str, out: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(op, inputs, [out], name=f"node_{out}", **attributes))
        return out

    def save(self, outputs: list[onnx.ValueInfoProto], inputs: list[onnx.ValueInfoProto]) -> Path:
        self.data.close()
        graph = helper.make_graph(self.nodes, "big", inputs, outputs, list(self.tensors.values()))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        self.path.write_bytes(model.SerializeToString())
        return self.path


def llama(
    folder: Path,
    size: int,
    dtype: str = "float32",
    width: int = 4096,
    heads: int = 32,
    hidden: int = 11008,
    vocabulary: int = 32000,
    layers: int = 0,
) -> Path:
    """A LLaMA of about `size` bytes, or of so many layers: token ids in, logits out; both axes free."""
    b, kind = Builder(folder, dtype), helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    itemsize, head = b.dtype.itemsize, width // heads
    layer = (4 * width * width + 3 * width * hidden) * itemsize
    layers = layers or max(1, round((size - 2 * vocabulary * width * itemsize) / layer))
    for name, value in (("zero", 0), ("one", 1)):
        b.small(name, value, np.int64)
    for name, value in (
        ("axis_0", [0]),
        ("axis_1", [1]),
        ("last", [-1]),
        ("half", [head // 2]),
        ("end", [head]),
    ):
        b.small(name, value, np.int64)
    b.small("split", [0, 0, heads, head], np.int64)
    b.small("joined", [0, 0, width], np.int64)
    b.small("lowest", np.finfo(b.dtype).min)
    b.small("nothing", 0.0)
    b.small("two", 2.0)
    b.small("epsilon", 1e-5)
    b.small("scale", head**-0.5)
    b.small("frequency", (10000.0 ** -np.linspace(0, 1, head // 2, endpoint=False))[None], np.float32)
    b.op("Shape", "input_ids", out="dims")
    b.op("Gather", "dims", "one", out="length", axis=0)
    b.op("Range", "zero", "length", "one", out="position")
    b.op("Unsqueeze", "position", "axis_1", out="row")
    b.op("Unsqueeze", "position", "axis_0", out="column")
    b.op("LessOrEqual", "column", "row", out="visible")
    b.op("Where", "visible", "nothing", "lowest", out="mask")
    b.op("Cast", "row", out="time", to=TensorProto.FLOAT)
    b.op("Mul", "time", "frequency", out="angle")
    b.op("Concat", "angle", "angle", out="angles", axis=-1)
    for name, op in (("cos", "Cos"), ("sin", "Sin")):
        b.op(op, "angles", out=f"{name}_float")
        b.op("Cast", f"{name}_float", out=name, to=kind)
    b.op("Gather", b.matrix("table", vocabulary, width, 1.0), "input_ids", out="x0", axis=0)

    def norm(name: str, source: str) -> str:
        b.op("Pow", source, "two", out=f"{name}_square")
        b.op("ReduceMean", f"{name}_square", "last", out=f"{name}_mean", keepdims=1)
        b.op("Add", f"{name}_mean", "epsilon", out=f"{name}_safe")
        b.op("Sqrt", f"{name}_safe", out=f"{name}_root")
        b.op("Div", source, f"{name}_root", out=f"{name}_unit")
        gain = b.small(f"{name}_gain", 1 + 0.1 * b.random[:width])
        return b.op("Mul", f"{name}_unit", gain, out=name)

    def linear(name: str, source: str, fan_in: int, fan_out: int) -> str:
        return b.op("MatMul", source, b.matrix(f"{name}_weight", fan_in, fan_out, fan_in**-0.5), out=name)

    def split(name: str, source: str) -> str:
        b.op("Reshape", source, "split", out=f"{name}_apart")
        return b.op("Transpose", f"{name}_apart", out=name, perm=[0, 2, 1, 3])

    def rotated(name: str, source: str) -> str:
        b.op("Slice", source, "axis_0", "half", "last", out=f"{name}_low")
        b.op("Slice", source, "half", "end", "last", out=f"{name}_high")
        b.op("Neg", f"{name}_high", out=f"{name}_negative")
        b.op("Concat", f"{name}_negative", f"{name}_low", out=f"{name}_turned", axis=-1)
        b.op("Mul", source, "cos", out=f"{name}_straight")
        b.op("Mul", f"{name}_turned", "sin", out=f"{name}_aside")
        return b.op("Add", f"{name}_straight", f"{name}_aside", out=name)

    for i in range(layers):
        p, x = f"l{i}", f"x{i}"
        n = norm(f"{p}_n", x)
        q, k, v = (split(f"{p}_{a}h", linear(f"{p}_{a}", n, width, width)) for a in "qkv")
        q, k = rotated(f"{p}_qr", q), rotated(f"{p}_kr", k)
        b.op("Transpose", k, out=f"{p}_kt", perm=[0, 1, 3, 2])
        b.op("MatMul", q, f"{p}_kt", out=f"{p}_raw")
        b.op("Mul", f"{p}_raw", "scale", out=f"{p}_scaled")
        b.op("Add", f"{p}_scaled", "mask", out=f"{p}_scores")
        b.op("Softmax", f"{p}_scores", out=f"{p}_weights", axis=-1)
        b.op("MatMul", f"{p}_weights", v, out=f"{p}_mixed")
        b.op("Transpose", f"{p}_mixed", out=f"{p}_back", perm=[0, 2, 1, 3])
        b.op("Reshape", f"{p}_back", "joined", out=f"{p}_context")
        b.op("Add", x, linear(f"{p}_o", f"{p}_context", width, width), out=f"{p}_x")
        m = norm(f"{p}_m", f"{p}_x")
        gate, up = linear(f"{p}_gate", m, width, hidden), linear(f"{p}_up", m, width, hidden)
        b.op("Sigmoid", gate, out=f"{p}_sigmoid")
        b.op("Mul", gate, f"{p}_sigmoid", out=f"{p}_silu")
        b.op("Mul", f"{p}_silu", up, out=f"{p}_gated")
        b.op("Add", f"{p}_x", linear(f"{p}_down", f"{p}_gated", hidden, width), out=f"x{i + 1}")
    linear("logits", norm("final", f"x{layers}"), width, vocabulary)
    free = ["batch", "length"]
    return b.save(
        [helper.make_tensor_value_info("logits", kind, [*free, vocabulary])],
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, free)],
    )


def many_nodes(folder: Path, nodes: int) -> Path:
    """A transformer of tiny layers, as many as make the number of nodes, each deep behind the one before."""
    tiny = {"width": 16, "heads": 2, "hidden": 32, "vocabulary": 64}
    one, two = (
        len(onnx.load(llama(folder, 0, layers=n, **tiny), load_external_data=False).graph.node)
        for n in (1, 2)
    )
    return llama(folder, 0, layers=max(1, (nodes - one) // (two - one) + 1), **tiny)


def measured(*command: object) -> tuple[float, float, str]:
    """(seconds, peak resident gigabytes, what it printed) of a command in a process of its own."""
    start = time.perf_counter()
    with subprocess.Popen([sys.executable, *map(str, command)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        printed = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{command} failed with {child.returncode}")
    return time.perf_counter() - start, usage.ru_maxrss * 1024 / 1e9, printed


def forget(path: Path) -> None:
    """Writes the file out and drops it from the page cache, so that what follows reads it from the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def disk(folder: Path) -> tuple[int, int]:
    """(bytes of the files, bytes among them that are another name of an existing file)."""
    stats = [path.stat() for path in folder.iterdir()]
    return sum(s.st_size for s in stats), sum(s.st_size for s in stats if s.st_nlink > 1)


RUN = """
import sys, numpy as np
from spikec.runtime.session import Compiled, run
compiled = Compiled(sys.argv[1])
logits = run(compiled.session("packed"), {"input_ids": np.arange(1, 9)[None]})["logits"]
assert np.isfinite(logits).all()
print(logits.shape)
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="a new folder for the model and what is compiled of it")
    parser.add_argument("--gigabytes", type=float, default=10.0)
    parser.add_argument("--nodes", type=int, help="a graph of so many nodes and little weight instead")
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32")
    parser.add_argument("--inspect-only", action="store_true")
    parser.add_argument("--no-run", action="store_true", help="do not run the result, which maps all of it")
    parser.add_argument("--keep", action="store_true", help="leave the folder where it is")
    options = parser.parse_args()
    options.folder.mkdir(parents=True)
    out = options.folder / "out"
    try:
        start = time.perf_counter()
        if options.nodes:
            path = many_nodes(options.folder, options.nodes)
        else:
            path = llama(options.folder, int(options.gigabytes * 1e9), options.dtype)
        data = path.with_name("model.onnx_data")
        forget(data)
        print(
            f"made      {time.perf_counter() - start:7.1f} s, {data.stat().st_size / 1e9:.2f} GB", flush=True
        )
        seconds, peak, printed = measured("-m", "spikec", "inspect", path, "--json")
        counts = {kind: count for kind, count in json.loads(printed)["found"].items() if count}
        print(f"inspect   {seconds:7.1f} s, peak {peak:.2f} GB; {counts}", flush=True)
        if options.inspect_only:
            return
        forget(data)
        seconds, peak, _ = measured("-m", "spikec", "compile", path, "-o", out, "--json")
        total, linked = disk(out)
        print(f"compile   {seconds:7.1f} s, peak {peak:.2f} GB")
        print(f"out/      {total / 1e9:.2f} GB, of which {linked / 1e9:.2f} GB hard links", flush=True)
        if not options.no_run:
            seconds, peak, printed = measured("-c", RUN, out)
            print(f"run       {seconds:7.1f} s, peak {peak:.2f} GB; 8 tokens, logits {printed.strip()}")
    finally:
        if not options.keep:
            shutil.rmtree(options.folder)


if __name__ == "__main__":
    main()
