"""Dual conversion: integer-spiking neurons in place of the activation quantisers of a quantised model.

Source: Dual ANN-to-SNN conversion with layer-wise calibration (OpenReview nzkObUsajY), methods §1.3. Weights
and activations have `bits` bits. Where linear layers read a site, its code carries the paper's offset
2**(bits-1), which a constant of the layer takes away again; products of two activations read signed codes of
the same neuron, without an offset, since there it would be no constant. This is the collapsed form, in which
every neuron sees an even input: exact only where T steps of L spikes are 2**bits - 1 levels. With `stream` it
is run as the paper runs it, uneven: neurons see what arrives, θ of a site and v₀ of its channels are
calibrated block by block, and what linear layers do not read has graded delta neurons (the paper takes
SpikeZIP's). The paper's prefix tokens, which keep massive tokens out of the thresholds' range, are not
reproduced.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from spikec.custom_ops import is_encode

from ..calibrate.integrate import integer_spiking
from ..calibrate.neuron import Neuron, Site
from ..calibrate.thresholds import uniform
from .fas import CALIBRATE, TOKENS
from .gif import ROUNDING, signed_integer_spikes
from .graded import MASSIVE, graded_delta, own
from .method import Method, Option, Options


def honours(timesteps: int, options: Options) -> str:
    """Why the neuron cannot be exact with so many steps, or nothing."""
    span = 2 ** options["bits"] - 1
    if options["stream"] and not options["allow_uneven"]:
        return "streaming neurons see uneven input, under which none is exact; give --allow-uneven too"
    if options["stream"] and (span + 1) // 2 % max(timesteps, 1):
        reason = f"the offset 2**{options['bits'] - 1} of streaming neurons is spread over the steps evenly"
        return f"{reason}; choose -T {', '.join(str(2**k) for k in range(options['bits']))}"
    if not 1 <= timesteps <= span:
        return f"{options['bits']} bits are {span} levels; choose -T 1 to {span}"
    if span % timesteps == 0 or options["allow_uneven"]:
        return ""
    most = -(-span // timesteps)
    exact = ", ".join(str(t) for t in range(1, span + 1) if span % t == 0)
    reason = f"its {timesteps} steps of up to {most} spikes are {timesteps * most} levels, not {span}"
    return f"{reason}; choose -T {exact}, or give --allow-uneven"


def choose(site: Site, timesteps: int, options: Options) -> Neuron:
    bits, statistics = options["bits"], site.statistics
    span, half = 2**bits - 1, 2 ** (bits - 1)
    clip = options["range"] == "mse"
    if not statistics.negative and site.role in ("linear", "p"):
        return integer_spikes(uniform(statistics, span, clip).scale, 0, bits, timesteps)
    scale = uniform(statistics, half - 1, clip).scale
    if site.role == "linear":
        return integer_spikes(scale, half, bits, timesteps)
    return signed_integer_spikes(scale, half - 1, timesteps)


def integer_spikes(scale: float, offset: int, bits: int, timesteps: int) -> Neuron:
    """The paper's neuron: codes from 0 to T·L, `offset` of which stand for zero."""
    ceiling = timesteps * -(-(2**bits - 1) // timesteps)
    attributes = {"scale": scale, "offset": offset, "ceiling": ceiling, "signed": 0, "timesteps": timesteps}

    def error(x: np.ndarray) -> np.ndarray:
        beyond = np.maximum(x - scale * (ceiling - offset), -scale * offset - x)
        return np.asarray(np.maximum(scale / 2, beyond) * ROUNDING)

    return Neuron(
        op="ISEncode",
        attributes=is_encode.execution(attributes, packed=True),
        largest=float(ceiling),
        error=error,
        scale=scale,
        offset=offset,
        radix=1,
        facts={"scale": scale, "levels": ceiling, "offset": offset},
    )


def uneven(site: Site, timesteps: int, options: Options) -> Neuron:
    """The streaming neuron: one θ a site, v₀ by channel."""
    if not own(site, options | {"sites": "linear"}):
        return graded_delta(site, 8)
    scale = uniform(site.statistics, 2 ** (options["bits"] - 1) - 1, options["range"] == "mse").scale
    weight = site.statistics.weight
    channels = () if weight is None else weight.shape
    return integer_spiking(
        np.array(scale, np.float32), np.full(channels, 0.5, np.float32), timesteps, options["bits"]
    )


def form(method: Method, options: Options) -> Method:
    if not options["stream"]:
        return method
    return dataclasses.replace(
        method,
        guarantee="none under uneven input: the report tells the paper's error, and how far it is from the "
        "quantised network; not collapsible: every step is run",
        level="L2",
        collapses=False,
        choose=uneven,
        calibration=("choose_thresholds", "calibrate_layers"),
    )


DUAL = Method(
    name="dual",
    source="Dual ANN-to-SNN conversion with layer-wise calibration, OpenReview nzkObUsajY",
    neuron="integer-spiking neuron on integer weights of the same bits",
    guarantee="L1: equals the network quantised to `bits` bits if T steps of L spikes are 2**bits - 1 levels",
    cost="2**(bits - 1) unit spikes for a zero, which the paper's offset makes its dearest common value",
    level="L1",
    collapses=True,
    timesteps=3,
    choose=choose,
    options={
        "bits": Option(6, "bits of weights and activations (W6A6, W8A8)", (4, 6, 8)),
        "range": Option(
            "mse", "thresholds of least squared error, or such that nothing clips", ("mse", "max")
        ),
        "allow_uneven": Option(False, "take timesteps at which the neuron is not exact"),
        "stream": Option(False, "run as the paper does, neurons under uneven input, -T 2, 4, 8 ..."),
        "massive": MASSIVE,
        "calibrate": CALIBRATE,
        "calibration_tokens": TOKENS,
    },
    honours=honours,
    form=form,
    weights=lambda options: f"int{options['bits']}",
)
