"""Feeds from what a user gives: a text with its tokenizer, or arrays; with checks that they fit the model."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from . import text
from .compile import vocabulary_size
from .ir.diagnostics import SpikecError
from .ir.inputs import Feed, ModelInput, describe, feed_arrays, feed_tokens
from .ir.program import Program


def find_tokenizer(given: Path | None, beside: Path) -> Path | None:
    """The tokenizer file: the one given, else the one beside the model, else None."""
    path = given if given is not None else beside / "tokenizer.json"
    if path.is_dir():
        path = path / "tokenizer.json"
    if path.is_file():
        return path
    if given is not None:
        raise SpikecError("no tokenizer here", where=str(path), fix="give a tokenizer.json or the folder that holds it")
    return None


def calibration_feeds(
    model: str, data: Path | None, npz: Path | None, tokenizer: Path | None, tokens: int, context: int
) -> list[Feed] | None:
    """Calibration inputs, or None to let the compiler sample its own. The tokenizer is checked against the model."""
    if npz is None and tokenizer is None and data is None:
        return None
    program = Program.load(model)
    inputs = describe(program.graph)
    if npz is not None:
        return [read_arrays(inputs, npz)]
    if tokenizer is None:
        raise SpikecError("a text needs a tokenizer", where=str(data), fix="give --tokenizer, or put tokenizer.json beside the model")
    vocabulary = vocabulary_size(program)
    text.check_vocabulary(text.load_tokenizer(tokenizer), vocabulary)
    return token_feeds(inputs, data, tokenizer, tokens, context) if data is not None else None


def token_feeds(inputs: list[ModelInput], data: Path, tokenizer: Path, tokens: int, context: int) -> list[Feed]:
    """One feed a window of `context` tokens."""
    if tokens < 2 or context < 2:
        raise SpikecError("needs at least two tokens and a context of two", fix="raise --tokens and --context")
    ids = text.encode_file(text.load_tokenizer(tokenizer), data, tokens)
    return [feed_tokens(inputs, window[None]) for window in text.windows(ids, context)]


def read_arrays(inputs: list[ModelInput], path: Path) -> Feed:
    """A feed from an .npz file."""
    if not path.is_file():
        raise SpikecError("no such file", where=str(path))
    try:
        with np.load(path, allow_pickle=False) as arrays:
            loaded = {name: arrays[name] for name in arrays.files}
    except (ValueError, zipfile.BadZipFile, OSError, AttributeError) as error:
        raise SpikecError("is not an .npz file of plain arrays", where=str(path), why=str(error)) from error
    if not loaded or any(array.size == 0 for array in loaded.values()):
        raise SpikecError("holds no data", where=str(path))
    return feed_arrays(inputs, loaded, str(path))
