"""What a spiking op is: its name, inputs, attributes, numpy definition and ONNX body, declared together
once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import parser

DOMAIN = "ai.spikec"
VERSION = 1
BODY_OPSET = 18

Case = tuple[list[np.ndarray], dict[str, Any]]
Attributes = dict[str, Any]


def unchanged(attributes: Attributes, packed: bool) -> Attributes:
    """The execution of an op whose attributes are the same in both."""
    return attributes


@dataclass(frozen=True)
class SpikingOp:
    """One operator of domain `ai.spikec`.

    `numpy` is the definition (its outputs, a tuple where there are several); `body` (ONNX text, standard
    operators only) and the kernel `<op>.cc` must agree with it, bit for bit wherever the arithmetic is exact.
    `cases` yields inputs and attributes that the
    generated tests run through all three. `execution(attributes, packed)` gives the attributes of either
    execution from those of any. Encoders, and only they, have `events(code, attributes)`: how many events
    the unrolled train of each code has; their attributes hold `steps`, and `radix` where it is not 1.
    An op without `kernel` runs by its body in every runtime: the steps of streaming neurons, which are a few
    elementwise operators.
    """

    name: str
    inputs: tuple[str, ...]
    attributes: dict[str, type]
    numpy: Callable[..., Any]
    body: str
    cases: Callable[[np.random.Generator], Iterator[Case]]
    doc: str
    outputs: tuple[str, ...] = ("Y",)
    exact: bool = True
    execution: Callable[[Attributes, bool], Attributes] = unchanged
    events: Callable[[np.ndarray, Attributes], np.ndarray] | None = None
    kernel: bool = True
    domain: str = field(default=DOMAIN, init=False)

    def function_proto(self) -> onnx.FunctionProto:
        """The body as a model-local function: what a runtime without our library executes."""
        attributes = f"<{', '.join(self.attributes)}>" if self.attributes else ""
        signature = f"({', '.join(self.inputs)}) => ({', '.join(self.outputs)})"
        header = f'<domain: "{DOMAIN}", opset_import: ["": {BODY_OPSET}]>'
        text = f"{header}\n{self.name} {attributes} {signature} {{\n{self.body}\n}}"
        function = parser.parse_function(text)
        function.doc_string = self.doc
        return function

    def check_attributes(self, attributes: dict[str, Any]) -> None:
        """Raises ValueError unless `attributes` are exactly the declared ones."""
        if set(attributes) != set(self.attributes):
            raise ValueError(
                f"{self.name} takes attributes {sorted(self.attributes)}, got {sorted(attributes)}"
            )
