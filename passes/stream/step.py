"""One timestep as a graph of its own: running values in, running values out, all state explicit.

Between encoders every operator is carried by *running values*: after step t a reader's running value is the
operator applied to the running value of what it reads. That is what the differential, time-decoded and
expectation-compensated operators of the papers make their receivers see (methods §6.3 rules 2 to 5), for sum,
mean and differential coding alike. So a step is the rewritten graph itself, in which every encoder is
replaced by its neuron's `Step`, and what must be remembered are the neurons' codes and states alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from spikec.custom_ops.catalogue import OPS
from spikec.custom_ops.spec import DOMAIN
from spikec.ir import graph as graphs
from spikec.ir.program import Program

from ..calibrate.neuron import Neuron
from ..rewrite.encode import Train

READERS = ("SpikeLinear", "SpikeMatMul")


@dataclass(frozen=True)
class State:
    """Something remembered from step to step: zero of `dtype` before the first, one element that broadcasts.

    `before.shape` has the rank that it will have, where that is known: stock ONNX Runtime runs no Scan on
    values of unknown rank, and a Loop tells none of what it carries."""

    before: gs.Variable
    after: gs.Variable
    dtype: type

    @property
    def start(self) -> np.ndarray:
        return np.zeros((1,) * len(self.before.shape or ()), self.dtype)

    @property
    def name(self) -> str:
        return self.before.name.removesuffix("/before")


@dataclass(eq=False)
class Stepped:
    """A stepped site: its spikes of this step (weighted by the coding), its running code and the train, one
    step of it, that its readers get."""

    neuron: Neuron
    spikes: gs.Variable
    added: gs.Variable
    code: gs.Variable


@dataclass(eq=False)
class StepGraph:
    """`nodes` compute one step from what lies outside, `index` (int64 scalar: the number of the step, from 0)
    and the `states`; `results` are the running values that are read outside."""

    nodes: list[gs.Node]
    index: gs.Variable
    states: list[State] = field(default_factory=list)
    sites: list[Stepped] = field(default_factory=list)
    results: list[gs.Variable] = field(default_factory=list)

    def add(self, op: str, inputs: list[gs.Tensor], name: str, dtype: type, **attrs: object) -> gs.Variable:
        """A standard operator more; its result."""
        output = gs.Variable(name, dtype)
        self.nodes.append(gs.Node(op, name, inputs=inputs, outputs=[output], attrs=attrs))
        return output

    def remember(self, name: str, dtype: type, rank: int | None) -> gs.Variable:
        """A state's value one step ago, which `settle` completes."""
        return gs.Variable(f"{name}/before", dtype, None if rank is None else [None] * rank)

    def settle(self, before: gs.Variable, after: gs.Variable, dtype: type) -> None:
        self.states.append(State(before, after, dtype))


def rank_of(program: Program, tensor: gs.Tensor) -> int | None:
    """How many axes a tensor of the original graph has, if known."""
    shape = tensor.shape if tensor.shape is not None else program.settings["nominal"].shape(tensor)
    return None if shape is None else len(shape)


def step_graph(program: Program, nodes: list[gs.Node], trains: list[Train]) -> StepGraph:
    """The step of `nodes` of the rewritten graph, among which are the encoders of `trains`; takes the nodes
    out of the program's graph."""
    step = StepGraph(nodes, gs.Variable("spikec/step", np.int64, ()))
    taken = {id(node) for node in nodes}
    program.graph.nodes[:] = [node for node in program.graph.nodes if id(node) not in taken]
    for train in trains:
        encoder = graphs.producer(train.spikes)
        if encoder is not None and id(encoder) in taken:
            step.sites.append(_neuron(program, step, train, encoder))
    return step


