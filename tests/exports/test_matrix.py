"""What every exported model computes is found, exactly."""

from __future__ import annotations

import pytest
from exports import matrix
from exports.counts import PACKED


@pytest.mark.parametrize("name", matrix.NAMES)
def test_counts(name: str) -> None:
    assert matrix.recognised(name) == matrix.expected(name)


def test_the_matrix_holds_every_architecture_by_several_exporters() -> None:
    made: dict[str, set[str]] = {}
    for name in matrix.NAMES:
        architecture, exporter, *_ = name.split("-")
        made.setdefault(architecture, set()).add(exporter)
    assert made.keys() == matrix.EXPECTED.keys() and len(matrix.NAMES) >= 400
    assert {name for name, exporters in made.items() if len(exporters) < 2} == set()


def test_packed_models_are_those_with_one_operator_for_attention_and_its_projections() -> None:
    fused = {
        name
        for name in matrix.NAMES
        if name.endswith(("-ort", "-onnxscript"))
        and any(
            node.domain == "com.microsoft" and node.op_type == "Attention"
            for node in matrix.load(name).graph.node
        )
    }
    assert fused == set(PACKED)
