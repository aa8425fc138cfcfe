"""`spikec run out/ --prompt "..."`: greedy text, spiking, with the ANN's beside it on request."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", help="a compiled model")
    parser.add_argument("--prompt", required=True)
    parser.add_argument(
        "--tokenizer", type=Path, help="tokenizer.json or its folder (default: the compiled folder's)"
    )
    parser.add_argument("--max-tokens", type=int, default=60, help="tokens to add to the prompt")
    parser.add_argument("--compare", action="store_true", help="also run the original model")
    parser.add_argument("--execution", choices=("packed", "unrolled"), default="packed")
    parser.add_argument(
        "--no-library", action="store_true", help="run the function bodies in stock ONNX Runtime"
    )
    parser.add_argument("--json", action="store_true", help='print {"ann": text, "snn": text}')


def run(args: argparse.Namespace) -> int:
    import json

    from .. import text
    from ..data import find_tokenizer
    from ..ir.diagnostics import SpikecError
    from ..runtime.session import Compiled

    compiled = Compiled(args.folder)
    file = find_tokenizer(args.tokenizer, compiled.folder)
    if file is None:
        raise SpikecError(
            "needs a tokenizer to read the prompt", where=args.folder, fix="give --tokenizer DIR"
        )
    tokenizer = text.load_tokenizer(file)
    text.check_vocabulary(tokenizer, compiled.vocabulary, str(file))
    if not args.prompt.strip():
        raise SpikecError("the prompt is empty", where="--prompt", fix="give at least one word")
    if args.max_tokens < 1:
        raise SpikecError(
            f"{args.max_tokens} tokens are none", where="--max-tokens", fix="ask for one or more"
        )
    native = False if args.no_library else None
    models = {"ann": "ann", "snn": args.execution} if args.compare else {"snn": args.execution}
    texts: dict[str, str] = {}
    for label, which in models.items():
        texts[label] = ""
        session = compiled.session(which, native=native)
        for piece in text.continuation(compiled, session, tokenizer, args.prompt, args.max_tokens):
            if not args.json:
                start = f"{label.upper()}: " if args.compare and not texts[label] else ""
                print(start + piece, end="", flush=True)
            texts[label] += piece
        if not args.json:
            print()
    if args.json:
        print(json.dumps(texts, ensure_ascii=False))
    elif args.compare:
        same = texts["ann"] == texts["snn"]
        print("same text" if same else f"same up to character {shared_length(*texts.values())}")
    return 0


def shared_length(a: str, b: str) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
