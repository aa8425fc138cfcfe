"""A picture of what a compiled model does: its spikes through time, block by block."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .ir.inputs import feed_tokens
from .runtime.session import Compiled, run

CHANNELS = 128


def draw(compiled: Compiled, ids: list[int], path: Path) -> None:
    """Raster of one encoder a block at the last token (channels across, timesteps down, colour by
    sign); under it the share of channels that fire at each timestep over all encoders."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = compiled.spike_trains()
    session = compiled.session("unrolled", outputs=names)
    trains = run(session, feed_tokens(compiled.inputs, np.array([ids])))
    wide = [name for name in names if trains[name].ndim == 4 and trains[name].shape[1] == 1]
    blocks = int(compiled.report["blocks"])
    chosen = [wide[i * len(wide) // blocks] for i in range(min(blocks, 5))]
    figure, axes = plt.subplots(
        len(chosen) + 1, 1, figsize=(9, 1.5 * (len(chosen) + 1)), layout="constrained"
    )
    for block, (axis, name) in enumerate(zip(axes, chosen, strict=False)):
        spikes = np.sign(trains[name][:, 0, -1, :CHANNELS])
        axis.imshow(spikes, aspect="auto", cmap="RdBu_r", vmin=-1.3, vmax=1.3, interpolation="nearest")
        axis.set_ylabel(f"block {block}\ntimestep", fontsize=8)
        axis.tick_params(labelsize=7)
    axes[len(chosen) - 1].set_xlabel("channel (red: +1, blue: -1, white: silent)", fontsize=8)
    rates = np.mean(
        [np.mean(t != 0, axis=tuple(range(1, t.ndim))) for t in (trains[n] for n in names)], axis=0
    )
    axes[-1].bar(np.arange(len(rates)), 100 * rates, color="0.4")
    axes[-1].set_xlabel(f"timestep, most significant first (T = {compiled.report['timesteps']})", fontsize=8)
    axes[-1].set_ylabel("% firing", fontsize=8)
    axes[-1].tick_params(labelsize=7)
    figure.savefig(path, dpi=110)
    plt.close(figure)
