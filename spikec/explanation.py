"""What became of a node and why, from a compiled folder's report or from recognition of a model alone."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from . import scope
from .ir.diagnostics import CODES, SpikecError
from .ir.program import Program
from .passes.classify import NO_ACTIVATION, SELECTS
from .passes.methods import METHODS

CODE = re.compile(r"[A-Z]{1,4}\d{3}", re.IGNORECASE)
NEAREST, CLOSE = 3, 0.5
"""How many similar names are told, and how similar they are."""
Known = dict[str, Any]
"""`decisions`, `findings`, `certificates`, `sites`, `misses` and `diagnostics`, as a report has them."""


def known(target: str) -> Known:
    """Of a compiled folder, or of a model file; raises SpikecError for anything else."""
    path = Path(target)
    if path.is_dir():
        from .runtime.session import Compiled

        return {"findings": [], "misses": [], **Compiled(path).report}
    if path.is_file() or path.suffix == ".onnx":
        from .overview import recognise

        return of_program(recognise(path))
    raise SpikecError(
        "is not a compiled model",
        where=target,
        why="nor a model file, nor a diagnostic code",
        fix="give a folder that spikec compile wrote, an .onnx file, or a code such as SPK101",
    )


def of_program(program: Program) -> Known:
    return {
        "findings": program.statistics["findings"],
        "decisions": [asdict(d) for d in program.decisions.values()],
        "certificates": [],
        "sites": {},
        "misses": scope.as_json(scope.misses(program)),
        "diagnostics": [{**asdict(d), "severity": d.severity} for d in program.diagnostics],
    }


def code(number: str) -> dict[str, str]:
    """What a diagnostic code means; raises SpikecError for one there is not."""
    number = number.upper()
    if number not in CODES:
        near = difflib.get_close_matches(number, CODES, NEAREST, 0)
        raise SpikecError(
            "there is no such diagnostic code", where=number, fix=f"codes like it are {', '.join(near)}"
        )
    told = CODES[number]
    return {
        "code": number,
        "severity": told.severity,
        "title": told.title,
        "explanation": told.explanation,
        "remedy": told.remedy,
    }


def summary(known: Known) -> list[dict[str, Any]]:
    """How many nodes of which operator got which verdict for which reason."""
    groups = Counter((d["verdict"], d["op"], d["reason"]) for d in known["decisions"])
    return [{"verdict": v, "op": op, "reason": r, "nodes": n} for (v, op, r), n in sorted(groups.items())]


def unmatched(known: Known) -> list[dict[str, Any]]:
    """Everything on host that computes with activations; `code` is empty for what stays there on purpose."""
    codes = {miss["where"]: miss["code"] for miss in known["misses"]}
    listed = [
        {**d, "code": codes.pop(d["node"], "")}
        for d in known["decisions"]
        if d["verdict"] in scope.UNCONVERTED and d["reason"] not in (NO_ACTIVATION, SELECTS)
    ]
    others = [miss for miss in known["misses"] if miss["where"] in codes]
    return sorted(listed, key=lambda d: not d["code"]) + [{**m, "node": m["where"]} for m in others]


def about(known: Known, name: str, where: str) -> dict[str, Any]:
    """All that is known of the nodes and values of this name, or with it in theirs; raises SpikecError when
    there is none, naming the nearest."""
    findings = known["findings"]
    decisions = _named(known, name)
    asked = name.lower()
    if not decisions:
        decisions = [d for d in known["decisions"] if asked in d["node"].lower() or asked == d["op"].lower()]
    nodes = {d["node"] for d in decisions}
    touched = [f for f in findings if _touches(f, nodes, name)]
    results = {f["result"] for f in touched}
    own = [f for f in findings if _touches(f, nodes, name) or _joins(f, results)]
    places = nodes | results | {name}
    certificates = [c for c in known["certificates"] if c["where"] in places or asked in c["where"].lower()]
    sites = {n: site for n, site in known["sites"].items() if n in places or asked in n.lower()}
    if not (decisions or own or certificates or sites):
        _refuse(known, name, where)
    return {
        "decisions": decisions,
        "findings": own,
        "certificates": certificates,
        "sites": sites,
        "diagnostics": [d for d in known["diagnostics"] if d["where"] in places],
    }


def _named(known: Known, name: str) -> list[dict[str, Any]]:
    """The decisions of the node of this name, of the nodes it was taken apart into, or of the one that makes
    the value of this name."""
    exact = [d for d in known["decisions"] if name in (d["node"], d.get("origin"))]
    if exact:
        return exact
    makers = {
        node
        for f in known["findings"]
        for node, text in f["nodes"]
        if name in text.partition(" = ")[0].split(", ")
    }
    return [d for d in known["decisions"] if d["node"] in makers]


def _touches(finding: dict[str, Any], nodes: set[str], name: str) -> bool:
    return finding["result"] == name or any(node in nodes for node, _ in finding["nodes"])


def _joins(finding: dict[str, Any], results: set[str]) -> bool:
    """Whether it is an attention of which one of these values is a product or the softmax."""
    facts = finding["facts"]
    return finding["kind"] == "attention" and any(
        facts.get(part) in results for part in ("scores", "softmax", "context")
    )


def _refuse(known: Known, name: str, where: str) -> None:
    names = {d["node"] for d in known["decisions"]} | {f["result"] for f in known["findings"]}
    names |= {d["origin"] for d in known["decisions"] if d.get("origin")}
    near = difflib.get_close_matches(name, sorted(names), NEAREST, CLOSE)
    if not near:  # what a name ends with may be all that is remembered of it
        ends = {full.rpartition("/")[2]: full for full in sorted(names)}
        near = [ends[end] for end in difflib.get_close_matches(name, ends, NEAREST, CLOSE)]
    listed = f"did you mean {', '.join(near)}; " if near else ""
    raise SpikecError(
        f"no node or value named like {name!r}",
        where=where,
        fix=f"{listed}spikec explain {where} lists the kinds",
    )


def remedy(decision: dict[str, Any], remarks: list[dict[str, Any]]) -> str:
    """What the user can do about a node."""
    own = [r for r in remarks if r["where"] == decision["node"] or decision["reason"] in r["text"]]
    if own:
        return CODES[own[0]["code"]].remedy
    kept = {reason for method in METHODS.values() for reason in method.kept.values()}
    if decision["verdict"] not in scope.UNCONVERTED or decision["reason"] in {NO_ACTIVATION, SELECTS, *kept}:
        return "Nothing need be done."
    return CODES[scope.UNTOLD].remedy
