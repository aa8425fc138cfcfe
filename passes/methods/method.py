"""What a method is: how sites are encoded, and which spiking operator takes the place of each finding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..calibrate.neuron import Neuron, Site
from ..calibrate.statistics import SiteStatistics

Options = dict[str, Any]

OPERATORS = {
    "linear": "SpikeLinear",
    "matmul_dynamic": "SpikeMatMul",
    "softmax": "SpikeSoftmax",
    "rmsnorm": "SpikeRMSNorm",
    "layernorm": "SpikeLayerNorm",
    "activation": "SpikeFunction",
}
KEPT = {
    "embedding": "a table look-up has no products; its row is the input current of the first site",
    "router": "kept dense: which experts run must not change with the rounding of spikes",
    "head": "kept dense: next-token scores are read as they are",
}


@dataclass(frozen=True)
class Option:
    """One choice of a method, given as `--set NAME=VALUE`; its type is the default's."""

    default: Any
    help: str
    choices: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None

    def parse(self, text: str) -> Any:
        """Raises ValueError, saying what is wanted, for a text that is no value of the option."""
        kind = type(self.default)
        try:
            if kind is bool:
                value: Any = {"true": True, "1": True, "false": False, "0": False}[text.lower()]
            else:
                value = kind(text)
        except (ValueError, KeyError):
            raise ValueError(f"wants {'true or false' if kind is bool else kind.__name__}") from None
        if self.choices and value not in self.choices:
            raise ValueError(f"wants one of {', '.join(map(str, self.choices))}")
        if (self.low is not None and value < self.low) or (self.high is not None and value > self.high):
            raise ValueError(
                f"wants {self.low} to {self.high}" if self.high is not None else f"wants {self.low} or more"
            )
        return value


def binary_digits(timesteps: int, options: Options) -> str:
    """Why a binary-weighted train cannot have so many steps, or nothing."""
    return "" if 2 <= timesteps <= 16 else "a spike train's code has 2 to 16 binary digits; choose -T 2 to 16"


def any_options(options: Options) -> None:
    """Every method's options are checked by themselves; most need nothing more."""


def as_it_is(method: Method, options: Options) -> Method:
    """Most methods have one form."""
    return method


def plain_statistics(role: str, importance: Any) -> SiteStatistics:
    return SiteStatistics(importance)


@dataclass(frozen=True)
class Method:
    """A recipe. `choose(site, timesteps, options)` encodes a site from its statistics, which
    `statistics(role, importance)` starts (importance: Σ_n W[c, n]² of the channels of a linear site, else
    None); `calibration` are the passes between statistics and rewriting. `honours(timesteps, options)` is
    empty, or says why that many steps cannot be had; `check(options)` raises SpikecError for options that do
    not go together, before any work; `form(method, options)` is the method as those options make it.
    `trained` are passes before the statistics, which put another, trained network in a part's place.
    `timesteps` are the default steps (`timesteps_of` where they depend on the options), `function_bits` those
    of the bit-serial neurons; `weights(options)` are the weights that the method demands ("int6"), or
    nothing; `operators` maps a finding's kind to the catalogue's operator, and a kind that is absent stays on
    host, for `kept[kind]`. `collapses`: its steps add up to one integer, so that packed execution is legal
    (methods §6.3 rule 6)."""

    name: str
    source: str
    neuron: str
    guarantee: str
    cost: str
    level: str
    collapses: bool
    timesteps: int
    choose: Callable[[Site, int, Options], Neuron]
    function_bits: int = 12
    timesteps_of: Callable[[Options], int] | None = None
    weights: Callable[[Options], str] = lambda options: ""
    options: dict[str, Option] = field(default_factory=dict)
    honours: Callable[[int, Options], str] = binary_digits
    statistics: Callable[[str, Any], SiteStatistics] = plain_statistics
    statistics_if: dict[str, Callable[[str, Any], SiteStatistics]] = field(default_factory=dict)
    """Other statistics, by the option that asks for them."""
    calibration: tuple[str, ...] = ("choose_thresholds",)
    check: Callable[[Options], None] = any_options
    form: Callable[[Method, Options], Method] = as_it_is
    trained: tuple[str, ...] = ()
    operators: dict[str, str] = field(default_factory=lambda: OPERATORS)
    kept: dict[str, str] = field(default_factory=lambda: KEPT)

    @property
    def streams(self) -> bool:
        """Whether the network between embedding and head runs step by step, all layers at once."""
        return not self.collapses and not self.trained
