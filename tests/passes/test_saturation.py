"""What an activation's neuron does not cover is told, from its constants and from the data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from spikec.compile import Settings, compile_model
from spikec.passes.rewrite.fit import fit


def told(folder: Path, function: str, scale: float) -> list[tuple[str, str]]:
    """(severity, text) of what is said about saturation of one function whose input is up to `scale`."""
    text = f"""<ir_version: 9, opset_import: ["": 18]> g (float[n, 8] x) => (float[n, 8] y) <float[8] gain =
        {{1, 1, 1, 1, 1, 1, 1, 1}}> {{ m = LayerNormalization (x, gain) a = MatMul (m, w) {function}
        y = Neg (s) }}"""
    model = onnx.parser.parse_model(text)
    weight = np.eye(8, dtype=np.float32) * np.float32(scale / 8**0.5)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    onnx.save(model, folder / "model.onnx")
    feed = {"x": np.concatenate([np.eye(8), -np.eye(8)]).astype(np.float32)}
    program = compile_model(folder / "model.onnx", folder / "out", Settings(timesteps=8), feeds=[feed])
    low, high = program.statistics["activation_inputs"]["a"]
    assert high == pytest.approx(scale * (7 / 8) ** 0.5, rel=0.01) and low == pytest.approx(-high)
    return [(d.severity, d.text) for d in program.diagnostics if "saturates" in d.text]


@pytest.mark.parametrize(
    ("function", "scale", "severity"),
    [
        ("s = Relu (a)", 10, None),
        ("s = Relu (a)", 30000, "warning"),
        ("s = Tanh (a)", 30000, None),
        ("s = Exp (a)", 4, "note"),
        ("s = Exp (a)", 20, "warning"),
    ],
)
def test_saturation_is_told(tmp_path: Path, function: str, scale: float, severity: str | None) -> None:
    assert [s for s, _ in told(tmp_path, function, scale)] == ([severity] if severity else [])


def test_steps_stay_relative_up_to_the_largest_code() -> None:
    """x**2 passes 2**14 at 128: every octave up to 2**16 has segments of its own."""
    neuron = fit(lambda x: x * x, 8)
    assert neuron.high == pytest.approx(256, rel=0.01)
    steps = neuron.stride.astype(np.float64) * neuron.scale
    top = (neuron.base + 0.5) * neuron.scale > 2.0**14
    assert top.any() and np.abs(steps[top]).max() == 2.0 ** (16 - 8)
    edge = neuron.edges[neuron.edges > 0]
    np.testing.assert_array_less(2.0**13.99, edge.max() ** 2)
