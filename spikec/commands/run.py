"""`spikec run out/ --prompt "..."`: greedy text, spiking, with the ANN's beside it on request."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", help="a compiled model")
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--tokenizer", type=Path, help="tokenizer.json or its folder (default: the compiled folder's)")
    parser.add_argument("--max-tokens", type=int, default=60)
    parser.add_argument("--compare", action="store_true", help="also run the original model")
    parser.add_argument("--execution", choices=("packed", "unrolled"), default="packed")
    parser.add_argument("--no-library", action="store_true", help="run the function bodies in stock ONNX Runtime")
    parser.add_argument("--json", action="store_true")


def run(args: argparse.Namespace) -> int:
    import json
    import sys

    from .. import text
    from ..data import find_tokenizer
    from ..ir.diagnostics import SpikecError
    from ..ir.inputs import feed_tokens
    from ..runtime.session import Compiled, generate

    compiled = Compiled(args.folder)
    file = find_tokenizer(args.tokenizer, compiled.folder)
    if file is None:
        raise SpikecError("needs a tokenizer to read the prompt", where=args.folder, fix="give --tokenizer DIR")
    tokenizer = text.load_tokenizer(file)
    text.check_vocabulary(tokenizer, compiled.report.get("vocabulary"))
    prompt = tokenizer.encode(args.prompt).ids
    if not prompt:
        raise SpikecError("the prompt is empty", fix="give at least one word with --prompt")
    end = text.end_token(tokenizer)
    texts: dict[str, str] = {}
    for name, label in (("ann", "ANN"), (args.execution, "SNN")) if args.compare else ((args.execution, "SNN"),):
        session = compiled.session(name, native=False if args.no_library else None)
        ids = list(prompt)
        for token in generate(session, lambda batch: feed_tokens(compiled.inputs, batch), prompt, args.max_tokens, end):
            before = tokenizer.decode(ids)
            ids.append(token)
            if not args.json and not args.compare:
                print(tokenizer.decode(ids)[len(before) :] if len(ids) > len(prompt) + 1 else tokenizer.decode(ids), end="", flush=True)
        texts[label] = tokenizer.decode(ids)
        if args.compare and not args.json:
            print(f"{label}: {texts[label]}")
            sys.stdout.flush()
    if args.json:
        print(json.dumps({label.lower(): value for label, value in texts.items()}, ensure_ascii=False))
    elif args.compare:
        print("same text" if texts["ANN"] == texts["SNN"] else f"same up to character {_shared(*texts.values())}")
    else:
        print()
    return 0


def _shared(a: str, b: str) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
