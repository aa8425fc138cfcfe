"""Events of neurons whose steps do not add up to one integer (LIFEncode): every spike is counted as it is
fired.

Of SpikeSelfAttention, a query's spike enters a sum for every key (the keys' spikes of that step are state),
and a value's a sum for every query; a key's spikes are read, and add nothing of their own. Dense MACs are
those of the two products of the ANN, once, however many steps there are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spikec.custom_ops.spec import DOMAIN
from spikec.ir import graph as graphs

from .session import FILES, Compiled

MOVES = ("Transpose", "Reshape")


@dataclass(frozen=True)
class Reader:
    """What reads one train: a linear layer of `columns` outputs, or side "Q", "K" or "V" of an attention,
    whose `other` train tells how many sums a spike enters."""

    kind: str
    train: str
    columns: int = 0
    side: str = ""
    other: str = ""

    def count(self, found: dict[str, np.ndarray]) -> tuple[int, int, int, int]:
        """(values, events, events times fan-out, dense MACs of the products counted here)."""
        spikes = found[self.train]
        events, values = int(np.count_nonzero(spikes)), spikes[0].size
        fan_out = self.columns
        if self.side == "Q":
            fan_out = found[self.other].shape[-1]
        elif self.side == "V":
            fan_out = found[self.other].shape[-2]
        return values, events, events * fan_out, values * fan_out


def readers(compiled: Compiled) -> dict[str, Reader]:
    """The reader of every train of LIFEncode, by the train's name, in graph order."""
    model = graphs.read(compiled.folder / FILES["packed"])
    columns = {tensor.name: tensor.dims[-1] for tensor in model.graph.initializer if len(tensor.dims) == 2}
    origin = {
        n.output[0]: n.output[0] for n in model.graph.node if n.domain == DOMAIN and n.op_type == "LIFEncode"
    }
    result: dict[str, Reader] = {}
    for node in model.graph.node:
        train = origin.get(node.input[0]) if node.input else None
        if train is not None and node.op_type in MOVES:
            origin[node.output[0]] = train
        elif train is not None and node.domain == DOMAIN and node.op_type == "SpikeLinear":
            result[train] = Reader("linear", train, columns[node.input[1]])
        elif train is not None and node.domain == DOMAIN and node.op_type == "SpikeSelfAttention":
            q, k, v = node.input
            result[q] = Reader("product", q, side="Q", other=k)
            result[k] = Reader("product", k, side="K")
            result[v] = Reader("product", v, side="V", other=q)
    return result
