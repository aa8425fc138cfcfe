"""What every exported model computes is found, exactly; those not yet recognised are in pending.txt."""

from __future__ import annotations

import pytest
from exports import matrix, pending
from exports.counts import PACKED

PENDING = pending.read()


@pytest.mark.parametrize("name", matrix.NAMES)
def test_counts(name: str, request: pytest.FixtureRequest) -> None:
    if name in PENDING:
        request.applymarker(pytest.mark.xfail(strict=True))
    assert matrix.recognised(name) == matrix.expected(name)


def test_pending_is_of_the_matrix() -> None:
    assert set(matrix.NAMES) >= PENDING


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
