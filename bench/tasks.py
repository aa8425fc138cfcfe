"""Task scores of one or several compiled models, unattended: a file for each task, none of them done twice.

    nohup python bench/tasks.py out/ [more/ ...] --data-dir ../shared/data --results tasks/ > tasks.log 2>&1 &

Each task of each folder is one `spikec eval --json` whose answer is written to RESULTS/FOLDER/TASK.json once
it is complete, so a run that was stopped goes on where it was. The table of all that is there is printed
last, and alone with --only-table. A file made with another --limit is made again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

TASKS = "wsc273,lambada,piqa,generation,wikitext,arc_easy"


def done(path: Path, asked: dict[str, Any]) -> bool:
    return path.is_file() and json.loads(path.read_text())["asked"] == asked


def measure(folder: Path, task: str, path: Path, asked: dict[str, Any], rest: list[str]) -> bool:
    """Whether the task's file is there now."""
    words = ["--limit", str(asked["limit"])] if asked["limit"] else []
    command = [sys.executable, "-m", "spikec", "eval", str(folder), "--tasks", task, "--json", *words, *rest]
    start = time.monotonic()
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if result.returncode:
        print(f"{folder} {task}: failed with exit code {result.returncode}", flush=True)
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps({"asked": asked, **json.loads(result.stdout)}, indent=1))
    os.replace(part, path)
    print(f"{folder} {task}: {time.monotonic() - start:.0f} s", flush=True)
    return True


def table(results: Path) -> str:
    """One Markdown row a metric of every folder."""
    lines = ["| model | task | metric | n | ANN | SNN | difference | same answer |", "|" + "---|" * 8]
    for path in sorted(results.glob("*/*.json")):
        for row in json.loads(path.read_text())["results"]:
            same = "" if row["same"] is None else f"{100 * row['same']:.2f} %"
            values = [
                f"{row[name]:.5g} ± {row[name + '_error']:.2g}" for name in ("ann", "snn", "difference")
            ]
            words = [path.parent.name, row["task"], row["metric"], str(row["documents"]), *values, same]
            lines.append("| " + " | ".join(words) + " |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="*", type=Path, help="compiled models")
    parser.add_argument("--tasks", default=TASKS)
    parser.add_argument("--data-dir", type=Path, default=Path("../shared/data"))
    parser.add_argument("--results", type=Path, default=Path("tasks"))
    parser.add_argument("--limit", type=int, help="documents of each task (default: all)")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--only-table", action="store_true")
    options = parser.parse_args()
    failed = 0
    rest = ["--data-dir", str(options.data_dir), "--threads", str(options.threads)]
    for folder in [] if options.only_table else options.folder:
        for task in options.tasks.split(","):
            path = options.results / folder.resolve().name / f"{task}.json"
            asked = {"limit": options.limit}
            if not done(path, asked):
                failed += not measure(folder, task, path, asked, rest)
    print(table(options.results))
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