def _neuron(program: Program, step: StepGraph, train: Train, encoder: gs.Node) -> Stepped:
    """The stepped neuron in the encoder's place; its running code, one step long, is what all readers get."""
    neuron, rule = train.neuron, train.neuron.step
    assert rule is not None and train.worth is None
    source, wanted = encoder.inputs[0], train.spikes
    site = wanted.name.removesuffix("/spikes")
    readers = [node for node in wanted.outputs if node is not encoder]
    op = OPS[rule.op]
    wanted.name, wanted.dtype = f"{site}/wanted", np.dtype(np.int32)
    encoder.attrs.update(OPS[encoder.op].execution(dict(encoder.attrs), True))
    if "to" in encoder.attrs:
        encoder.attrs["to"] = onnx.TensorProto.INT32
    rank = rank_of(program, source)
    before = step.remember(f"{site}/code", np.int32, None if rank is None else rank + 1)
    given: dict[str, gs.Tensor] = {"X": source, "Q": wanted, "code": before}
    constants = neuron.constants | rule.constants
    given |= {name: program.constant(f"{site}/{name}", value) for name, value in constants.items()}
    if "t" in op.inputs:
        one = program.constant("spikec/one64", np.array(1, np.int64))
        given["t"] = step.add("Add", [step.index, one], f"{site}/t", np.int64)
    states = [name for name in op.inputs if name not in given]
    given |= {name: step.remember(f"{site}/{name}", np.float32, rank) for name in states}
    program.functions.setdefault(op.name, op.function_proto())
    outputs = [gs.Variable(f"{site}/spikes", np.int32)]
    outputs += [gs.Variable(f"{site}/{name}", np.float32) for name in op.outputs[1:]]
    op.check_attributes(rule.attributes)
    inputs = [given[name] for name in op.inputs]
    step.nodes.append(gs.Node(op.name, f"{site}/step", dict(rule.attributes), inputs, outputs, domain=DOMAIN))
    if "Q" not in op.inputs:
        step.nodes.remove(encoder)
        encoder.outputs.clear()
    for name in states:
        step.settle(given[name], outputs[op.outputs.index(f"{name}_next")], np.float32)
    added = outputs[0]
    if rule.weights:
        table = program.constant(f"spikec/weights_{rule.weights}", np.array(rule.weights, np.int32))
        weight = step.add("Gather", [table, step.index], f"{site}/weight", np.int32)
        added = step.add("Mul", [added, weight], f"{site}/weighted", np.int32)
    if rule.offset:
        offset = program.constant(f"spikec/offset_{rule.offset}", np.array(rule.offset, np.int32))
        added = step.add("Add", [added, offset], f"{site}/offset", np.int32)
    code = step.add("Add", [before, added], f"{site}/code/now", np.int32)
    step.settle(before, code, np.int32)
    for reader in readers:
        for index, tensor in enumerate(reader.inputs):
            if tensor is wanted:
                reader.inputs[index] = code
        if rule.worth:
            _multiply(program, step, reader, site, rule.worth)
    return Stepped(neuron, outputs[0], added, code)


def _multiply(
    program: Program, step: StepGraph, reader: gs.Node, site: str, worth: tuple[float, ...]
) -> None:
    """What a code is worth in this step, on the way out of a layer that reads it."""
    table = program.constant(f"spikec/worth_{worth}", np.array(worth, np.float32))
    result = reader.outputs[0]
    name = f"{result.name}/of/{site}"
    raw = gs.Variable(name, result.dtype, result.shape)
    reader.outputs[0] = raw
    factor = step.add("Gather", [table, step.index], f"{name}/of_code", np.float32)
    step.nodes.append(gs.Node("Mul", f"{name}/worthy", inputs=[raw, factor], outputs=[result]))


def event_driven(program: Program, step: StepGraph) -> None:
    """Turns every layer that reads running codes into one that accumulates the step's own spikes."""
    spikes = {id(site.code): site.added for site in step.sites}
    for node in [n for n in step.nodes if n.domain == DOMAIN and n.op in READERS]:
        if node.op == "SpikeLinear" and id(node.inputs[0]) in spikes:
            code, weight, w_scale = node.inputs
            _accumulate(program, step, node, "StepLinear", [spikes[id(code)]], [weight], w_scale)
        elif node.op == "SpikeMatMul" and all(id(i) in spikes for i in node.inputs):
            a, b = node.inputs
            _accumulate(program, step, node, "StepMatMul", [a, spikes[id(a)], b, spikes[id(b)]], [], None)


def _accumulate(
    program: Program,
    step: StepGraph,
    node: gs.Node,
    name: str,
    front: list[gs.Tensor],
    back: list[gs.Tensor],
    w_scale: gs.Tensor | None,
) -> None:
    """The accumulating operator in the place of `node`: float64 membrane, then scaled as the packed operator
    scales it."""
    op, result = OPS[name], node.outputs[0]
    program.functions.setdefault(op.name, op.function_proto())
    before = step.remember(f"{result.name}/membrane", np.float64, rank_of(program, result))
    inputs = [*front, before, *back]
    membrane = gs.Variable(f"{result.name}/membrane/now", np.float64)
    value = float(np.float32(node.attrs["scale"]))
    step.nodes.remove(node)
    node.inputs.clear()
    node.outputs.clear()
    step.nodes.append(
        gs.Node(op.name, f"{result.name}/step", inputs=inputs, outputs=[membrane], domain=DOMAIN)
    )
    step.settle(before, membrane, np.float64)
    scale = program.constant(f"spikec/scale_{value!r}", np.array(value, np.float64))
    scaled = step.add("Mul", [membrane, scale], f"{result.name}/scaled", np.float64)
    if w_scale is not None:
        wide = program.derive(
            f"{w_scale.name}/double", [w_scale], lambda w: w.astype(np.float64), w_scale.shape, np.float64
        )
        scaled = step.add("Mul", [scaled, wide], f"{result.name}/weighed", np.float64)
    step.nodes.append(
        gs.Node("Cast", f"{result.name}/rounded", inputs=[scaled], outputs=[result], attrs={"to": 1})
    )
