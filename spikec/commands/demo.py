"""`spikec demo`: the whole path on the bundled story model, in a minute."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..runtime.session import Compiled

PROMPT = "Once upon a time"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--out", default="spikec-demo", help="folder to write (default: spikec-demo)")
    parser.add_argument(
        "-T", "--timesteps", type=int, help="timesteps of a spike train (default: the method's)"
    )
    parser.add_argument("--prompt", default=PROMPT)
    parser.add_argument("--max-tokens", type=int, default=60)
    parser.add_argument("--json", action="store_true", help="print the measurement and both texts as JSON")


def run(args: argparse.Namespace) -> int:
    import json

    from .. import report, text
    from ..compile import Settings, compile_model
    from ..data import token_feeds
    from ..ir.inputs import describe
    from ..ir.program import Program
    from ..progress import Progress
    from ..runtime.generate import generate
    from ..runtime.session import Compiled
    from ..verify import as_text, verify

    story = story_folder()
    file, heldout = story / "tokenizer.json", story / "heldout.txt"
    tokenizer = text.load_tokenizer(file)
    progress = Progress()
    try:
        program = Program.load(story / "model.onnx")
        feeds = token_feeds(describe(program.graph), heldout, file, 4096, 256)
        half = len(feeds) // 2
        settings = Settings(timesteps=args.timesteps)
        program = compile_model(
            program,
            args.out,
            settings,
            feeds=feeds[half:],
            tokenizer=file,
            instruments=[progress],
            progress=progress.step,
        )
        compiled = Compiled(args.out)
        result = verify(compiled, feeds[:half], progress=progress.step)
    finally:
        progress.close()
    if not args.json:
        print(report.as_text(program, args.out))
        print("\nANN against SNN on held-out stories it was not calibrated on")
        print(as_text(result))
    ids = tokenizer.encode(args.prompt).ids
    texts = {}
    for label, which in (("ANN", "ann"), ("SNN", "packed")):
        more = generate(
            compiled.session(which),
            compiled.inputs,
            ids,
            args.max_tokens,
            end=text.end_token(tokenizer),
        )
        texts[label] = tokenizer.decode(ids + list(more))
        if not args.json:
            print(f"\n{label}  {texts[label]}")
    picture = _picture(compiled, ids)
    if args.json:
        print(json.dumps({"verify": result, "texts": texts, "picture": picture and str(picture)}, indent=1))
        return 0
    print(
        "\nThe two texts are the same."
        if texts["ANN"] == texts["SNN"]
        else "\nThe two texts part; greedy text follows the smallest change."
    )
    if picture:
        print(f"Picture of the spikes: {picture}")
    else:
        print("(pip install matplotlib and run again for a picture of the spikes)")
    print(f"Next: spikec run {args.out} --prompt '...' --compare; spikec explain {args.out}")
    return 0


def story_folder() -> Path:
    """Where the bundled model is: in the installed package, or in the checkout's examples."""
    import spikec

    from ..ir.diagnostics import SpikecError

    for root in map(Path, spikec.__path__):
        for folder in (root / "story", root / "examples" / "story"):
            if (folder / "model.onnx").is_file():
                return folder
    raise SpikecError("the bundled story model is missing", fix="install spikec again")


def _picture(compiled: Compiled, ids: list[int]) -> Path | None:
    """Drawn beside the folder, where it does not keep the folder from being overwritten."""
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        return None
    from ..picture import draw

    folder = compiled.folder.resolve()
    path = folder.with_name(f"{folder.name}.png")
    draw(compiled, ids, path)
    return path
