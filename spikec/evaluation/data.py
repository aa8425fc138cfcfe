"""The tasks' data from local files, as the records that the harness's own task descriptions read."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..ir.diagnostics import SpikecError, reason

Document = dict[str, Any]

FILES = {
    "wikitext": "wikitext2-test.txt",
    "lambada": "lambada_openai.jsonl",
    "wsc273": "winograd_wsc.jsonl",
    "piqa": "piqa.jsonl",
    "arc_easy": "arc_easy.jsonl",
    "generation": "lambada_openai.jsonl",
    "stsb": "sts-test.csv",
}
"""The file in the data folder that each task reads."""
TITLE = re.compile(r"^ = [^=](?:.*[^=])? = $", re.MULTILINE)
"""The line that begins an article of WikiText."""
PLACE = "_"
"""What stands for the pronoun in a Winograd sentence: none of those that the harness makes possessive."""


def documents(task: str, folder: Path) -> list[Document]:
    """All documents of a task; SpikecError tells which file or line of it is missing or of another form."""
    path = folder / FILES[task]
    if not path.is_file():
        raise SpikecError(
            f"no data for {task}",
            where=str(path),
            fix=f"give the folder that holds {FILES[task]} with --data-dir",
        )
    try:
        found = list(READERS[task](path))
    except UnicodeDecodeError as error:
        raise SpikecError(
            "is not UTF-8 text", where=str(path), why=reason(error), fix="give plain text in UTF-8"
        ) from error
    if not found:
        raise SpikecError(f"holds no document of {task}", where=str(path), fix="give the whole file")
    return found


def records(path: Path, make: Callable[[Any], Document]) -> Iterator[Document]:
    """`make` of every line's JSON object."""
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if not line.strip():
            continue
        try:
            yield make(json.loads(line))
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            key = f"no {error}" if isinstance(error, KeyError) else reason(error)
            raise SpikecError(
                "is not the task's form", where=f"{path}:{number}", why=key, fix=f"it is {FORMS[path.name]}"
            ) from error


FORMS = {
    "lambada_openai.jsonl": '{"context": text, "continuation": its last word} a line',
    "winograd_wsc.jsonl": '{"context_options": [text, text], "continuation": text, "gold": 0 or 1} a line',
    "piqa.jsonl": '{"query": "Question: goal", "choices": [text, text], "gold": 0 or 1} a line',
    "arc_easy.jsonl": '{"query": "Question: text", "choices": [texts], "gold": a number} a line',
}


def lambada(record: Any) -> Document:
    return {"text": f"{text(record['context'])} {text(record['continuation'])}"}


def winograd(record: Any) -> Document:
    """Both contexts end where the pronoun stood; what they share is the sentence before it."""
    first, second = map(text, record["context_options"])
    length = next((i for i, (a, b) in enumerate(zip(first, second)) if a != b), min(len(first), len(second)))
    shared = first[: first.rfind(" ", 0, length) + 1]
    rest = text(record["continuation"])
    return {
        "text": shared + PLACE + (" " if rest[:1].isalnum() or rest[:1] == '"' else "") + rest,
        "pronoun": PLACE,
        "pronoun_loc": len(shared),
        "options": [first[len(shared) :], second[len(shared) :]],
        "label": gold(record, 2),
    }


def piqa(record: Any) -> Document:
    first, second = map(text, record["choices"])
    return {"goal": question(record), "sol1": first, "sol2": second, "label": gold(record, 2)}


def arc(record: Any) -> Document:
    choices = [text(choice) for choice in record["choices"]]
    labels = [str(place) for place in range(len(choices))]
    return {
        "question": question(record),
        "choices": {"text": choices, "label": labels},
        "answerKey": labels[gold(record, len(choices))],
    }


def question(record: Any) -> str:
    query = text(record["query"])
    if not query.startswith("Question: "):
        raise ValueError("the query does not begin with 'Question: '")
    return query.removeprefix("Question: ").removesuffix("\n")


def gold(record: Any, count: int) -> int:
    place = record["gold"]
    if not isinstance(place, int) or not 0 <= place < count:
        raise ValueError(f"gold is {place!r}, not one of {count} choices")
    return place


def text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{value!r} is not a text")
    return value


def articles(path: Path) -> Iterator[Document]:
    """WikiText's articles: a document is one article, as the harness counts words and windows."""
    whole = path.read_text(encoding="utf-8")
    starts = [match.start() for match in TITLE.finditer(whole)]
    if not starts:
        raise SpikecError(
            "is not WikiText",
            where=str(path),
            why="no line is ' = Title = '",
            fix="give WikiText-2's test text as it is published",
        )
    for start, end in zip(starts, [*starts[1:], len(whole)]):
        yield {"page": whole[start:end]}


def sentence_pairs(path: Path) -> Iterator[Document]:
    """STS-B: seven columns by tabs, of which the last three are the score (0 to 5) and the two sentences."""
    with path.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE), 1):
            try:
                score, first, second = float(row[4]), text(row[5]), text(row[6])
            except (ValueError, IndexError) as error:
                raise SpikecError(
                    "is not STS-B",
                    where=f"{path}:{number}",
                    why=reason(error),
                    fix="its lines are genre, file, year, id, score, sentence, sentence, with tabs between",
                ) from error
            yield {"score": score, "sentences": [first, second]}


READERS: dict[str, Callable[[Path], Iterator[Document]]] = {
    "wikitext": articles,
    "lambada": lambda path: records(path, lambada),
    "wsc273": lambda path: records(path, winograd),
    "piqa": lambda path: records(path, piqa),
    "arc_easy": lambda path: records(path, arc),
    "generation": lambda path: records(path, lambada),
    "stsb": sentence_pairs,
}
