"""Text in and out: a tokenizer file, token windows of a text, and checks that both fit the model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from .ir.diagnostics import SpikecError, reason
from .ir.inputs import fixed_tokens
from .ir.session import Session
from .runtime.generate import generate
from .runtime.session import Compiled

UNFINISHED = "\N{REPLACEMENT CHARACTER}"
"""What decoding gives for the bytes of a character whose last token is still to come."""


def load_tokenizer(path: str | Path) -> Tokenizer:
    """A `tokenizer.json`, given itself or by its folder."""
    path = Path(path)
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise SpikecError(
            "no tokenizer here",
            where=str(file),
            fix="give the folder that holds tokenizer.json with --tokenizer",
        )
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:
        raise SpikecError(
            "is not a tokenizer file",
            where=str(file),
            why=reason(error),
            fix="give a tokenizer.json of the tokenizers library",
        ) from error
    tokenizer.no_padding()  # as sentence encoders have it set, it would cut a text after its first 128 tokens
    tokenizer.no_truncation()
    return tokenizer


def encode_file(tokenizer: Tokenizer, path: str | Path, limit: int | None = None) -> np.ndarray:
    """Token ids of a text file, at most `limit` of them."""
    path = Path(path)
    if not path.is_file():
        what = "is a folder, not a text file" if path.is_dir() else "no such text file"
        raise SpikecError(what, where=str(path), fix="give the path of a plain text")
    try:
        text = path.read_text(encoding="utf-8")
        if "\0" in text:
            raise ValueError("it holds NUL bytes")
    except ValueError as error:
        raise SpikecError(
            "is not UTF-8 text", where=str(path), why=reason(error), fix="give plain text in UTF-8"
        ) from error
    if not text.strip():
        raise SpikecError("is empty", where=str(path), fix="give a text of at least a few hundred words")
    if limit is not None:
        text = text[: limit * 16]
    ids = np.array(tokenizer.encode(text).ids, np.int64)
    return ids if limit is None else ids[:limit]


def check_vocabulary(tokenizer: Tokenizer, vocabulary: int | None, where: str) -> None:
    """Raises SpikecError when the tokenizer makes ids that the model's table does not have."""
    largest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
    if vocabulary is not None and largest >= vocabulary:
        raise SpikecError(
            "tokenizer and model do not belong together",
            where=where,
            why=f"the tokenizer gives ids up to {largest}, the model's table has {vocabulary} rows",
            fix="give the tokenizer the model was trained with",
        )


def windows(ids: np.ndarray, length: int) -> np.ndarray:
    """`[count, length]`: consecutive windows without overlap; one shorter window when the text is short."""
    length = min(length, len(ids))
    return ids[: len(ids) // length * length].reshape(-1, length)


def continuation(
    compiled: Compiled, session: Session, tokenizer: Tokenizer, prompt: str, count: int
) -> Iterator[str]:
    """The prompt and its greedy continuation, piece by piece as it comes."""
    ids = tokenizer.encode(prompt).ids
    if fixed_tokens(compiled.inputs)[1] is not None:
        raise SpikecError(
            "cannot continue a text",
            where=str(compiled.folder),
            why="the model takes a fixed number of tokens",
            fix="export it with a free length",
        )
    shown = ""
    stop, vocabulary = end_token(tokenizer), compiled.vocabulary
    for token in generate(session, compiled.inputs, ids, count, end=stop, vocabulary=vocabulary):
        ids.append(token)
        known = tokenizer.decode(ids).rstrip(UNFINISHED)
        if known.startswith(shown):
            yield known[len(shown) :]
            shown = known
    yield tokenizer.decode(ids)[len(shown) :]


END_TOKENS = ("<|endoftext|>", "<|im_end|>", "</s>", "<|end_of_text|>", "<eos>")


def end_token(tokenizer: Tokenizer) -> int | None:
    """The id at which generation stops, by its usual names."""
    return next((token for name in END_TOKENS if (token := tokenizer.token_to_id(name)) is not None), None)
