"""`spikec verify out/ --data text.txt`: SNN against ANN, and unrolled against packed."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", help="a compiled model")
    parser.add_argument("--data", type=Path, help="text to measure on")
    parser.add_argument(
        "--tokenizer", type=Path, help="tokenizer.json or its folder (default: the compiled folder's)"
    )
    parser.add_argument("--npz", type=Path, help="arrays named like the model's inputs, for any model")
    parser.add_argument(
        "--tokens", type=int, default=4096, help="measure on at most this many tokens of --data"
    )
    parser.add_argument("--context", type=int, default=512, help="tokens a window")
    parser.add_argument(
        "--unrolled-tokens",
        type=int,
        default=32,
        help="tokens on which both executions are compared; 0: none",
    )
    parser.add_argument(
        "--no-library", action="store_true", help="run the function bodies in stock ONNX Runtime"
    )
    parser.add_argument("--json", action="store_true")


def run(args: argparse.Namespace) -> int:
    import json

    from .. import text
    from ..data import find_tokenizer, read_arrays, token_feeds
    from ..ir.diagnostics import SpikecError
    from ..progress import Progress
    from ..runtime.session import Compiled
    from ..verify import as_text, verify

    compiled = Compiled(args.folder)
    if args.npz is not None:
        feeds = [read_arrays(compiled.inputs, args.npz)]
    elif args.data is not None:
        file = find_tokenizer(args.tokenizer, compiled.folder)
        if file is not None:
            text.check_vocabulary(text.load_tokenizer(file), compiled.report["vocabulary"], str(file))
        feeds = token_feeds(compiled.inputs, args.data, file, args.tokens, args.context)
    else:
        raise SpikecError("nothing to measure on", where=args.folder, fix="give --data TEXT or --npz FILE")
    progress = Progress()
    try:
        result = verify(
            compiled, feeds, args.unrolled_tokens, None if not args.no_library else False, progress.step
        )
    finally:
        progress.close()
    print(json.dumps(result, indent=1) if args.json else as_text(result))
    return 0
