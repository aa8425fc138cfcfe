"""SSA: spike-based self-attention, a trained replacement of attention; the rest of every block by LAS.

Source: NeurTransformer (arXiv 2510.00133), which replaces analog self-attention by SSA, converts the
feed-forward block, and fine-tunes the SSA alone. Its equations, neuron and timesteps could not be obtained
and no code was found: what the name denotes in the literature, Spikformer's spiking self-attention with leaky
integrate-and-fire neurons, is assumed (`verified = False`). It equals no softmax attention at any T, so
without weights that were fine-tuned with it the method is refused.
"""

from __future__ import annotations

from pathlib import Path

from spikec.ir.diagnostics import SpikecError

from ..calibrate.ssa_weights import read_ssa_weights
from .las import LAS
from .method import Method, Option, Options

VERIFIED = False
"""Whether the equations are known to be the paper's."""


def check(options: Options) -> None:
    """Raises SpikecError without fine-tuned weights, or when their file is not what it should be."""
    if not options["ssa_weights"]:
        raise SpikecError(
            "method ssa needs fine-tuned weights",
            where="--method",
            why="spike-based self-attention has no softmax: it is another network that must be trained, "
            "never a rewriting of this model's attention",
            fix="give --ssa-weights FILE.npz (examples/train_ssa.py makes one and shows how), or choose a "
            "method that converts, such as --method las",
        )
    read_ssa_weights(Path(options["ssa_weights"]))


SSA = Method(
    name="ssa",
    source="NeurTransformer, arXiv 2510.00133; its equations were not obtainable: Spikformer's "
    "(arXiv 2209.15425) are assumed, verified = false",
    neuron="leaky integrate-and-fire in self-attention without softmax; outlier-aware threshold elsewhere",
    guarantee="trained (L2): attention is another, fine-tuned network, close to the original only as far as "
    "measured; the rest as las (equations assumed, verified = false)",
    cost="attention: at most one event per neuron and step of the fine-tuned T; elsewhere as las",
    level="L2",
    collapses=False,
    timesteps=LAS.timesteps,
    choose=LAS.choose,
    options={
        "ssa_weights": Option("", "fine-tuned weights, a .npz file; also --ssa-weights FILE (required)"),
    },
    check=check,
    trained=("train_attention",),
)
