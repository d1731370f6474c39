"""What jmer promises of faults, counted.

    python benchmarks/reliability.py [--quick] [--only=NAME ...]

Each module of benchmarks/faults counts one kind of fault and can be run by itself. This script runs them in full
counts, which takes about two hours, and writes the table to benchmarks/results. --only counts some kinds anew and
leaves the rows of the others in the table as they are; the table says at which revision each kind was counted. With
--quick there is a tenth of the counts, and nothing is written. It exits with 1 if a promise was not kept.
"""

import argparse
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from synthetic import RESULTS, machine, write

from benchmarks.faults import (
    agreement,
    archives,
    clips,
    containers,
    damage,
    determinism,
    downloads,
    extraction_signals,
    full_disk,
    fuzz,
    not_finite,
    pairs,
    shapes,
    strangers,
    training_kills,
    training_signals,
)
from benchmarks.faults.outcomes import Row
from jmer.runs.environment import environment

_LONGEST = 200  # characters of an outcome in the table
# The counts are those of a tenth; 10 of them are the full ones.
FAULTS: dict[str, Callable[[int], list[Row]]] = {
    "kill -9 of a training": lambda tenths: training_kills.rows(count=5 * tenths),
    "signals to a training": lambda tenths: training_signals.rows(count=2 * tenths),
    "signals to an extraction": lambda tenths: extraction_signals.rows(count=2 * tenths),
    "damaged files": lambda tenths: damage.rows(count=40 * tenths),
    "full disks and read-only folders": lambda tenths: full_disk.rows(),
    "mutated clips": lambda tenths: clips.rows(count=100 * tenths),
    "numbers that are not finite": lambda tenths: not_finite.rows(count=10 * tenths),
    "shapes of dialogues": lambda tenths: shapes.rows(),
    "hostile archives": lambda tenths: archives.rows(),
    "download servers": lambda tenths: downloads.rows(),
    "models, runs and data of strangers": lambda tenths: strangers.rows(),
    "pairs of commands": lambda tenths: pairs.rows(count=2 * tenths),
    "determinism": lambda tenths: determinism.rows(),
    "predict against evaluate": lambda tenths: agreement.rows(count=10 * tenths),
    "limits of cores and memory": lambda tenths: containers.rows(),
    "fuzz": lambda tenths: fuzz.rows(count=1000 * tenths),
}


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the counts; writes nothing")
    parser.add_argument("--only", action="append", choices=tuple(FAULTS), help="this kind alone; repeatable")
    args = parser.parse_args(argv)
    file = RESULTS / "reliability.json"
    kinds = json.loads(file.read_text())["kinds"] if file.is_file() and args.only else {}
    for name in args.only or FAULTS:
        start = time.monotonic()
        with jax.numpy_dtype_promotion("standard"):  # Optax raises a float to an integer power
            rows = [
                {key: plain(value) for key, value in vars(row).items()} for row in FAULTS[name](1 if args.quick else 10)
            ]
        seconds = round(time.monotonic() - start)
        kinds[name] = {"revision": environment()["git_revision"], "seconds": seconds, "rows": rows}
        print(f"{name}: {sum(row['held'] for row in rows)} of {len(rows)} promises held", flush=True)
        kinds = {kind: kinds[kind] for kind in FAULTS if kind in kinds}
        write("reliability", report(kinds), {"machine": machine(), "kinds": kinds}, keep=not args.quick)
    return int(not all(row["held"] for kind in kinds.values() for row in kind["rows"]))


def plain(value: Any) -> Any:
    """Returns a text in one line of signs that can be printed, without the names of temporary folders."""
    if not isinstance(value, str):
        return value
    text = re.sub(rf"{re.escape(tempfile.gettempdir())}/[\w-]+/?", "", value)
    text = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def report(kinds: Mapping[str, Any]) -> list[str]:
    """Returns the lines of the table, in Markdown."""
    lines = [
        "# Reliability",
        "",
        machine(),
        "",
        "| kind of fault | promises held | revision | seconds |",
        "|---|---|---|---|",
    ]
    for name, kind in kinds.items():
        held = sum(row["held"] for row in kind["rows"])
        lines.append(f"| {name} | {held} of {len(kind['rows'])} | {kind['revision'][:7]} | {kind['seconds']} |")
    lines += [f"| {name} | not counted yet | | |" for name in FAULTS if name not in kinds]
    for name, kind in kinds.items():
        lines += ["", f"## {name.capitalize()}", "", "| case | promise | outcome | held |", "|---|---|---|---|"]
        for row in kind["rows"]:
            cells = [str(row[key]).replace("|", "\\|").replace("\n", " ") for key in ("case", "promise", "outcome")]
            lines.append(f"| {' | '.join(cells)} | {'yes' if row['held'] else '**no**'} |")
    return lines


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
