"""How the input current arrives over the timesteps: what share of it has come after each."""

from __future__ import annotations

import numpy as np

ARRIVALS = ("front", "even", "uneven")
NOISE = 0.25
"""Standard deviation of the zero-sum noise of an uneven arrival, in shares of the whole input."""


def shares(arrival: str, timesteps: int, over: int, channels: int | None, seed: int) -> np.ndarray:
    """The running share `[timesteps]`, or `[timesteps, channels]` where it is uneven: float32, and one from
    step `over` on, so that the running value is then the input itself.

    `front` brings all of it in the first step; `even` a part of equal size in each of `over` steps; `uneven`
    splits every channel by a Dirichlet draw and adds noise that sums to zero, so that some of what has come
    is taken back later (the golden tests of methods §7).
    """
    made: np.ndarray = np.ones((timesteps, 1 if arrival != "uneven" or channels is None else channels))
    over = min(over, timesteps)
    if arrival == "even":
        made[:over, 0] = np.arange(1, over + 1) / over
    elif arrival == "uneven":
        rng = np.random.default_rng(seed)
        parts = rng.dirichlet(np.ones(over), made.shape[1]).T
        noise = NOISE * rng.standard_normal(parts.shape)
        made[:over] = np.cumsum(parts + noise - noise.mean(0), 0)
    made[over - 1 :] = 1
    return (made if made.shape[1] > 1 else made[:, 0]).astype(np.float32)
