"""What the guards against faults cost: extraction, training and loading, before they were built and now, in one run.

    python benchmarks/guard_price.py [--before=89bed23] [--rounds=5]

`before` is a revision of this repository; 89bed23 is the last one without hashes of files, processes that guard clips
and checks of every epoch. The revisions take turns, each in processes of its own, on the embedded sample:

    extraction   jmer.extract of the 312 clips with configs/extract/lite.py and an empty cache
    epoch        an epoch of configs/gat_fusion.py with its share of the checkpoints: 60 epochs after the first one
    load         jmer.load of the run, in a process that has loaded it once before; the median of five processes
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from synthetic import machine, spread, write

ROOT = Path(__file__).resolve().parent.parent
EPOCHS, LOADS, PROCESSES = 60, 20, 5
LOAD = f"""
import json, sys, time
import jmer
seconds = []
for _ in range({LOADS + 1}):
    start = time.perf_counter()
    jmer.load(sys.argv[1])
    seconds.append(time.perf_counter() - start)
print(json.dumps(seconds[1:]))
"""


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", default="89bed23", help="revision to compare with")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        old = Path(folder) / "before"
        subprocess.run(["git", "-C", str(ROOT), "worktree", "add", "-q", "--detach", str(old), args.before], check=True)
        try:
            found = measured({"before": old, "now": ROOT}, Path(folder), rounds=args.rounds)
        finally:
            subprocess.run(["git", "-C", str(ROOT), "worktree", "remove", "--force", str(old)], check=True)
    lines = [
        "# The price of the guards",
        "",
        machine(),
        "",
        f"Before: {args.before}. Medians of {args.rounds} rounds.",
        "",
    ]
    lines += ["| what | before, s | now, s | now / before |", "|---|---|---|---|"]
    for what, each in found.items():
        ratio = statistics.median(each["now"]) / statistics.median(each["before"])
        lines.append(f"| {what} | {spread(each['before'])} | {spread(each['now'])} | {ratio:.3f} |")
    write("guard_price", lines, {"machine": machine(), "seconds": found}, keep=True)
    return 0


def measured(trees: Mapping[str, Path], folder: Path, *, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Returns the seconds of every round: what was measured -> which revision -> seconds.

    The first round fills the folders of compiled programs and is not counted.
    """
    found: dict[str, dict[str, list[float]]] = {
        what: {name: [] for name in trees} for what in ("extraction", "epoch", "load")
    }
    for number in range(rounds + 1):
        for name, tree in trees.items():
            place = folder / f"{name}-{number}"
            seconds = {
                "extraction": extraction(tree, place, folder / f"compiled-{name}"),
                "epoch": epoch(tree, place, folder / f"compiled-{name}"),
                "load": load(tree, place, folder / f"compiled-{name}"),
            }
            print(number, name, seconds, flush=True)
            for what, value in seconds.items() if number else ():
                found[what][name].append(value)
    return found


def extraction(tree: Path, place: Path, compiled: Path) -> float:
    start = time.perf_counter()
    words = ["-m", "jmer.extract", "--config", "configs/extract/lite.py", "--config.source=sample"]
    run(tree, [*words, f"--config.out={place / 'dataset'}", f"--config.cache={place / 'features'}"], compiled)
    return time.perf_counter() - start


def epoch(tree: Path, place: Path, compiled: Path) -> float:
    """Returns the seconds of an epoch: the time from the first checkpoint to the end of training, by the epochs."""
    words = ["-m", "jmer.train", "--config", "configs/gat_fusion.py", f"--config.dataset={place / 'dataset'}"]
    words += [f"--config.patience={EPOCHS + 1}", f"--workdir={place / 'run'}"]
    run(tree, [*words, "--config.epochs=1"], compiled)
    start = time.perf_counter()
    run(tree, [*words, "--config.epochs=1"], compiled)  # loads, finds nothing to do, and scores
    idle = time.perf_counter() - start
    start = time.perf_counter()
    run(tree, [*words, f"--config.epochs={EPOCHS + 1}"], compiled)
    return (time.perf_counter() - start - idle) / EPOCHS


def load(tree: Path, place: Path, compiled: Path) -> float:
    """Returns the seconds of a load. A process has an address space of its own, and with it a speed of its own."""
    each = [json.loads(run(tree, ["-c", LOAD, str(place / "run")], compiled)) for _ in range(PROCESSES)]
    return statistics.median(map(statistics.median, each))


def run(tree: Path, words: Sequence[str], compiled: Path) -> str:
    """Runs Python on the code of a revision, with its folder of compiled programs; returns what it printed last."""
    environment = os.environ | {"PYTHONPATH": str(tree), "JMER_CACHE": str(compiled)}
    done = subprocess.run(
        [sys.executable, *words], cwd=tree, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip().splitlines()[-1]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
