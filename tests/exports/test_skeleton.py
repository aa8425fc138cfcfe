"""A model stored without its random weights comes back with its structure and every meaningful constant."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
from exports import matrix, skeleton
from onnx import ModelProto, numpy_helper

RNG = np.random.default_rng(0)
MATRIX = (0.1 * RNG.standard_normal((48, 80))).astype(np.float32)


def model(**constants: np.ndarray) -> ModelProto:
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", [next(iter(constants))], ["output"])],
        "g",
        [],
        [onnx.helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    return onnx.helper.make_model(graph)


def stored(**constants: np.ndarray) -> dict[str, np.ndarray]:
    """The constants after they were stored."""
    again = skeleton.unpack(skeleton.pack(model(**constants)))
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in again.graph.initializer}


POSITION = np.arange(40)[:, None] / 10000 ** (np.arange(0, 48, 2) / 48)
MEANT = {
    "sinusoid": np.concatenate([np.sin(POSITION), np.cos(POSITION)], 1),
    "interleaved sinusoid": np.stack([np.sin(POSITION), np.cos(POSITION)], 2).reshape(40, 48),
    "frequencies": 10000 ** -np.linspace(0, 1, 64),
    "slopes": 2.0 ** -np.arange(1, 65) / 8,
    "causal mask": np.triu(np.full((40, 40), -3.4e38), 1),
    "alibi": -np.abs(np.arange(40)[:, None] - np.arange(40)) * 2.0 ** -np.arange(1, 5)[:, None, None],
    "ones": np.ones(64),
    "ramp": np.linspace(-1, 1, 200),
    "positions": np.arange(512.0),
    "table with a padding row": np.concatenate([np.zeros((1, 48)), MATRIX.T[:, :48]]),
}


@pytest.mark.parametrize("name", MEANT)
def test_what_carries_meaning_is_kept_bit_for_bit(name: str) -> None:
    values = MEANT[name].astype(np.float32)
    assert stored(values=values)["values"].tobytes() == values.tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_noise_is_made_again_alike(dtype: str) -> None:
    values = MATRIX.astype(
        onnx.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.DataType.Value(DTYPES[dtype]))
    )
    again = stored(values=values)["values"]
    assert again.dtype == values.dtype and again.shape == values.shape and (again != values).mean() > 0.9
    wide = again.astype(np.float64)
    assert math.isclose(wide.std(), values.astype(np.float64).std(), rel_tol=0.05)
    assert abs(wide.mean() - values.astype(np.float64).mean()) < 5 * wide.std() / math.sqrt(wide.size)


DTYPES = {"float32": "FLOAT", "float16": "FLOAT16", "bfloat16": "BFLOAT16"}


def test_tied_weights_stay_tied() -> None:
    again = stored(one=MATRIX, same=MATRIX.copy(), turned=np.ascontiguousarray(MATRIX.T), other=MATRIX + 1)
    assert (again["one"] == again["same"]).all() and (again["one"] == again["turned"].T).all()
    assert not np.allclose(again["one"], again["other"] - 1)


def test_storing_twice_gives_the_same_bytes() -> None:
    assert skeleton.pack(model(values=MATRIX)) == skeleton.pack(model(values=MATRIX))


def test_the_matrix_is_small() -> None:
    sizes = [(matrix.FOLDER / f"{name}{matrix.SUFFIX}").stat().st_size for name in matrix.NAMES]
    assert max(sizes) < 100_000 and sum(sizes) < 5_000_000
