"""What a method is: names, and which spiking operator takes the place of each kind of finding."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """A recipe. `timesteps` are the encoder's steps, `function_bits` those of the bit-serial neurons;
    `operators` maps a finding's kind to the catalogue's operator, and a kind that is absent stays on host,
    for `kept[kind]`."""

    name: str
    source: str
    guarantee: str
    timesteps: int
    function_bits: int
    encoder: str
    operators: dict[str, str]
    kept: dict[str, str]
