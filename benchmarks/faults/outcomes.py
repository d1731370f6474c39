"""The rows of the tables of faults: what was promised of a fault, and what came of it."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Row:
    """One fault.

    promise: what should come of it.
    outcome: what came of it, in one line.
    held: whether the promise was kept.
    """

    case: str
    promise: str
    outcome: str
    held: bool


def parser(doc: str | None, *, count: int) -> argparse.ArgumentParser:
    """Returns the options that every count of random faults has. doc: of the script. count: the full one."""
    options = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--count", type=int, default=count)
    options.add_argument("--seed", type=int, default=0)
    return options


def show(title: str, rows: Sequence[Row]) -> int:
    """Prints the rows as a table with their counts. Returns the exit code: 1 if a promise was not kept."""
    held = sum(row.held for row in rows)
    print(f"\n{title}: {held} of {len(rows)} promises held\n\n| | case | promise | outcome |\n|---|---|---|---|")
    for row in rows:
        outcome = row.outcome.replace("|", "\\|")
        print(f"| {'held' if row.held else '**broken**'} | {row.case} | {row.promise} | {outcome} |")
    sys.stdout.flush()
    return int(held < len(rows))
