"""What extraction survives: being killed again and again, four processes on one cache, and corpora ever longer.

    python benchmarks/extract_faults.py [--text-model=DIR] [--root=DIR] [--kills=20] [--seed=0]

Kills: the embedded sample is extracted once unbroken, and once by a process that is killed (SIGKILL) at random times
and started again until it is done. Every feature is written down when its computing begins, and every track when it is
decoded, so that the table tells what a kill cost:

    kept       features in the cache after the kill
    computed   features whose computing began in this run; lost: those of them that did not reach the cache
    decoded    tracks decoded in this run; again: those of them that an earlier run had decoded
    rewritten  features that were in the cache before this run and were written once more

Processes: four at once on one empty cache, two of them with one dataset directory. Memory: the peak of extracting short
utterances from a CSV with `lite`. Exits with 1 if the bytes of two datasets differ or a kept feature was rewritten.
"""

import argparse
import csv
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from jmer import extract
from jmer.base import cli, files
from jmer.features import engine, worker

ROOT = Path(__file__).resolve().parent.parent
SIZES = (1_000, 10_000, 40_000)
WORDS = "I you we it this that never really always so great awful happy sad why what oh no yes a the to of me".split()  # noqa: SIM905
_LOG = "JMER_EXTRACT_LOG"
_prepare = worker.prepare

# ---- the process that is watched and killed --------------------------------------------------------------------------


def _write(lines: list[str]) -> None:
    with open(os.environ[_LOG], "a") as file:
        file.write("".join(f"{line}\n" for line in lines))


def _watched_prepare(clip, extractors, *, max_seconds, sha256):
    """As `jmer.features.worker.prepare`, in its worker."""
    prepared = _prepare(clip, extractors, max_seconds=max_seconds, sha256=sha256)
    _write([f"decoded {extractor.modality} {clip}" for extractor in extractors.values()])
    return prepared


class _Watched(engine._Engine):
    def _encode(self, target, group):
        extractor = self.extractors[target]
        batch = self.waiting[target, group][: extractor.batch(group)]
        keys = [key for job, _ in batch if (key := self._key(job, target))]
        _write([f"computed {self.cache._path(key, extractor)}" for key in keys])
        super()._encode(target, group)


