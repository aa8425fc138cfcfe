"""The loop over the timesteps of a streaming model, as protobufs: its weights, and a view of its inside."""

from __future__ import annotations

import numpy as np
import onnx

STEP_BODY = "spikec/step"
"""The name of the body that is one timestep; its weights are those of the graph around it."""
STACKED = "/spikes"
"""What ends so is a neuron's spikes, `[1, ...]` in each step."""


def step_loop(graph: onnx.GraphProto) -> tuple[onnx.NodeProto, onnx.GraphProto] | None:
    """The Loop over the timesteps and its body; None in a model that does not stream."""
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.g.name == STEP_BODY:
                return node, attribute.g
    return None


def share_weights(graph: onnx.GraphProto) -> None:
    """Moves the initialisers of the step out, where constants that both read stand once; what the exporter
    says of the types of outer values is taken out too."""
    found = step_loop(graph)
    if found is None:
        return
    _, body = found
    known = {tensor.name for tensor in graph.initializer}
    graph.initializer.extend(tensor for tensor in body.initializer if tensor.name not in known)
    made = {name for node in body.node for name in node.output}
    told = [info for info in body.value_info if info.name in made]
    del body.initializer[:], body.value_info[:]
    body.value_info.extend(told)


def expose(graph: onnx.GraphProto, names: list[str]) -> None:
    """Makes values of the step outputs of the loop, by their own names."""
    found = step_loop(graph)
    if found is None:
        return
    loop, body = found
    made = {name for node in body.node for name in node.output}
    outside = {name for node in graph.node for name in node.output}
    wanted = [name for name in dict.fromkeys(names) if name in made and name not in outside]
    inner = {name: f"{name}/inside" for name in wanted}
    for node in body.node:
        for names_of in (node.input, node.output):
            names_of[:] = [inner.get(name, name) for name in names_of]
    for info in (*body.value_info, *body.output):
        info.name = inner.get(info.name, info.name)
    types = {info.name: info.type.tensor_type.elem_type for info in body.value_info}
    for name in sorted(wanted, key=lambda name: name.endswith(STACKED)):  # a Loop gives stacks last
        if name.endswith(STACKED):
            axes, result = f"{name}/axes", f"{name}/row"
            graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(1, np.int64), axes))
            body.node.append(onnx.helper.make_node("Squeeze", [inner[name], axes], [result]))
            body.output.append(onnx.ValueInfoProto(name=result))
        else:
            kind = types.get(inner[name]) or onnx.TensorProto.FLOAT
            zero, before = f"{name}/zero", f"{inner[name]}/before"
            dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
            graph.initializer.append(onnx.numpy_helper.from_array(np.zeros((), dtype), zero))
            loop.input.append(zero)
            body.input.append(onnx.helper.make_tensor_value_info(before, kind, None))
            body.output.append(onnx.ValueInfoProto(name=inner[name]))
        loop.output.append(name)
