"""The screen that `spikec inspect` prints, made from the same data as its JSON."""

from __future__ import annotations

import textwrap
from collections import Counter
from typing import Any

NOTHING = "  nothing of a transformer: compile will refuse it"
WIDTH = 100
COLUMNS = 4
REMARKS = 6
KINDS = 4
"""Kinds of remarks and of reasons told on the screen; `--json` has all."""
SIZES = ((10**9, "billion"), (10**6, "million"), (10**3, "thousand"))


def inspected(result: dict[str, Any]) -> str:
    lines = [*_header(result), "", *_found(result), "", *coverage_table(result["coverage"])]
    lines += _kept(result) + _remarks(result)
    return "\n".join(lines)


def _header(result: dict[str, Any]) -> list[str]:
    weights = ", ".join(
        f"{kind} {_bytes(w['bytes'])}" for kind, w in result["dtypes"].items() if w["bytes"] > 4096
    )
    evidence = "; ".join(result["architecture"]["evidence"].values())
    alike = ", ".join(result["architecture"]["candidates"])
    rows = [
        ("architecture", result["architecture"]["guess"]),
        ("", f"alike: {alike}" if alike else ""),
        ("", f"seen: {evidence}" if evidence else ""),
        ("exporter", result["exporter"]["guess"]),
        ("", f"seen: {'; '.join(result['exporter']['evidence'])}" if result["exporter"]["evidence"] else ""),
        ("weights", f"{_count(result['parameters'])} parameters{f': {weights}' if weights else ''}"),
        ("inputs", ", ".join(_value(v) for v in result["inputs"][:4]) + _more(result["inputs"], 4)),
        ("outputs", ", ".join(_value(v) for v in result["outputs"][:2]) + _more(result["outputs"], 2)),
    ]
    size = f"{result['layers']} layers, {result['nodes']} nodes, opset {result['opset']}"
    lines = [f"{result['model']}: {size}, IR {result['ir_version']}; recognised in {result['seconds']:.2f} s"]
    for name, text in rows:
        if text:
            lines += textwrap.wrap(text, WIDTH, initial_indent=f"{name:<14}", subsequent_indent=" " * 14)
    for index, kind in enumerate(result["attention"][:KINDS]):
        if text := _attention(kind):
            head = "" if index else "attention"
            lines += textwrap.wrap(
                f"{_times(kind['count'])}: {text}",
                WIDTH,
                initial_indent=f"{head:<14}",
                subsequent_indent=" " * 14,
            )
    if len(result["attention"]) > KINDS:
        lines.append(f"{'':<14}and {len(result['attention']) - KINDS} more kinds (--json)")
    return lines


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _attention(kind: dict[str, Any]) -> str:
    parts = []
    if "heads" in kind:
        groups = kind.get("kv_heads", kind["heads"])
        shared = f" for {groups} of keys and values" if groups != kind["heads"] else ""
        parts.append(f"{kind['heads']} heads{shared}")
    if "head_size" in kind:
        parts.append(f"{kind['head_size']} channels each")
    if "scale" in kind:
        parts.append(f"scale {kind['scale']:.6g}")
    if "softcap" in kind:
        parts.append(f"capped at {kind['softcap']:.3g}")
    if "mask" in kind:
        parts.append(f"mask {'+'.join(kind['mask'])}")
    if "past" in kind:
        parts.append("past keys and values")
    return ", ".join([*parts, *kind.get("unproved", ())])


def _found(result: dict[str, Any]) -> list[str]:
    cells = [f"{kind:<16}{count:>5}" for kind, count in result["found"].items() if count]
    if not cells:
        return ["found         nothing of a transformer"]
    rows = -(-len(cells) // COLUMNS)
    return ["found, in one run"] + ["  " + "   ".join(cells[row::rows]).rstrip() for row in range(rows)]


def coverage_table(coverage: dict[str, Any]) -> list[str]:
    """Count and share of MACs per class."""
    total = sum(coverage["macs"].values())
    unknown = coverage["nodes_of_unknown_macs"]
    share = "of the MACs known" if unknown else f"of MACs at {coverage['tokens']} tokens"
    lines = [f"{'coverage':<12}{'nodes':>8}   share {share}"]
    for verdict, nodes in coverage["nodes"].items():
        part = f"{100 * coverage['macs'][verdict] / total:8.2f} %" if total else f"{'-':>8}"
        lines.append(f"  {verdict:<10}{nodes:>8}   {part}")
    if unknown:
        lines.append(f"  {'(unknown':<10}{unknown:>8}   nodes have MACs that cannot be told)")
    return lines


def _kept(result: dict[str, Any]) -> list[str]:
    rows = result["cannot"]
    if not rows:
        return []
    lines = ["", "stays ordinary"]
    for row in rows[:REMARKS]:
        ops = ", ".join(f"{n} {op}" for op, n in row["ops"].items())
        mark = "*" if row["in_scope"] else " "
        lines += textwrap.wrap(
            f"{ops}: {row['reason']}", WIDTH, initial_indent=f"{mark} ", subsequent_indent="    "
        )
    if len(rows) > REMARKS:
        lines.append(f"  and {len(rows) - REMARKS} more reasons (--json)")
    if any(row["in_scope"] for row in rows):
        lines.append("  (* should spike but cannot: spikec explain MODEL --all-unmatched)")
    return lines


def _remarks(result: dict[str, Any]) -> list[str]:
    told = result["diagnostics"]
    refused = [] if _is_transformer(result["found"]) else [NOTHING]
    if not told and not refused:
        clean = "everything in scope can spike" if not result["misses"] and result["can_spike"] else "none"
        return ["", f"remarks       {clean}"]
    lines = ["", "remarks", *refused]
    counts = Counter(d["code"] for d in told)
    first = {d["code"]: d for d in reversed(told)}
    chosen = sorted(counts, key=lambda code: (first[code]["severity"] != "warning", code))
    for code in chosen[:REMARKS]:
        d = first[code]
        times = f" ({counts[code]} times, here the first)" if counts[code] > 1 else ""
        text = f"{code} {d['severity']}{times}: {d['where']}: {d['text']}"
        lines += textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="    ")
        lines += textwrap.wrap(f"fix: {d['remedy']}", WIDTH, initial_indent="    ", subsequent_indent="    ")
    if len(chosen) > REMARKS:
        lines.append(f"  and {len(chosen) - REMARKS} more codes (--json)")
    return lines


def _is_transformer(found: dict[str, int]) -> bool:
    norms, products = found["layernorm"] + found["rmsnorm"], found["linear"] + found["other_linear"]
    return bool(found["attention"] or (norms and products))


def _value(value: dict[str, Any]) -> str:
    dims = ", ".join("?" if d is None else str(d) for d in value["dims"])
    return f"{value['name']} {value['dtype']}[{dims}]"


def _more(values: list[Any], shown: int) -> str:
    return f" and {len(values) - shown} more" if len(values) > shown else ""


def _count(number: int) -> str:
    return next((f"{number / size:.3g} {word}" for size, word in SIZES if number >= size), str(number))


def _bytes(number: int) -> str:
    return next(
        (f"{number / size:.3g} {unit}" for size, unit in ((1e9, "GB"), (1e6, "MB")) if number >= size),
        f"{number / 1e3:.3g} kB",
    )