def _child(argv: list[str]) -> int:
    """`python -m jmer.extract`, watched; prints its peak memory."""
    engine._Engine, worker.prepare = _Watched, _watched_prepare
    code = cli.run(extract.main, argv)
    status = Path("/proc/self/status").read_text()
    print("peak MiB:", next(int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmHWM")))
    return code


# ---- the three parts -------------------------------------------------------------------------------------------------


def _start(log: Path, **fields: object) -> subprocess.Popen[str]:
    arguments = [f"--config.{name.replace('__', '.')}={value}" for name, value in fields.items()]
    command = [sys.executable, __file__, "--child", f"--config={ROOT / 'configs/extract/lite.py'}", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | {_LOG: str(log)}, start_new_session=True, **pipes)


def _finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate()
    if process.returncode:
        sys.exit(f"extraction ended with {process.returncode}:\n{err}")
    return out


def _hashes(folder: Path) -> dict[str, str]:
    return {file.name: files.sha256(file) for file in folder.iterdir()}


def _entries(cache: Path) -> dict[str, int]:
    """Path of every entry, and when it was written."""
    return {str(p): p.stat().st_mtime_ns for p in cache.rglob("*") if p.is_file() and not p.name.startswith(".")}


def _left(folder: Path) -> int:
    """How many folders of half-written datasets are there."""
    return len(list(folder.glob(".*")))


def _logged(log: Path, what: str) -> Counter[str]:
    lines = log.read_text().splitlines() if log.exists() else []
    return Counter(rest for kind, _, rest in (line.partition(" ") for line in lines) if kind == what)


def _kills(folder: Path, fields: Mapping[str, object], count: int, rng: random.Random) -> tuple[dict[str, str], bool]:
    """Returns the hashes of the unbroken run's dataset, and whether the broken one's are the same."""
    begin = time.monotonic()
    log, cache, out = folder / "whole.log", folder / "whole", folder / "out-whole"
    process = _start(log, cache=cache, out=out, **fields)
    while process.poll() is None and not _entries(cache):
        time.sleep(0.05)
    startup = time.monotonic() - begin
    _finish(process)
    seconds = time.monotonic() - begin
    whole, total = _hashes(out), len(_entries(cache))
    decoded = _logged(log, "decoded").total()
    print(
        f"\nunbroken: {seconds:.0f} s, the first feature after {startup:.0f} s; {total} features, {decoded} decodings\n"
    )

    cache, out = folder / "broken", folder / "out-broken"
    print(f"{'kill':>4}{'after s':>9}{'kept':>7}{'computed':>10}{'lost':>6}{'decoded':>9}{'again':>7}{'rewritten':>11}")
    kept, seen, rewritten = _entries(cache), Counter[str](), 0
    for number in range(1, count + 2):  # the last one is left alone
        log = folder / f"broken{number}.log"
        process = _start(log, cache=cache, out=out, **fields)
        rest = (seconds - startup) * (1 - len(kept) / total)
        # Long enough to get somewhere, short enough that it is not done before the last kill.
        after = rng.uniform(0, 1.5 * startup + rest / (count + 2 - number))
        last = number > count
        try:
            process.wait(None if last else after)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        else:
            last = True
            _finish(process)
        before, kept = kept, _entries(cache)
        computed, tracks = _logged(log, "computed"), _logged(log, "decoded")
        again = sum((seen & tracks).values())
        seen += tracks
        twice = sum(kept[path] != at for path, at in before.items())
        rewritten += twice
        lost = sum((computed - Counter(kept.keys())).values()) if not last else 0
        name, when = ("end", "") if last else (str(number), f"{after:.1f}")
        print(
            f"{name:>4}{when:>9}{len(kept):>7}{computed.total():>10}{lost:>6}{tracks.total():>9}{again:>7}{twice:>11}",
            flush=True,
        )
        if last:
            break
    same = _hashes(out) == whole
    verdict = "byte-identical" if same else "DIFFERS"
    print(f"\ndataset {verdict}; {rewritten} kept features rewritten; folders left behind: {_left(folder)}")
    return whole, same and not rewritten


def _at_once(folder: Path, fields: Mapping[str, object], whole: dict[str, str]) -> bool:
    outs = [folder / f"out-{name}" for name in ("first", "second", "shared", "shared")]
    cache, log = folder / "at-once", folder / "at-once.log"
    for process in [_start(log, cache=cache, out=out, **fields) for out in outs]:
        _finish(process)
    same = sum(_hashes(out) == whole for out in outs)
    print(f"\n{len(outs)} processes at once on one empty cache, two of them writing the same dataset: ", end="")
    print(f"{same} of {len(outs)} byte-identical to the unbroken run's; {len(_entries(cache))} features, ", end="")
    print(f"{_logged(log, 'computed').total()} computed; folders left behind: {_left(folder)}", flush=True)
    return same == len(outs)


def _memory(folder: Path, rng: random.Random) -> None:
    print(f"\n`lite` on short utterances\n\n{'utterances':>10}{'peak MiB':>10}{'s':>8}")
    for size in SIZES:
        table = folder / f"{size}.csv"
        with table.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["dialogue", "utterance", "speaker", "text", "label", "split"])
            for i in range(size):
                text, label = " ".join(rng.choices(WORDS, k=8)), ("joy", "anger")[i % 2]
                writer.writerow([f"d{i // 10}", i % 10, "ab"[i % 3 % 2], text, label, "train"])
        start = time.monotonic()
        where = {"cache": folder / f"cache-{size}", "out": folder / f"out-{size}"}
        process = _start(folder / "memory.log", source="table", root=table, workers=1, **where)
        peak = _finish(process).rpartition("peak MiB: ")[2].strip()
        print(f"{size:>10}{peak:>10}{time.monotonic() - start:>8.0f}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text-model", default="lite", help="as --config.text.model")
    parser.add_argument("--root", default=ROOT / "data/sample", help="clips and tables laid out as MELD's")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    fields = {"source": "meld", "root": args.root, "workers": 2, "text__model": args.text_model}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole, good = _kills(folder, fields, args.kills, rng)
        good = _at_once(folder, fields, whole) and good
        _memory(folder, rng)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(_child(sys.argv[2:]) if sys.argv[1:2] == ["--child"] else main())
