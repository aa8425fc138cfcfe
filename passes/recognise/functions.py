"""The scalar functions that have names, and which of them a row of numbers is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from spikec.ir.operators import ELEMENTWISE, erf

Function = Callable[[np.ndarray], np.ndarray]

PROBES = np.concatenate(
    [
        np.linspace(-12, 12, 193),
        [-1e4, -8000.0, -700.0, -40.0, -1e-3, -1e-6, 1e-6, 1e-3, 40.0, 700.0, 8000.0, 1e4],
    ]
)
"""Both signs, tiny values, the range where functions bend, and saturation."""
TOLERANCE = 1e-4
"""Of |difference| / (1 + |x|): above the error of fp16 constants, below the gap between the two GELUs."""

sigmoid = ELEMENTWISE["Sigmoid"]


def _bfloat16(value: float) -> float:
    bits = np.float32(value).view(np.uint32)
    return float(((bits + np.uint32(0x8000)) & np.uint32(0xFFFF0000)).view(np.float32))


PRECISIONS: tuple[Callable[[float], float], ...] = (float, lambda v: float(np.float16(v)), _bfloat16)
"""Half models hold the same constants, rounded: bfloat16's are off by as much as the two GELUs differ."""


def _gelu_erf(root: float) -> Function:
    return lambda x: 0.5 * x * (1 + erf(x / root))


def _gelu_tanh(outer: float, cubic: float) -> Function:
    return lambda x: 0.5 * x * (1 + np.tanh(outer * (x + cubic * x**3)))


def _quick(slope: float) -> Function:
    return lambda x: x * sigmoid(slope * x)


def _named() -> Iterator[tuple[str, Function]]:
    for precise in PRECISIONS:
        yield "gelu_erf", _gelu_erf(precise(2**0.5))
        yield "gelu_erf", _gelu_erf(1 / precise(2**-0.5))
        yield "gelu_tanh", _gelu_tanh(precise((2 / np.pi) ** 0.5), precise(0.044715))
        yield "quick_gelu", _quick(precise(1.702))
    yield "silu", _quick(1.0)
    yield "relu", lambda x: np.maximum(x, 0)
    yield "sigmoid", sigmoid
    yield "tanh", np.tanh
    yield "relu_squared", lambda x: np.maximum(x, 0) ** 2
    for op in ("Softplus", "Softsign", "HardSwish", "Mish"):
        yield {"HardSwish": "hard_swish"}.get(op, op.lower()), ELEMENTWISE[op]
    yield "hard_sigmoid", lambda x: np.clip(x / 6 + 0.5, 0, 1)
    yield "relu6", lambda x: np.clip(x, 0, 6)


with np.errstate(all="ignore"):
    NAMED = [(label, fn(PROBES)) for label, fn in _named()]
STRONG = {"gelu_erf", "gelu_tanh", "quick_gelu", "silu"}
"""Names that stand for a whole activation, whatever comes before or after it in the same closed region."""
AT = {x: int(np.flatnonzero(x == PROBES)[0]) for x in (-1e4, -8000.0, -40.0, -1.0, 0.0, 1.0, 1e4)}


class Name(NamedTuple):
    """A label ("function" when there is none) with its error, and the nearest named function with its own."""

    label: str
    error: float
    nearest: str
    distance: float


def name(y: np.ndarray) -> Name:
    """Which function gave these values at PROBES."""
    errors: dict[str, float] = {}
    for label, expected in (*NAMED, *_families(y)):
        errors[label] = min(errors.get(label, np.inf), _distance(y, expected))
    nearest = min(errors, key=errors.__getitem__)
    known = errors[nearest] <= TOLERANCE
    return Name(nearest if known else "function", errors[nearest] if known else 0.0, nearest, errors[nearest])


def affine(y: np.ndarray) -> bool:
    """Whether the values at PROBES are a·x + b: no function that needs a neuron."""
    with np.errstate(all="ignore"):
        offset = y[AT[0.0]]
        line = (y[AT[1.0]] - offset) * PROBES + offset
        return bool(np.max(np.abs(y - line) / (1 + np.abs(line))) <= 1e-9)


def _distance(y: np.ndarray, expected: np.ndarray) -> float:
    with np.errstate(all="ignore"):
        return float(
            np.nan_to_num(
                np.max(np.where(y == expected, 0, np.abs(y - expected)) / (1 + np.abs(PROBES))), nan=np.inf
            )
        )


def _families(y: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Functions of a parameter, with the parameter read off the values."""
    low, high = float(y[AT[-1e4]]), float(y[AT[1e4]])
    if np.isfinite(high) and 0 < high < 1e4:
        yield "softcap", high * np.tanh(PROBES / high)
    if np.isfinite(low) and np.isfinite(high) and low < high:
        yield "clip", np.clip(PROBES, low, high)
    slope, floor = -float(y[AT[-1.0]]), -float(y[AT[-40.0]])
    if 0 < slope < 1:
        yield "leaky_relu", np.where(PROBES > 0, PROBES, slope * PROBES)
    if 0 < floor < 40:
        yield "elu", np.where(PROBES > 0, PROBES, floor * np.expm1(np.minimum(PROBES, 0)))
        yield "celu", np.where(PROBES > 0, PROBES, floor * np.expm1(np.minimum(PROBES, 0) / floor))
        scale = float(y[AT[1.0]])
        if scale > 1:
            yield "selu", np.where(PROBES > 0, scale * PROBES, floor * np.expm1(np.minimum(PROBES, 0)))
