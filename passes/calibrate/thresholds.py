"""Thresholds of the outlier-aware encoder, chosen from data: the step and range ratio of least squared
error."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np
import onnx

from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Program

from .neuron import Neuron, Site
from .statistics import SiteStatistics, bin_values

LARGEST_LOG_RATIO = 6
"""Spikes of one range weigh at most 64 times those of the next finer one, so that with two ranges they fit
int8."""
GAP = 4.0
"""A third range must cut the squared error by this factor to be worth its heavier spikes."""
STRETCHES = np.exp2(np.linspace(0.0, 0.5, 9))
HEADROOM = 1.25
"""The coarsest range reaches this far beyond the largest value seen."""


@dataclass(frozen=True)
class Threshold:
    """One encoder: code step Δ (`scale`), ranges each `ratio` times coarser than the one before, the relative
    squared error expected, and the share of values beyond the first range (both weighted like the site's
    histogram)."""

    scale: float
    ratio: int
    ranges: int
    relative_error: float
    outliers: float

    @property
    def weights(self) -> list[int]:
        """What a spike of each range weighs, in steps Δ."""
        return [self.ratio**order for order in range(self.ranges)]

    def step(self, x: np.ndarray, bits: int) -> np.ndarray:
        """The step of the range that each value falls in; the encoder errs by at most half of it."""
        z = np.abs(x) / self.scale
        step = np.full(x.shape, self.scale)
        for weight in self.weights[1:]:
            step = np.where(z >= (2**bits - 0.5) * weight / self.ratio, weight * self.scale, step)
        return step

    def neuron(self, bits: int) -> Neuron:
        """The outlier-aware threshold neuron of so many steps."""
        ranges = {"scale": self.scale, "bits": bits, "ratio": self.ratio, "ranges": self.ranges}
        return Neuron(
            op="OATEncode",
            attributes=ranges | {"steps": 1, "radix": 2**bits, "to": onnx.TensorProto.INT32},
            largest=2.0**bits * self.weights[-1],
            error=lambda x: self.step(x, bits) / 2,
            scale=self.scale,
            facts=asdict(self),
        )


@compiler_pass(after=["observe"])
def choose_thresholds(program: Program, *, timesteps: int = 16) -> None:
    """`program.neurons`: the method's Neuron by site name, where a trained network does not have its own."""
    method, options = program.settings["method"], program.settings["options"]
    roles = program.statistics["roles"]
    for name, statistics in program.statistics["sites"].items():
        if name not in program.neurons:
            neuron = method.choose(Site(name, roles[name], statistics), timesteps, options)
            program.neurons[name] = neuron
            if clips := neuron.facts.get("clipped"):
                program.tell("SPK205", name, f"{clips:.2g} of its values are clipped")


def choose(site: SiteStatistics, bits: int) -> Threshold:
    """The Threshold of least mean squared error whose coarsest range covers HEADROOM times the maximum, or
    the bound where there is one."""
    levels = 2**bits - 1
    used = np.flatnonzero(site.histogram)
    used = used[used > 0]
    if not used.size:
        return Threshold(1.0 / levels, 1, 1, 0.0, 0.0)
    values, counts = bin_values()[used], site.histogram[used]
    reach = (site.largest * HEADROOM if site.bound is None else site.bound) / levels
    best = [_best(values, counts, levels, reach, ranges) for ranges in (1, 2, 3)]
    two = min(best[:2], key=lambda t: t.relative_error)
    return best[2] if best[2].relative_error * GAP < two.relative_error else two


CLIPS = np.exp2(np.linspace(0.0, -8.0, 65))
"""How far below the largest value the last level of a single range may lie."""


def clipped(site: SiteStatistics, bits: int) -> Threshold:
    """One range whose end is chosen for least mean squared error: values beyond it saturate."""
    return uniform(site, 2**bits - 1)


def uniform(site: SiteStatistics, levels: int, clip: bool = True) -> Threshold:
    """One range of codes up to `levels`, its end chosen for least mean squared error: values beyond it
    saturate. Without `clip` it ends at the largest value seen, or at the bound."""
    used = np.flatnonzero(site.histogram)
    used = used[used > 0]
    if not used.size:
        return Threshold(1.0 / levels, 1, 1, 0.0, 0.0)
    values, counts = bin_values()[used], site.histogram[used]
    reach = (site.largest if site.bound is None else site.bound) / levels
    ends = CLIPS if clip else CLIPS[:1]
    tried = (Threshold(float(np.float32(reach * end)), 1, 1, 0.0, 0.0) for end in ends)
    return min((_evaluate(values, counts, levels, t) for t in tried), key=lambda t: t.relative_error)


def _best(values: np.ndarray, counts: np.ndarray, levels: int, reach: float, ranges: int) -> Threshold:
    tried = []
    for log_ratio in range(1, LARGEST_LOG_RATIO + 1) if ranges > 1 else [0]:
        for stretch in STRETCHES if ranges > 1 else [1.0]:
            scale = float(np.float32(reach * stretch / 2 ** (log_ratio * (ranges - 1))))
            tried.append(_evaluate(values, counts, levels, Threshold(scale, 2**log_ratio, ranges, 0.0, 0.0)))
    return min(tried, key=lambda t: t.relative_error)


def _evaluate(values: np.ndarray, counts: np.ndarray, levels: int, threshold: Threshold) -> Threshold:
    """Fills in the error: uniform rounding noise of each range's step, exact below four steps, and
    saturation."""
    z = values / threshold.scale
    step = np.full(values.shape, threshold.scale)
    for weight in threshold.weights[1:]:
        step = np.where(z >= (levels + 0.5) * weight / threshold.ratio, weight * threshold.scale, step)
    noise = np.where(z < 4, ((np.floor(z + 0.5) - z) * threshold.scale) ** 2, step**2 / 12)
    top = threshold.scale * threshold.weights[-1] * levels
    noise = np.where(values > top, (values - top) ** 2, noise)
    return replace(
        threshold,
        relative_error=float((noise * counts).sum() / (values**2 * counts).sum()),
        outliers=float(counts[z >= levels + 0.5].sum() / counts.sum()),
    )
