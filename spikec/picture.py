"""A picture of what a compiled model does: its spikes through time, block by block."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .ir import graph as graphs
from .ir.inputs import feed_tokens
from .runtime.session import FILES, Compiled, run

BLOCKS, CHANNELS = 5, 128


def draw(compiled: Compiled, ids: list[int], path: Path) -> None:
    """Raster of the first encoder of each of the first blocks at the last token (channels across, timesteps
    down, colour by sign); under it how many values spike at each timestep, mean over all encoders."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = compiled.spike_trains()
    session = compiled.session("unrolled", outputs=names)
    trains = run(session, feed_tokens(compiled.inputs, np.array([ids])))
    flat = [name for name in names if trains[name].ndim == 4]  # [timestep, batch, token, channel]: no heads
    chosen = list(first_of_each_block(compiled, flat).items())[:BLOCKS]
    figure, axes = plt.subplots(
        len(chosen) + 1, 1, figsize=(9, 1.5 * (len(chosen) + 1)), layout="constrained"
    )
    axes = np.atleast_1d(axes)
    for axis, (block, name) in zip(axes, chosen, strict=False):
        spikes = np.sign(trains[name][:, 0, -1, :CHANNELS])
        axis.imshow(spikes, aspect="auto", cmap="RdBu_r", vmin=-1.3, vmax=1.3, interpolation="nearest")
        axis.set_title(f"block {block}: {name.removesuffix('/spikes')}", fontsize=8, loc="left")
        axis.set_ylabel("timestep", fontsize=8)
        axis.tick_params(labelsize=7)
    if chosen:
        label = f"first {CHANNELS} channels, last token (red: positive spike, blue: negative, white: silent)"
        axes[len(chosen) - 1].set_xlabel(label, fontsize=8)
    rates = np.mean([np.mean(trains[n] != 0, axis=tuple(range(1, trains[n].ndim))) for n in names], axis=0)
    axes[-1].bar(np.arange(len(rates)), 100 * rates, color="0.4")
    axes[-1].set_xlabel(f"timestep, most significant first (T = {compiled.report['timesteps']})", fontsize=8)
    axes[-1].set_ylabel("% firing,\nall encoders", fontsize=8)
    axes[-1].tick_params(labelsize=7)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def first_of_each_block(compiled: Compiled, encoders: list[str]) -> dict[int, str]:
    """The first encoder whose value is computed in the block, by block, as the decisions tell them."""
    blocks = {decision["node"]: decision["block"] for decision in compiled.report["decisions"]}
    original = graphs.read(compiled.folder / FILES["ann"]).graph
    block_of = {output: blocks.get(node.name, -1) for node in original.node for output in node.output}
    first: dict[int, str] = {}
    for name in encoders:
        first.setdefault(block_of.get(name.removesuffix("/spikes"), -1), name)
    return {block: first[block] for block in sorted(first) if block >= 0}
