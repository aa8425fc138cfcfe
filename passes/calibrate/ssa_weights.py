"""Fine-tuned weights of spike-based self-attention: the .npz that `--ssa-weights` reads, and what must hold
in it.

    format      integer, 1
    timesteps   integer T, 1 to 64: steps of the attention's neurons
    blockI.NAME for every attention I = 0, 1, … of the model, in the order of its graph:
      wq [D, H·d]   wk [D, G·d]   wv [D, G·d]   wo [H·d, D]      float16 or float32, applied as x·W
      theta_q [H]   theta_k [G]   theta_v [G]   theta_o [H]      thresholds > 0, one a head
      leak []  0 to 1, the membrane's share that is kept          scale []  > 0, of the counts A_t·V_t

D is the width of the block, H its query heads, G its key heads, d the size of a head. Weights take the place
of the model's; biases, rotations (RoPE) and whatever else stands between a projection and the product of
queries and keys stay in the current that the neurons integrate. The model's own scale of the scores is not
applied.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spikec.ir.diagnostics import SpikecError, reason

Wrong = Callable[..., SpikecError]

FORMAT = 1
TIMESTEPS = range(1, 65)
RANKS = {
    "wq": 2, "wk": 2, "wv": 2, "wo": 2, "theta_q": 1, "theta_k": 1, "theta_v": 1, "theta_o": 1, "leak": 0,
    "scale": 0,
}  # fmt: skip
"""Arrays of a block, with the number of their axes."""
FIX = "make the file with examples/train_ssa.py, or as spikec/passes/calibrate/ssa_weights.py says"


@dataclass(frozen=True)
class BlockWeights:
    """One attention's weights, thresholds, leak and scale, in float32."""

    wq: np.ndarray
    wk: np.ndarray
    wv: np.ndarray
    wo: np.ndarray
    theta_q: np.ndarray
    theta_k: np.ndarray
    theta_v: np.ndarray
    theta_o: np.ndarray
    leak: np.ndarray
    scale: np.ndarray

    @property
    def heads(self) -> int:
        return len(self.theta_q)

    @property
    def key_heads(self) -> int:
        return len(self.theta_k)


@dataclass(frozen=True)
class SSAWeights:
    """All blocks' weights, and the timesteps that they were trained for."""

    timesteps: int
    blocks: tuple[BlockWeights, ...]


def read_ssa_weights(path: Path) -> SSAWeights:
    """Raises SpikecError for a file that is not what the module's docstring says, naming the array."""
    arrays = _arrays(path)

    def wrong(what: str, why: str = "") -> SpikecError:
        return SpikecError(what, where=str(path), why=why, fix=FIX)

    for name, allowed in (("format", (FORMAT,)), ("timesteps", TIMESTEPS)):
        value = arrays.pop(name, None)
        if value is None:
            raise wrong(f"holds no array {name!r}", "it must be a .npz of spike-based self-attention")
        if value.shape or value.dtype.kind not in "iu" or int(value) not in allowed:
            raise wrong(
                f"array {name!r} is {_described(value)}",
                f"an integer, {allowed[0]} to {allowed[-1]}, is wanted",
            )
        if name == "timesteps":
            timesteps = int(value)
    found = {name.partition(".")[0] for name in arrays}
    blocks = [f"block{index}" for index in range(len(found))]
    wanted = {f"{block}.{name}" for block in blocks for name in RANKS}
    for names, text in (
        (sorted(wanted - set(arrays)), "lacks"),
        (sorted(set(arrays) - wanted), "has unknown"),
    ):
        if names or not blocks:
            raise wrong(f"{text} arrays" if names else "holds no blocks", ", ".join(names[:6]))
    for name, values in arrays.items():
        _check(name, values, wrong)
    made = [
        BlockWeights(**{name: arrays[f"{block}.{name}"].astype(np.float32) for name in RANKS})
        for block in blocks
    ]
    for block, weights in zip(blocks, made, strict=True):
        _check_shapes(block, weights, wrong)
    return SSAWeights(timesteps, tuple(made))


def _arrays(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise SpikecError("no such file", where=str(path), fix="give --ssa-weights a .npz file")
    try:
        with np.load(path, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("it holds one array")
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, KeyError) as error:
        raise SpikecError(
            "is not a readable .npz file", where=str(path), why=reason(error), fix=FIX
        ) from error


def _check(name: str, values: np.ndarray, wrong: Wrong) -> None:
    kind = name.partition(".")[2]
    if values.dtype not in (np.float16, np.float32):
        raise wrong(f"array {name!r} is {values.dtype}", "float16 or float32 is wanted")
    if values.ndim != RANKS[kind] or 0 in values.shape:
        raise wrong(f"array {name!r} is {_described(values)}", f"{RANKS[kind]} axes, none empty, are wanted")
    if not np.isfinite(values).all():
        raise wrong(f"array {name!r} holds {'NaN' if np.isnan(values).any() else 'Inf'}")
    if (kind.startswith("theta") or kind == "scale") and not (values > 0).all():
        raise wrong(f"array {name!r} holds {float(values.min()):g}", "it must be above 0")
    if kind == "leak" and not 0 <= float(values) <= 1:
        raise wrong(f"array {name!r} is {float(values):g}", "0 to 1 is wanted")


def _check_shapes(block: str, w: BlockWeights, wrong: Wrong) -> None:
    """The arrays of a block fit each other."""
    width, heads, groups = len(w.wq), w.heads, w.key_heads
    size = w.wq.shape[1] // heads
    fits = {
        "theta_o": w.theta_o.shape == (heads,),
        "theta_v": w.theta_v.shape == (groups,),
        "theta_k": heads % groups == 0,
        "wq": w.wq.shape == (width, heads * size) and size > 0,
        "wk": w.wk.shape == (width, groups * size),
        "wv": w.wv.shape == (width, w.wv.shape[1]) and w.wv.shape[1] % groups == 0,
        "wo": w.wo.shape[0] == w.wv.shape[1] // groups * heads,
    }
    for name, right in fits.items():
        if not right:
            text = f"by theta_q, theta_k, wq: {heads} query and {groups} key heads of {size}, width {width}"
            raise wrong(
                f"array {f'{block}.{name}'!r} is {list(getattr(w, name).shape)}, which does not fit", text
            )


def _described(values: np.ndarray) -> str:
    return f"{values.dtype}{list(values.shape)}" + (f" {values.item()!r}" if values.size == 1 else "")
