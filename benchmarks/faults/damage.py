"""One bit flipped, a file cut, emptied or deleted: every file of a run, a dataset and a feature cache.

    python benchmarks/faults/damage.py [--count=400] [--seed=0]

A small run, its dataset and a cache are made first. A fault is never silent: the reader refuses the file by its name,
falls back to the checkpoint before with a warning, or finds that the cache has no such entry and computes it again.
Files that jmer writes and does not read back, such as environment.json and the log of epochs, are not counted.
"""

import logging
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
import tiny  # pyright: ignore[reportMissingImports] (of the tests)

import jmer
from benchmarks.faults.outcomes import Row, parser, show
from jmer.base.types import Extracted
from jmer.dataset import store
from jmer.features.audio.lite import MFCC
from jmer.features.cache import Cache
from jmer.runs import directory
from jmer.training import checkpoint

FAULTS: Mapping[str, Callable[[bytes, random.Random], bytes | None]] = {
    "one bit flipped": lambda data, rng: flipped(data, rng),
    "cut": lambda data, rng: data[: rng.randrange(len(data))],
    "emptied": lambda data, rng: b"",
    "deleted": lambda data, rng: None,
}
DESCRIPTIONS = ("config.json", "features.json", "calibration.json")  # what is read of a run besides its checkpoints
SILENT = "read as if it were whole"


def main() -> int:
    args = parser(__doc__, count=400).parse_args()
    return show(f"{args.count} damaged files", rows(count=args.count, seed=args.seed))


def rows(*, count: int = 400, seed: int = 0) -> list[Row]:
    """Returns a row for each kind of file; a quarter of the faults goes to each."""
    rng, each = random.Random(seed), count // 4
    warnings = Warnings()
    logging.getLogger("jmer").addHandler(warnings)
    logging.getLogger("jmer").propagate = False
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            dataset, run = tiny.write_dataset(folder / "data"), folder / "run"
            checkpoint.PAUSE = 0  # every epoch is saved, so that there is one before the latest
            tiny.train(dataset, run, epochs=3)
            directory.RunDirectory(run).write_calibration(directory.Calibration(seeds=(1.5,), vote=1.5))
            cache = Cache(folder / "cache")
            for i in range(20):
                cache.put(f"{i:064x}", MFCC(), Extracted(vector=np.full(MFCC().dim, i, np.float32)))
            described = [run / file for file in DESCRIPTIONS]
            saved = [file for file in (run / "checkpoints").rglob("*") if file.is_file()]
            last = str(checkpoint.latest_epoch(run / "checkpoints"))
            latest = [f for f in saved if f.relative_to(run / "checkpoints").parts[0].split(".")[0] == last]
            packed = [file for file in dataset.iterdir() if file.is_file()]
            cached = [file for file in (folder / "cache").rglob("*") if file.is_file()]

            def entries() -> Any:
                found = [cache.get(f"{i:064x}", MFCC()) for i in range(20)]
                if None in found:
                    raise jmer.UserError("an entry is computed again")
                return [x.vector for x in found if x]

            return [
                attempts("files that describe a run", described, lambda: run_of(run), each, rng, warnings),
                attempts("files of the latest checkpoint", latest, lambda: run_of(run), each, rng, warnings),
                attempts("files of a dataset", packed, lambda: content(dataset), each, rng, warnings),
                attempts("entries of a feature cache", cached, entries, count - 3 * each, rng, warnings),
            ]
    finally:
        logging.getLogger("jmer").removeHandler(warnings)
        logging.getLogger("jmer").propagate = True


class Warnings(logging.Handler):
    """Remembers whether something was said."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


def run_of(run: Path) -> Any:
    """Returns all that prediction reads of a run."""
    opened = directory.load(run)
    return opened.params, opened.stats, opened.calibration.seeds, repr(opened.options), repr(opened.inputs)


def content(dataset: Path) -> Any:
    """Returns all that a dataset holds."""
    opened = store.load(dataset)
    return opened.fingerprint, [
        (d.dialogue_id, d.values) for split in opened.manifest["splits"] for d in opened.split(split)
    ]


def attempts(
    name: str, chosen: list[Path], read: Callable[[], Any], count: int, rng: random.Random, warnings: Warnings
) -> Row:
    """Damages one of the files at a time, reads, and mends the file again."""
    whole, found = read(), Counter[str]()
    for _ in range(count):
        file, (fault, damage) = rng.choice(chosen), rng.choice(list(FAULTS.items()))
        good = file.read_bytes()
        bad = damage(good, rng) if good else None
        warnings.said.clear()
        if bad is None:
            file.unlink()
        else:
            file.write_bytes(bad)
        try:
            outcome = SILENT if same(read(), whole) and (bad != good) else "another result in silence"
            if bad == good:
                outcome = "no fault"
            elif warnings.said:
                outcome = "said, and the one before is used"
            elif outcome == SILENT and fault == "one bit flipped":
                outcome = "the same content"  # such as another blank between two entries of JSON
        except jmer.UserError:
            outcome = "refused by name, or made anew"
        except Exception as error:
            outcome = f"traceback: {type(error).__name__}"
        file.write_bytes(good)
        found[outcome] += 1
    kept = {"no fault", "said, and the one before is used", "the same content", "refused by name, or made anew"}
    told = ", ".join(f"{n} {outcome}" for outcome, n in found.most_common())
    return Row(case=f"{name} ({count})", promise="never silent", outcome=told, held=found.keys() <= kept)


def same(a: Any, b: Any) -> bool:
    """Returns whether two results are equal, bit for bit."""
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def flipped(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


if __name__ == "__main__":
    sys.exit(main())
