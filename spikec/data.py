"""Feeds from what a user gives: a text with its tokenizer, or arrays; with checks that they fit the model."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from . import text
from .ir.diagnostics import SpikecError, reason
from .ir.inputs import (
    Feed,
    ModelInput,
    describe,
    feed_arrays,
    feed_windows,
    fixed_tokens,
    vocabulary_size,
)
from .ir.program import Program


def find_tokenizer(given: Path | None, beside: Path) -> Path | None:
    """The tokenizer file: the one given, else the one beside the model, else None."""
    path = given if given is not None else beside / "tokenizer.json"
    if path.is_dir():
        path = path / "tokenizer.json"
    if path.is_file():
        return path
    if given is not None:
        raise SpikecError(
            "no such tokenizer", where=str(path), fix="give a tokenizer.json or the folder that holds it"
        )
    return None


def calibration_feeds(
    program: Program, data: Path | None, npz: Path | None, tokenizer: Path | None, tokens: int, context: int
) -> list[Feed] | None:
    """Calibration inputs, or None to let the compiler sample its own. A tokenizer must fit in any case."""
    inputs = describe(program.graph)
    if tokenizer is not None:
        text.check_vocabulary(text.load_tokenizer(tokenizer), vocabulary_size(inputs), str(tokenizer))
    if npz is not None:
        return [read_arrays(inputs, npz)]
    if data is None:
        return None
    feeds = token_feeds(inputs, data, tokenizer, tokens, context)
    longest = max(next(iter(feed.values())).shape[-1] for feed in feeds)
    if fixed_tokens(inputs)[1] is None and longest < min(context, tokens):
        raise SpikecError(
            f"gives only {longest} tokens",
            where=str(data),
            why=f"a calibration window has {context}",
            fix=f"give a longer text, or --context {max(2, longest)}",
        )
    return feeds


def token_feeds(
    inputs: list[ModelInput], data: Path, tokenizer: Path | None, tokens: int, context: int
) -> list[Feed]:
    """Feeds of windows of `context` tokens, or of the length the model was exported for."""
    if tokenizer is None:
        raise SpikecError(
            "a text needs a tokenizer",
            where=str(data),
            fix="give --tokenizer DIR, or put tokenizer.json beside the model",
        )
    if tokens < 2 or context < 2:
        raise SpikecError("must be two or more", where="--tokens and --context", fix="raise them")
    ids = text.encode_file(text.load_tokenizer(tokenizer), data, tokens)
    length = fixed_tokens(inputs)[1]
    if len(ids) < (length or 2):
        raise SpikecError(
            f"gives only {len(ids)} tokens",
            where=str(data),
            why=f"the model needs {length or 2} or more",
            fix="give a longer text",
        )
    return feed_windows(inputs, text.windows(ids, length or context))


def read_arrays(inputs: list[ModelInput], path: Path) -> Feed:
    """A feed from an .npz file."""
    if not path.is_file():
        raise SpikecError("no such .npz file", where=str(path), fix="write one with numpy.savez")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            loaded = {name: arrays[name] for name in arrays.files}
    except (
        ValueError,
        TypeError,
        AttributeError,
        OSError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise SpikecError(
            "is not an .npz file of plain arrays",
            where=str(path),
            why=reason(error),
            fix="write it with numpy.savez",
        ) from error
    for name, values in loaded.items():
        if values.size == 0:
            raise SpikecError(f"array {name!r} is empty", where=str(path), fix="give at least one input")
        if np.issubdtype(values.dtype, np.floating) and np.isnan(values).any():
            raise SpikecError(f"array {name!r} holds NaN", where=str(path), fix="give numbers")
    return feed_arrays(inputs, loaded, str(path))
