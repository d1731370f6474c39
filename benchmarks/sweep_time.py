"""How long 16 settings of training take: one command after another, and by jmer.sweep in one program.

    python benchmarks/sweep_time.py --dataset=data/packed/meld-minilm [--epochs=10] [--rounds=1]

The settings are four learning rates by four dropout rates of configs/gat_fusion.py, each trained for all epochs. A row
is the wall time of all of its commands, with their start and compilation. The folder of compiled programs is empty
before each row, so that the second command of jmer.train finds what the first one compiled only where both compile the
same. The last columns are the greatest difference of a setting's dev weighted F1 from that of jmer.train.
"""

import argparse
import csv
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from synthetic import machine, write

RATES, DROPOUTS = ("0.0003", "0.001", "0.003", "0.01"), ("0.1", "0.2", "0.4", "0.6")
Setting = tuple[float, float]


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, help="dataset directory")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=1, help="times that each row is measured, by turns")
    args = parser.parse_args(argv)
    cores = len(os.sched_getaffinity(0))
    shared = [f"--config.dataset={args.dataset}", f"--config.epochs={args.epochs}", f"--config.patience={args.epochs}"]
    ways = {
        "`jmer.train`, one command after another": lambda folder: one_by_one(folder, shared),
        "`jmer.sweep --width=1`": lambda folder: swept(folder, shared, width=1),
        f"`jmer.sweep`, {cores} settings in a program": lambda folder: swept(folder, shared, width=cores),
        "`jmer.sweep --width=16`, all in a program": lambda folder: swept(folder, shared, width=16),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    scores: dict[str, Mapping[Setting, float]] = {}
    for _, (name, way) in itertools.product(range(args.rounds), ways.items()):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            scores[name] = way(Path(folder))
            seconds[name].append(time.perf_counter() - start)
        print(f"{name}: {seconds[name][-1]:.0f} s", flush=True)
    first = next(iter(ways))
    whole = statistics.median(seconds[first])
    lines = ["# Sixteen settings", "", machine(), "", f"{Path(args.dataset).name}, {args.epochs} epochs a setting.", ""]
    lines += ["| way | seconds | times as fast | difference of dev weighted F1, at most |", "|---|---|---|---|"]
    for name in ways:
        median = statistics.median(seconds[name])
        off = max(abs(scores[name][setting] - score) for setting, score in scores[first].items())
        lines.append(f"| {name} | {median:.0f} | {whole / median:.1f} | {off:.4f} |")
    write("sweep_time", lines, {"machine": machine(), "seconds": seconds}, keep=True)
    return 0


def one_by_one(folder: Path, shared: Sequence[str]) -> dict[Setting, float]:
    """Trains each setting by a command of its own; returns the dev weighted F1 of each."""
    found = {}
    for lr, dropout in itertools.product(RATES, DROPOUTS):
        run = folder / f"{lr}-{dropout}"
        own = [f"--config.lr={lr}", f"--config.dropout={dropout}", f"--workdir={run}"]
        command("jmer.train", [*shared, *own], folder)
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        found[float(lr), float(dropout)] = max(line["dev_weighted_f1"] for line in lines)
    return found


def swept(folder: Path, shared: Sequence[str], *, width: int) -> dict[Setting, float]:
    """Tries all settings by one command; returns the dev weighted F1 of each."""
    space = [f"--search=lr={'/'.join(RATES)}", f"--search=dropout={'/'.join(DROPOUTS)}", "--trials=16"]
    command("jmer.sweep", [*shared, *space, f"--width={width}", f"--workdir={folder / 'sweep'}"], folder)
    with (folder / "sweep/trials.csv").open(encoding="utf-8") as file:
        return {
            (float(row["lr"]), float(row["dropout"])): float(row["dev_weighted_f1"]) for row in csv.DictReader(file)
        }


def command(module: str, arguments: Sequence[str], folder: Path) -> None:
    """Runs a command of jmer with a folder of compiled programs of its own."""
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(folder / "compiled")}
    words = [sys.executable, "-m", module, "--config", "configs/gat_fusion.py", "--quiet", *arguments]
    subprocess.run(words, check=True, env=environment, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
