"""The real arithmetic that a quantised model stands for, built beside it; what nothing reads then falls away.

Every quantised tensor gets the real one it approximates. Rounding of activations is left out (spikes take its
place), saturation is kept where it makes a ReLU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from spikec.ir import graph as graphs
from spikec.ir.order import bodies
from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Program
from spikec.ir.weights import array, dtype_of

from ..rewiring import constant_input, forget, has_input, is_standard, ordered, output_ids, redirect
from . import values
from .nonnegative import nonnegative, weighed


class Real:
    """One pass over a graph: `real` is the real tensor of a quantised one, by id."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.outputs = output_ids(program.graph)
        self.real: dict[int, gs.Tensor] = {}
        self.held: list[gs.Tensor] = []
        self.nodes: list[gs.Node] = []
        self.weights: set[str] = set()
        self.roundings = 0

    def add(
        self,
        node: gs.Node,
        op: str,
        inputs: Sequence[gs.Tensor],
        suffix: str = "",
        domain: str = "",
        **attributes: Any,
    ) -> gs.Variable:
        """A new node that stands for `node`."""
        name = f"{node.name}/{suffix or op.lower()}"
        output = gs.Variable(name)
        self.nodes.append(gs.Node(op, name, attributes, list(inputs), [output], domain=domain or None))
        self.program.origin[name] = self.program.origin.get(node.name, node.name)
        return output

    def derive(
        self, name: str, sources: list[gs.Constant], function: Callable[..., np.ndarray], shape: Sequence[int]
    ) -> gs.Constant:
        self.weights.add(name)
        return self.program.derive(name, sources, function, shape, np.float32)

    def constant(
        self,
        quantised: gs.Constant,
        scale: gs.Constant,
        zero: gs.Constant | None,
        axis: int = 1,
        block: int = 0,
    ) -> gs.Constant:
        """The real numbers of an integer weight."""
        sources = [quantised, scale] + ([zero] if zero is not None else [])

        def function(*arrays: np.ndarray) -> np.ndarray:
            return values.dequantise(*arrays, axis=axis, block=block)

        return self.derive(f"{quantised.name}/real", sources, function, quantised.shape)

    def of(self, node: gs.Node, place: int, axis: int = 1) -> gs.Tensor:
        """The real tensor of a node's input; its scale and zero point are the two inputs after it."""
        source = node.inputs[place]
        if id(source) in self.real:
            return self.real[id(source)]
        scale, zero = constant_input(node, place + 1), constant_input(node, place + 2)
        if scale is not None and (zero is not None or not has_input(node, place + 2)):
            if isinstance(source, gs.Constant):
                return self.constant(source, scale, zero, axis)
            looked_up = self.looked_up(source, scale, zero)
            if looked_up is not None:
                return looked_up
        inputs = [i for i in node.inputs[place : place + 3] if i.name]
        return self.add(node, "DequantizeLinear", inputs, f"real_{place}", axis=axis)

    def looked_up(self, source: gs.Tensor, scale: gs.Constant, zero: gs.Constant | None) -> gs.Tensor | None:
        """Rows of a quantised table: the same rows of the real one, when all rows have one scale."""
        gather = graphs.producer(source)
        if gather is None or gather.op != "Gather" or math.prod(scale.shape) != 1:
            return None
        quantised = gather.inputs[0]
        if not isinstance(quantised, gs.Constant):
            return None
        table = self.constant(quantised, scale, zero)
        made = self.add(gather, "Gather", [table, gather.inputs[1]], axis=gather.attrs.get("axis", 0))
        self.hold(source, made)
        return made

    def quantised(
        self, node: gs.Node, value: gs.Tensor, zero: gs.Constant | None, dtype: Any = np.uint8
    ) -> None:
        """`value` is what the node's quantised output means; `dtype` is its type, if no zero point says."""
        low = values.limits(dtype_of(zero) if zero is not None else np.dtype(dtype))[0]
        begins_at_zero = bool(
            ((0 if zero is None else array(zero).astype(np.float64)) == np.float64(low)).all()
        )
        # (angles and positions are not below zero either, though nothing here says so)
        if begins_at_zero and not nonnegative(value) and weighed(value):
            value = self.add(node, "Relu", [value])
        self.roundings += 1
        self.hold(node.outputs[0], value)

    def hold(self, quantised: gs.Tensor, value: gs.Tensor) -> None:
        self.real[id(quantised)] = value
        self.held.append(quantised)

    def hand_over(self, node: gs.Node, output: gs.Tensor, value: gs.Tensor) -> None:
        """Lets the readers of a real output read `value`."""
        if id(output) not in self.outputs:
            redirect(output, value)
            return
        index = next(i for i, o in enumerate(node.outputs) if o is output)
        node.outputs[index] = gs.Variable(f"{output.name}/quantised")
        redirect(output, value)
        self.nodes.append(gs.Node("Identity", f"{output.name}/identity", {}, [value], [output]))
        self.program.origin[f"{output.name}/identity"] = node.name


Form = Callable[[Real, gs.Node], str]
"""Builds the real form of a node; says why it cannot, or nothing."""

FORMS: dict[tuple[str, str], Form] = {}
MOVING = {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Expand", "Flatten", "Identity", "Gather"}


def form(*operators: str, domain: str = "") -> Callable[[Form], Form]:
    def declare(function: Form) -> Form:
        FORMS.update({(domain, operator): function for operator in operators})
        return function

    return declare


@compiler_pass(after=["take_constants", "modernise", "widen"])
def dequantise(program: Program) -> None:
    if not any(_key(node) in FORMS for body in bodies(program.graph) for node in body.nodes):
        return
    real = Real(program)
    top = {id(node) for node in program.graph.nodes}
    for body in bodies(program.graph):
        nodes: list[gs.Node] = []
        for node in body.nodes:
            real.nodes = nodes
            if _key(node) in FORMS:
                why = FORMS[_key(node)](real, node)
                if why:
                    program.tell("SPK423", node.name, f"{node.op} kept on host: {why}")
                elif id(node) in top:
                    forget(program, node, "folded: real arithmetic stands for the quantised")
            elif node.op in MOVING and is_standard(node) and id(node.inputs[0]) in real.real:
                moved = real.add(
                    node, node.op, [real.real[id(node.inputs[0])], *node.inputs[1:]], **node.attrs
                )
                real.hold(node.outputs[0], moved)
            nodes.append(node)
        body.nodes[:] = nodes
    ordered(program)
    if real.weights:
        text = f"{len(real.weights)} integer weights are used at the real values they stand for"
        program.tell("SPK421", program.source.name, text)
    if real.roundings:
        text = f"{real.roundings} roundings of activations to integers are left out: spikes take their place"
        program.tell("SPK422", program.source.name, text)


def _key(node: gs.Node) -> tuple[str, str]:
    return ("" if is_standard(node) else str(node.domain), node.op)
