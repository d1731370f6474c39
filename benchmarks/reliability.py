"""What jmer promises of faults, counted.

    python benchmarks/reliability.py [--quick]

Each module of benchmarks/faults counts one kind of fault and can be run by itself. This script runs all of them in full
counts, or with --quick in a tenth, and writes the table to benchmarks/results. It exits with 1 if a promise was not
kept.
"""

import argparse
import sys
from collections.abc import Callable, Sequence

from synthetic import machine, write

from benchmarks.faults import archives, clips, damage, downloads, extraction_signals
from benchmarks.faults.outcomes import Row

FAULTS: dict[str, Callable[[int], list[Row]]] = {
    "damaged files": lambda tenths: damage.rows(count=40 * tenths),
    "hostile archives": lambda tenths: archives.rows(),
    "download servers": lambda tenths: downloads.rows(),
    "mutated clips": lambda tenths: clips.rows(count=100 * tenths),
    "signals to an extraction": lambda tenths: extraction_signals.rows(count=2 * tenths),
}


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the counts; writes nothing")
    args = parser.parse_args(argv)
    found = {}
    for name, rows in FAULTS.items():
        found[name] = rows(1 if args.quick else 10)
        print(f"{name}: {sum(row.held for row in found[name])} of {len(found[name])} promises held", flush=True)
    lines = ["# Reliability", "", machine(), ""]
    for name, rows in found.items():
        lines += [f"## {name.capitalize()}", "", "| case | promise | outcome | held |", "|---|---|---|---|"]
        lines += [f"| {r.case} | {r.promise} | {r.outcome} | {'yes' if r.held else '**no**'} |" for r in rows]
        lines.append("")
    write("reliability", lines, {"machine": machine(), "rows": {n: [vars(r) for r in x] for n, x in found.items()}},
          keep=not args.quick)  # fmt: skip
    return int(not all(row.held for rows in found.values() for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
