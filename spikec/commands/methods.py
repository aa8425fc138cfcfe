"""`spikec methods`: what each conversion method is, promises and costs."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="only this method")
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def run(args: argparse.Namespace) -> int:
    import json

    from ..passes.methods import METHODS, pick

    names = [args.name] if args.name else list(METHODS)
    chosen = [METHODS[name] if name in METHODS else pick(name, None, {})[0] for name in names]
    if args.json:
        print(json.dumps([_as_json(method) for method in chosen], indent=1))
        return 0
    for method in chosen:
        print(f"{method.name:<12}{method.neuron}")
        for title, text in (
            ("source", method.source),
            ("promises", method.guarantee),
            ("costs", method.cost),
            (
                "timesteps",
                f"{method.timesteps} unless -T says otherwise; "
                + (
                    "collapses: packed execution is exact"
                    if method.collapses
                    else "does not collapse: really unrolled"
                ),
            ),
        ):
            print(f"{'':12}{title:<10}{text}")
        for key, option in method.options.items():
            choices = f" ({', '.join(map(str, option.choices))})" if option.choices else ""
            print(f"{'':12}{'--set':<10}{key}={option.default}: {option.help}{choices}")
    return 0


def _as_json(method: object) -> dict[str, object]:
    from ..passes.methods.method import Method

    assert isinstance(method, Method)
    texts = ("name", "source", "neuron", "guarantee", "cost", "level", "collapses", "timesteps")
    options = {
        key: {"default": option.default, "help": option.help, "choices": list(option.choices)}
        for key, option in method.options.items()
    }
    return {name: getattr(method, name) for name in texts} | {"options": options}
