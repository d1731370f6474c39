"""One seed in several processes, on one core and on two: are the parameters the same, bit for bit?

    python benchmarks/faults/determinism.py [--count=3] [--seed=0]

`count` processes train the same model on one core, and as many on two. A process that may use two cores trains one seed
on one device of two threads, and two seeds on two devices. With the same cores, the parameters are one and the same.
With others, XLA shares the sums of large products out in another way, so that the last digits differ and the losses
agree within 1e-5. Every process compiles for itself. GPUs are not tried here. Exits with 1 if a promise was not kept.
"""

import json
import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.faults import commands, trainings
from benchmarks.faults.outcomes import Row, parser, show
from jmer.runs.directory import RunDirectory

# Widths at which XLA shares out single operations among threads.
OPTIONS = {"graph": "gat", "fusion": "gated", "hidden": 256, "batch_utterances": 512, "epochs": 4}
FORMS: Mapping[str, Mapping[str, Any]] = {"one seed": {}, "two seeds": {"seeds": 2}}
CORES = (1, 2)
WITHIN = 1e-5  # that losses agree, where the number of cores differs


def rows(*, count: int = 3, seed: int = 0, options: Mapping[str, Any] = OPTIONS,
         forms: Mapping[str, Mapping[str, Any]] = FORMS) -> list[Row]:  # fmt: skip
    """Returns a row for each form and number of cores, and one that compares the numbers of cores."""
    found = []
    with tempfile.TemporaryDirectory(prefix="jmer-determinism-") as name:
        folder = Path(name)
        lengths = [5 + i % 15 for i in range(60)]
        splits = {
            "train": trainings.tiny.dialogues(lengths, seed=1),
            "dev": trainings.tiny.dialogues([5, 8, 6], seed=2),
        }
        dataset = trainings.write_dataset(folder / "data", splits=splits)
        for form, more in forms.items():
            hashes: dict[int, set[str]] = defaultdict(set)
            runs: dict[int, Path] = {}
            cores = [n for n in CORES if n <= len(os.sched_getaffinity(0))]
            for n in cores:
                for i in range(count):
                    place = folder / f"{form} {n} {i}"
                    chosen = {**options, **more, "seed": seed}
                    training = trainings.Training(run=place / "run", folder=place, dataset=dataset,
                                                  cache=place / "cache", options=chosen)  # fmt: skip
                    if training.start(marked=False, within=commands.on_cores(n)).wait():
                        raise RuntimeError(commands.told(place))
                    hashes[n].add(trainings.digest(trainings.saved(training.run)["params"]))
                    runs[n] = training.run
                found.append(
                    Row(
                        case=f"{form}, {count} processes on {n} core{'s' * (n > 1)}",
                        promise="one SHA-256 of parameters",
                        outcome=f"{len(hashes[n])}: {', '.join(sorted(x[:12] for x in hashes[n]))}",
                        held=len(hashes[n]) == 1,
                    )
                )
            if len(cores) > 1:
                found.append(_compared(form, runs[1], runs[2], equal=hashes[1] == hashes[2]))
    return found


def _compared(form: str, one: Path, two: Path, *, equal: bool) -> Row:
    """Compares a training on one core with one on two."""
    a, b = (jax.tree.leaves(trainings.saved(run)["params"]) for run in (one, two))
    apart = max(float(np.abs(x - y).max()) for x, y in zip(a, b, strict=True))
    losses = [
        np.array([json.loads(line)["train_loss"] for line in RunDirectory(run).metrics.read_text().splitlines()])
        for run in (one, two)
    ]
    loss = float(np.abs(losses[0] - losses[1]).max())
    told = "one SHA-256 of parameters" if equal else f"parameters differ by at most {apart:.1g}, losses by {loss:.1g}"
    return Row(
        case=f"{form}, one core against two",
        promise=f"losses agree within {WITHIN:g}",
        outcome=told,
        held=loss <= WITHIN,
    )


def main() -> int:
    args = parser(__doc__, count=3).parse_args()
    return show("determinism", rows(count=args.count, seed=args.seed))


if __name__ == "__main__":
    sys.exit(main())
