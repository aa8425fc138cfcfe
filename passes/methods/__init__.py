"""Published conversion methods, one declarative recipe a file: which operator stands in for what."""

from __future__ import annotations

import difflib
from typing import Any

from spikec.ir.diagnostics import SpikecError

from .auto import AUTO
from .dcgs import DCGS
from .delta import DELTA
from .dual import DUAL
from .ecmt import ECMT
from .fas import FAS
from .gif import GIF
from .int2spike import INT2SPIKE
from .las import LAS
from .method import Method, Options
from .signed_if import SIGNED_IF
from .ssa import SSA
from .sta import STA
from .stbif import STBIF

EVERY = LAS, FAS, DUAL, GIF, STBIF, ECMT, DCGS, STA, SIGNED_IF, INT2SPIKE, DELTA, SSA, AUTO
METHODS: dict[str, Method] = {method.name: method for method in EVERY}


def pick(name: str, timesteps: int | None, given: Options) -> tuple[Method, int, Options]:
    """The method, its timesteps, and all its options with those given (values, or texts of them) in place.

    Raises SpikecError for an unknown method or option, a value that it does not take, options that do not go
    together, and timesteps that the method cannot honour.
    """
    method = METHODS.get(name)
    if method is None:
        raise SpikecError(
            f"unknown method {name!r}",
            where="--method",
            fix=_nearest(name, METHODS, f"choose one of {', '.join(METHODS)}; spikec methods tells of each"),
        )
    options = {key: option.default for key, option in method.options.items()}
    for key, value in given.items():
        options[key] = _value(method, key, value)
    method.check(options)
    own = method.timesteps_of(options) if method.timesteps_of else method.timesteps
    steps = own if timesteps is None else timesteps
    why = method.honours(steps, options)
    if why:
        reason, _, fix = why.partition("; ")
        raise SpikecError(
            f"{steps} timesteps cannot be had with method {name}",
            where="--timesteps",
            why=reason,
            fix=fix or "choose another -T",
        )
    return method.form(method, options), steps, options


def _value(method: Method, key: str, value: Any) -> Any:
    option = method.options.get(key)
    if option is None:
        known = ", ".join(method.options) or "it has none"
        raise SpikecError(
            f"method {method.name} has no option {key!r}",
            where="--set",
            fix=_nearest(key, method.options, f"its options: {known}"),
        )
    try:
        return option.parse(str(value))
    except ValueError as error:
        raise SpikecError(
            f"{value!r} is no value of option {key!r}", where="--set", why=f"it {error}", fix=option.help
        ) from error


def _nearest(name: str, known: Any, otherwise: str) -> str:
    close = difflib.get_close_matches(name, list(known), 1, 0.4)
    return f"did you mean {close[0]!r}? {otherwise}" if close else otherwise
