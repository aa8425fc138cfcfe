"""Every method is a whole recipe, and what it cannot do is said before any work."""

from __future__ import annotations

import json

import pytest

from spikec.cli import main
from spikec.custom_ops.catalogue import OPS
from spikec.ir.diagnostics import SpikecError
from spikec.passes.methods import METHODS, pick


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
def test_a_recipe_is_whole(method) -> None:  # type: ignore[no-untyped-def]
    assert METHODS[method.name] is method
    for text in (method.source, method.neuron, method.guarantee, method.cost, method.level):
        assert text.strip()
    assert set(method.operators.values()) <= OPS.keys()
    assert not method.honours(method.timesteps, {k: o.default for k, o in method.options.items()})
    for key, option in method.options.items():
        assert option.help and option.parse(str(option.default)) == option.default, key


def test_the_nearest_method_is_suggested() -> None:
    with pytest.raises(SpikecError, match="unknown method 'lass'") as error:
        pick("lass", None, {})
    assert "did you mean 'las'?" in " ".join(error.value.details) + str(error.value)


def test_an_option_that_there_is_not() -> None:
    with pytest.raises(SpikecError, match="has no option 'colour'"):
        pick("las", None, {"colour": "red"})


def test_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in listed] == list(METHODS)
    assert main(["methods"]) == 0
    text = capsys.readouterr().out
    assert all(method.source in text for method in METHODS.values())
