"""The plain nodes that take one fused node's place: built one by one, each with its type and shape, or not at
all."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from spikec.ir import graph as graphs
from spikec.ir.program import Program

from ..rewiring import detach, redirect
from .infer import infer

Results = Sequence[gs.Tensor | None]
"""What a fused node's outputs become, in order; None for one that cannot be given."""


class Kept(Exception):
    """A fused node stays whole: the code to tell and the reason."""

    def __init__(self, code: str, reason: str) -> None:
        self.code, self.reason = code, reason
        super().__init__(reason)


@dataclass
class Surroundings:
    """What the forms of one graph have in common: the ids of tensors that it or a subgraph gives out; values
    that several forms read (masks, positions) by what they are made of; and tensors that outputs took the
    place of, held on to so that their ids stay theirs."""

    leaving: set[int]
    shared: dict[Hashable, gs.Tensor] = field(default_factory=dict)
    replaced: list[gs.Tensor] = field(default_factory=list)


class Parts:
    """Builds what stands for `node`."""

    def __init__(self, program: Program, node: gs.Node, around: Surroundings) -> None:
        self.program, self.node, self.around, self.shared = program, node, around, around.shared
        self.opset: int = program.graph.opset
        self.nodes: list[gs.Node] = []
        self._remembered: list[Hashable] = []
        self._taken: dict[str, int] = {}

    def attr(self, name: str, default: Any = None) -> Any:
        return self.node.attrs.get(name, default)

    def given(self, index: int) -> gs.Tensor | None:
        """The node's input at `index`; None when it is left out."""
        inputs = self.node.inputs
        return inputs[index] if index < len(inputs) and inputs[index].name else None

    def need(self, index: int) -> gs.Tensor:
        tensor = self.given(index)
        if tensor is None:
            raise Kept("SPK402", f"its input {index} is missing")
        return tensor

    def wanted(self, index: int) -> bool:
        """Whether somebody reads the node's output at `index`."""
        if index >= len(self.node.outputs) or not self.node.outputs[index].name:
            return False
        output = self.node.outputs[index]
        return bool(output.outputs) or id(output) in self.around.leaving

    def rank(self, tensor: gs.Tensor, what: str) -> int:
        if tensor.shape is None:
            raise Kept("SPK404", f"the rank of its {what} is not known")
        return len(tensor.shape)

    def size(self, tensor: gs.Tensor, axis: int) -> int | None:
        """A dimension when it is known."""
        size = tensor.shape[axis] if tensor.shape is not None else None
        return int(size) if isinstance(size, (int, np.integer)) else None

    def dtype(self, tensor: gs.Tensor) -> np.dtype:
        """The element type, float32 when nothing says it."""
        kind = tensor.dtype
        if isinstance(kind, int):
            return onnx.helper.tensor_dtype_to_np_dtype(kind)
        return np.dtype(np.float32 if kind is None else kind)

    def add(self, op: str, *inputs: gs.Tensor, part: str, outputs: int = 1, **attrs: Any) -> Any:
        """One plain node named after the fused one; returns its output, or a list of several."""
        count = self._taken[part] = self._taken.get(part, 0) + 1
        name = f"{self.node.name}/{part}" if count == 1 else f"{self.node.name}/{part}_{count}"
        made = [gs.Variable(f"{name}/{index}" if outputs > 1 else f"{name}/out") for index in range(outputs)]
        node = gs.Node(op, name, attrs=attrs, inputs=list(inputs), outputs=made)
        infer(node, self.opset)
        self.nodes.append(node)
        self.program.origin[name] = self.program.origin.get(self.node.name, self.node.name)
        return made if outputs > 1 else made[0]

    def once(self, key: Hashable, make: Callable[[], gs.Tensor]) -> gs.Tensor:
        """What `make` builds, or what it built before for another node of this graph."""
        if key not in self.shared:
            self.shared[key] = make()
            self._remembered.append(key)
        return self.shared[key]

    def constant(self, values: Any, dtype: Any) -> gs.Constant:
        """A small constant, named by what it holds, so that equal ones are one."""
        made = np.asarray(values, dtype)
        text = "_".join(
            repr(v)
            for v in np.asarray(made, np.float64 if made.dtype.kind != "i" else None).reshape(-1).tolist()
        )
        brackets = "x".join(map(str, made.shape))
        name = f"plain/{made.dtype.name}[{brackets}]/{text}"
        pool = self.program.graph.__dict__.setdefault("spikec_constants", {})
        if name not in pool:
            pool[name] = gs.Constant(name, made)  # Program.constant would make a scalar a vector
        return pool[name]

    def ints(self, *values: int) -> gs.Constant:
        return self.constant(list(values), np.int64)

    def like(self, value: float, tensor: gs.Tensor) -> gs.Constant:
        """A scalar of the tensor's type."""
        return self.constant(value, self.dtype(tensor))

    def cut(self, vector: gs.Tensor, sizes: Sequence[int], part: str) -> list[gs.Tensor]:
        """A vector in pieces; those of a constant are views into it."""
        if isinstance(vector, gs.Constant):
            ends = np.cumsum(sizes).tolist()
            return [
                self.program.derive(
                    f"{vector.name}/{start}:{end}",
                    [vector],
                    lambda values, start=start, end=end: values[start:end],
                    [end - start],
                    self.dtype(vector),
                )
                for start, end in zip([0, *ends[:-1]], ends, strict=True)
            ]
        return list(self.add("Split", vector, self.ints(*sizes), part=part, outputs=len(sizes), axis=0))

    def finish(self, results: Results) -> None:
        """Lets the results take the place of the node's outputs, under the outputs' own names."""
        wanted = [
            (index, output, result)
            for index, (output, result) in enumerate(zip(self.node.outputs, results))
            if self.wanted(index)
        ]
        detach(self.node)
        ours = {id(made) for made in self.nodes}
        placed: set[int] = set()
        for index, output, result in wanted:
            assert result is not None
            maker = graphs.producer(result)
            if maker is None or id(maker) not in ours or id(result) in placed:
                result = self.add("Identity", result, part=f"output_{index}")
                maker = self.nodes[-1]
            output.dtype = output.dtype if output.dtype is not None else result.dtype
            output.shape = merged(output.shape, result.shape)
            redirect(result, output)
            list.__setitem__(maker.outputs, [o is result for o in maker.outputs].index(True), output)
            list.append(output.inputs, maker)
            list.clear(result.inputs)
            placed.add(id(output))
            self.around.replaced.append(result)
            for key in self._remembered:
                if self.shared[key] is result:
                    self.shared[key] = output

    def undo(self) -> None:
        for node in self.nodes:
            detach(node)
            self.program.origin.pop(node.name, None)
        for key in self._remembered:
            del self.shared[key]


def merged(told: Any, found: Any) -> Any:
    """A shape told by the file, with the sizes that it leaves open taken from what was found."""
    if told is None or found is None or len(told) != len(found):
        return found if told is None else told
    return [new if old is None else old for old, new in zip(told, found, strict=True)]
