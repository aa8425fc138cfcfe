"""Real numbers of quantised ones, in numpy: per tensor, per channel, in blocks of packed small integers."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray


def along(scale: Array, like: tuple[int, ...], axis: int, block: int = 0) -> Array:
    """The scales (or zero points) shaped to go with a tensor: one for all, one a channel, one a block."""
    if scale.size == 1:
        return scale.reshape(())
    if block:
        return np.take(np.repeat(scale, block, axis), np.arange(like[axis]), axis)
    shape = [1] * len(like)
    shape[axis] = -1
    return scale.reshape(shape)


def dequantise(
    values: Array, scale: Array, zero: Array | None = None, *, axis: int = 1, block: int = 0
) -> Array:
    """DequantizeLinear, in float32."""
    axis = axis % max(values.ndim, 1)
    wide = values.astype(np.float32)
    if zero is not None:
        wide -= along(zero, values.shape, axis, block).astype(np.float32)
    wide *= along(scale, values.shape, axis, block).astype(np.float32)
    return wide


def quantise(
    values: Array, scale: Array, zero: Array | None = None, *, axis: int = 1, block: int = 0, to: Any
) -> Array:
    """QuantizeLinear: to the nearest (even) step, and no farther than the type reaches."""
    axis = axis % max(values.ndim, 1)
    steps = np.rint(values / along(scale, values.shape, axis, block))
    if zero is not None:
        steps = steps + along(zero, values.shape, axis, block).astype(np.float32)
    low, high = limits(np.dtype(to))
    return np.clip(steps, low, high).astype(to)


def limits(dtype: np.dtype) -> tuple[float, float]:
    """The lowest and highest number of an integer type; those under a byte are not numpy's own."""
    if dtype.name.endswith("int4") or dtype.name.endswith("int2"):
        bits = int(dtype.name[-1])
        return (0, 2**bits - 1) if dtype.name.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    if dtype.kind not in "iu":
        return -np.inf, np.inf
    information = np.iinfo(dtype)
    return float(information.min), float(information.max)


def unpack(packed: Array, bits: int, count: int) -> Array:
    """Small integers from bytes along the last axis, the low bits first; `count` of them are real."""
    if bits == 8:
        return packed[..., :count]
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    values = (packed[..., None] >> shifts) & np.uint8(2**bits - 1)
    return values.reshape(*packed.shape[:-1], -1)[..., :count]


def from_blocks(
    packed: Array,
    scales: Array,
    zeros: Array | None = None,
    order: Array | None = None,
    *,
    fan_in: int,
    fan_out: int,
    bits: int,
    block: int,
) -> Array:
    """The weights `[fan_in, fan_out]` of a MatMulNBits; `order` tells which block an input belongs to."""
    blocks = -(-fan_in // block)
    steps = unpack(packed.reshape(fan_out, blocks, -1), bits, block).reshape(fan_out, -1)[:, :fan_in]
    places = np.arange(fan_in) // block if order is None else order.reshape(-1)[:fan_in]
    middle: Array
    if zeros is None:
        middle = np.full((fan_out, blocks), 2 ** (bits - 1), np.float32)
    elif zeros.dtype == np.uint8:
        middle = unpack(zeros.reshape(fan_out, -1), bits, blocks).astype(np.float32)
    else:
        middle = zeros.reshape(fan_out, blocks).astype(np.float32)
    made = steps.astype(np.float32)
    made -= middle[:, places]
    made *= scales.reshape(fan_out, blocks).astype(np.float32)[:, places]
    return made.T


def table(
    packed: Array, scales: Array, zeros: Array | None = None, *, bits: int, block: int, axis: int, middle: int
) -> Array:
    """The table of a GatherBlockQuantized."""
    values = packed
    if packed.dtype == np.uint8 and bits < 8:
        values = unpack(packed, bits, packed.shape[-1] * (8 // bits))
        if zeros is not None:
            zeros = unpack(zeros, bits, scales.shape[-1])
    wide = values.astype(np.float32)
    wide -= middle if zeros is None else along(zeros, wide.shape, axis, block).astype(np.float32)
    wide *= along(scales, wide.shape, axis, block).astype(np.float32)
    return wide
