"""Text in and out: a tokenizer file, token windows of a text, and checks that both fit the model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from .ir.diagnostics import SpikecError


def load_tokenizer(path: str | Path) -> Tokenizer:
    """A `tokenizer.json`, given itself or by its folder."""
    path = Path(path)
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise SpikecError("no tokenizer here", where=str(file), fix="give the folder that holds tokenizer.json with --tokenizer")
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:
        raise SpikecError("is not a tokenizer file", where=str(file), why=str(error)[:200]) from error


def encode_file(tokenizer: Tokenizer, path: str | Path, limit: int | None = None) -> np.ndarray:
    """Token ids of a text file, at most `limit` of them."""
    path = Path(path)
    if not path.is_file():
        raise SpikecError("no such text file", where=str(path))
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SpikecError("is not UTF-8 text", where=str(path), why=str(error)) from error
    if not text.strip():
        raise SpikecError("is empty", where=str(path), fix="give a text of at least a few hundred words")
    if limit is not None:
        text = text[: limit * 16]
    ids = np.array(tokenizer.encode(text).ids, np.int64)
    return ids if limit is None else ids[:limit]


def check_vocabulary(tokenizer: Tokenizer, vocabulary: int | None) -> None:
    """Raises SpikecError when the tokenizer makes ids that the model's table does not have."""
    size = tokenizer.get_vocab_size(with_added_tokens=True)
    if vocabulary is not None and size > vocabulary:
        raise SpikecError(
            "tokenizer and model do not belong together",
            why=f"the tokenizer has {size} entries, the model's table {vocabulary}",
            fix="give the tokenizer the model was trained with",
        )


def windows(ids: np.ndarray, length: int) -> np.ndarray:
    """`[count, length]`: consecutive windows that do not overlap; one shorter window when the text is short."""
    if len(ids) < 2:
        raise SpikecError("the text gives fewer than two tokens", fix="give a longer text")
    length = min(length, len(ids))
    return ids[: len(ids) // length * length].reshape(-1, length)


END_TOKENS = ("<|endoftext|>", "<|im_end|>", "</s>", "<|end_of_text|>", "<eos>")


def end_token(tokenizer: Tokenizer) -> int | None:
    """The id at which generation stops, by its usual names."""
    return next((token for name in END_TOKENS if (token := tokenizer.token_to_id(name)) is not None), None)
