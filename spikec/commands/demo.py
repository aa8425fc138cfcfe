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


def run(args: argparse.Namespace) -> int:
    from .. import report, text
    from ..compile import Settings, compile_model
    from ..data import token_feeds
    from ..ir.inputs import describe, feed_tokens
    from ..ir.program import Program
    from ..progress import Progress
    from ..runtime.session import Compiled, generate
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
    print(report.as_text(program, args.out))
    print("\nANN against SNN on held-out stories it was not calibrated on")
    print(as_text(result))
    ids = tokenizer.encode(args.prompt).ids
    texts = []
    for which, label in (("ann", "ANN"), ("packed", "SNN")):
        session = compiled.session(which)
        more = generate(
            session,
            lambda batch: feed_tokens(compiled.inputs, batch),
            ids,
            args.max_tokens,
            end=text.end_token(tokenizer),
        )
        texts.append(tokenizer.decode(ids + list(more)))
        print(f"\n{label}  {texts[-1]}")
    print(
        "\nThe two texts are the same."
        if texts[0] == texts[1]
        else "\nThe two texts part; greedy text follows the smallest change."
    )
    _picture(compiled, ids, Path(args.out) / "spikes.png")
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


def _picture(compiled: Compiled, ids: list[int], path: Path) -> None:
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        print("(pip install matplotlib and run again for a picture of the spikes)")
        return
    from ..picture import draw

    draw(compiled, ids, path)
    print(f"Picture of the spikes: {path}")
