"""Broken, absurd and hostile clips, and what extraction makes of each.

    python benchmarks/faults/clips.py [--count=1000] [--seed=0]

Mutants of the sample's clips, and of those in ../shared/datasets where they are, are extracted together with special
clips, with clips that make the decoder crash, hang, raise or take all memory, and with fine clips among them. The
promise: the command ends as always. A clip that cannot be read is `failed` or `degraded` in its own row, with a reason.
Fine clips have the features that they have alone. A clip takes at most 30 s and 1 GiB beyond what its worker held
before. Exits with 1 if a promise was not kept.

The command runs as it is. Only its workers are watched: they import this file, which writes down when a clip begins and
ends, and does what the name of a poisoned clip says.
"""

import csv
import ctypes
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import av
import numpy as np

from benchmarks.faults.clip_cases import Special, mutants, specials, tone, wav
from benchmarks.faults.outcomes import Row, parser, show
from jmer import extract
from jmer.base import cli
from jmer.base.types import MODALITIES
from jmer.corpora.table import COLUMNS
from jmer.dataset import store
from jmer.features import leash, worker
from jmer.media import decoding

ROOT = Path(__file__).resolve().parent.parent.parent
DATASETS = ROOT.parent / "shared/datasets"
SECONDS, SLACK = 30.0, 5.0  # the slack is for starting the process that takes note, on a busy machine
_LOG = "JMER_CLIPS_LOG"


# ---- the workers -----------------------------------------------------------------------------------------------------


class _Odd(Exception):
    """An exception that can be written by pickle and not be read."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


def _raise(error: BaseException) -> NoReturn:
    raise error


def _all_memory() -> None:
    held = []
    while True:
        held.append(np.ones(32 << 20, np.uint8))


def _recursion() -> None:
    _recursion()


POISONS: Mapping[str, Callable[[], Any]] = {
    "segfault": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "exit": lambda: os._exit(0),
    "sysexit": lambda: sys.exit("enough"),
    "interrupt": lambda: _raise(KeyboardInterrupt()),
    "hang": lambda: time.sleep(1e6),
    "hanglocked": lambda: ctypes.PyDLL(None).pause(),  # nothing else of Python runs meanwhile
    "spin": lambda: next(filter(None, iter(int, 1))),
    "memory": _all_memory,
    "recursion": _recursion,
    "unicode": lambda: b"\xff".decode(),
    "value": lambda: _raise(ValueError("a\nb" * 1000)),
    "odd": lambda: _raise(_Odd(1, 2)),
    "os": lambda: _raise(OSError(5, "Input/output error")),
    "stop": lambda: _raise(StopIteration()),
    "assert": lambda: _raise(AssertionError()),
}
_decode, _prepare = decoding.decode, worker.prepare


def _poisoned_decode(path: Path, **options: Any) -> Any:
    kind, _, rest = path.stem.partition("_")
    if kind == "poison":
        POISONS[rest]()
    return _decode(path, **options)


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) << 10


def _watched_prepare(clip: Path, extractors: Any, **options: Any) -> Any:
    for extractor in extractors.values():
        extractor.load()
    Path("/proc/self/clear_refs").write_text("5")  # the peak of memory begins anew
    held, begin = _status("VmRSS:"), time.monotonic()
    _write("begin", clip, begin)
    prepared = _prepare(clip, extractors, **options)
    _write("end", clip, time.monotonic() - begin, _status("VmHWM:") - held)
    return prepared


def _write(*words: object) -> None:
    with open(os.environ[_LOG], "a") as file:
        file.write(" ".join(map(str, (os.getpid(), *words))) + "\n")


if __name__ == "__mp_main__":
    decoding.decode, worker.prepare = _poisoned_decode, _watched_prepare


# ---- the clips -------------------------------------------------------------------------------------------------------


def _sources(folder: Path) -> list[Path]:
    """Returns clips of several formats; those that are not at hand are written into `folder`."""
    sample = sorted((ROOT / "data/sample").rglob("*.mp4"))[::30]
    made = [folder / name for name in ("a.mkv", "a.ts", "a.wav", "a.mp3")]
    for path in made[:2]:
        with av.open(str(sample[0])) as given, av.open(str(path), "w") as container:
            streams = {stream: container.add_stream_from_template(stream) for stream in given.streams}
            for packet in given.demux():
                if packet.dts is not None:
                    packet.stream = streams[packet.stream]
                    container.mux(packet)
    made[2].write_bytes(wav(tone(2), rate=16_000))
    with av.open(str(made[2])) as given, av.open(str(made[3]), "w") as container:
        stream = container.add_stream("mp3", rate=16_000)
        for frame in given.decode(audio=0):
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    names = ("grid/*.mpg", "ravdess/clips/*.mp4", "ravdess/speech_16k_flac/**/*.flac")
    return [*sample, *made, *(path for name in names for path in sorted(DATASETS.glob(name))[:3])]


def write_clips(folder: Path, count: int, rng: random.Random) -> dict[str, tuple[Path, Special | None]]:
    """Writes the clips. Returns their paths and, of special clips, what is promised, by kind and number."""
    apart = folder / "sources"
    apart.mkdir()
    fine = sorted((ROOT / "data/sample").rglob("*.mp4"))
    clips: dict[str, tuple[Path, Special | None]] = {}
    for number in range(count // 10):
        path = folder / f"fine_{number}.mp4"
        clips[f"fine {number}"] = Path(shutil.copy(fine[number % len(fine)], path)), None
    bad = 0
    for case in specials(fine[0]):
        path = folder / f"special_{bad}.mp4"
        case.write(path)
        clips[f"{case.name} {bad}"], bad = (path, case), bad + 1
    for name in POISONS:
        path = folder / f"poison_{name}.mp4"
        path.write_bytes(
            fine[0].read_bytes() + b"\0\0\0\x0cfree%4d" % bad
        )  # a content of its own, or the cache knows it
        clips[f"poison: {name} {bad}"], bad = (path, None), bad + 1
    for kind, suffix, content in mutants(_sources(apart), rng):
        if bad >= count:
            return clips
        path = folder / f"mutant_{bad}{suffix}"
        path.write_bytes(content)
        clips[f"{kind} {bad}"], bad = (path, None), bad + 1
    raise AssertionError("mutants come without end")


def _table(path: Path, names: Sequence[str], clips: Mapping[str, tuple[Path, Special | None]]) -> None:
    """Writes a table of the clips, 5 to a dialogue; an utterance is named by its clip's number."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list[str](COLUMNS))
        writer.writeheader()
        for i, name in enumerate(names):
            row = {"dialogue": f"d{i // 5}", "utterance": name, "speaker": "ab"[i % 2], "text": name, "split": "train"}
            writer.writerow(row | {"label": ("joy", "anger")[i % 2], "clip": clips[name][0]})


def _meld(folder: Path, cases: Sequence[Special]) -> None:
    """Writes the special clips as a corpus like MELD, whose reader hands pipes and devices on to extraction."""
    clips = folder / "train_splits"
    clips.mkdir(parents=True)
    columns = "Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,StartTime,EndTime"
    lines = [f'{c.name.split()[-1]},A,joy,positive,0,{i},"00:00:00,000","00:20:00,000"' for i, c in enumerate(cases)]
    (folder / "train_sent_emo.csv").write_text("\n".join([columns, *lines, ""]))
    for i, case in enumerate(cases):
        case.write(clips / f"dia0_utt{i}.mp4")


# ---- the command -----------------------------------------------------------------------------------------------------


def _extract(folder: Path, **fields: object) -> tuple[int, float]:
    """Runs the command. Returns its exit code and how long it took."""
    arguments = [f"--config.{name}={value}" for name, value in ({"cache": folder / "cache"} | fields).items()]
    command = [sys.executable, __file__, "--child", f"--config={ROOT / 'configs/extract/lite.py'}", *arguments]
    begin = time.monotonic()
    with (folder / "output.txt").open("w") as output:
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | {_LOG: str(folder / "log")}, stdout=output, stderr=output, check=False
        )
    if done.returncode:
        print((folder / "output.txt").read_text()[-3000:], file=sys.stderr)
    return done.returncode, time.monotonic() - begin


def _figures(log: Path) -> tuple[dict[str, float], dict[str, int], Counter[str]]:
    """Returns the seconds and the bytes that each clip took, where it came to an end, and how often each was begun."""
    seconds: dict[str, float] = {}
    peaks: dict[str, int] = {}
    tries: Counter[str] = Counter()
    for line in log.read_text().splitlines():
        _, what, clip, figure, *peak = line.split()
        if what == "begin":
            tries[Path(clip).stem] += 1
        else:
            seconds[Path(clip).stem] = float(figure)
            peaks[Path(clip).stem] = int(peak[0])
    return seconds, peaks, tries


def _vectors(dataset: store.Dataset) -> dict[str, dict[str, bytes | None]]:
    return {
        name.partition("_")[2]: {m: d.values[m][i].tobytes() if d.present[m][i] else None for m in MODALITIES}
        for d in dataset.split("train")
        for i, name in enumerate(d.utterance_ids)
    }


def rows(*, count: int = 1000, seed: int = 0) -> list[Row]:
    """Extracts `count` bad clips and a tenth as many fine ones."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="jmer-clips-") as name:
        folder = Path(name)
        clips = write_clips(folder, count, rng)
        names = list(clips)
        fine = [name for name in names if name.startswith("fine")]
        _table(folder / "fine.csv", fine, clips)
        code, _ = _extract(folder, source="table", root=folder / "fine.csv", out=folder / "alone", workers=2)
        assert code == 0
        alone = _vectors(store.load(folder / "alone"))
        shutil.rmtree(folder / "cache")
        (folder / "log").unlink()
        rng.shuffle(names)
        _table(folder / "all.csv", names, clips)
        code, took = _extract(folder, source="table", root=folder / "all.csv", out=folder / "out", workers=2)
        if code:
            return [
                Row(case="all clips", promise="the command ends as always", outcome=f"exit code {code}", held=False)
            ]
        dataset = store.load(folder / "out")
        found = _by_kind(clips, dataset, *_figures(folder / "log"))
        together = _vectors(dataset)
        same = sum(together[name] == alone[name] for name in fine)
        outcome = f"{same} of {len(fine)} have the same features as without the others"
        found.append(Row(case="fine clips among them", promise="bit for bit", outcome=outcome, held=same == len(fine)))
        outcome = f"exit code 0 and {len(together)} rows after {took:.0f} s"
        found.append(Row(case="all clips", promise="ends", outcome=outcome, held=len(together) == len(clips)))
        return [*found, _meld_row(folder / "meld", specials(next((ROOT / "data/sample").rglob("*.mp4"))))]


def _by_kind(
    clips: Mapping[str, tuple[Path, Special | None]],
    dataset: store.Dataset,
    seconds: Mapping[str, float],
    peaks: Mapping[str, int],
    tries: Mapping[str, int],
) -> list[Row]:
    rows = {row["utterance"].partition("_")[2]: row for row in dataset.manifest["rows"]}
    kinds: dict[str, list[str]] = {}
    for name in clips:
        kind = name.rpartition(" ")[0]
        if kind != "fine":
            kinds.setdefault(kind, []).append(name)
    found = []
    for kind, members in kinds.items():
        statuses, wrong = Counter[str](), []
        slowest, most = 0.0, 0
        for name in members:
            path, case = clips[name]
            row = rows[name]
            statuses[row["status"]] += 1
            limit = max(SECONDS, worker.time_for(path.stat().st_size, seconds=3600)) if path.is_file() else SECONDS
            slowest, most = max(slowest, seconds.get(path.stem, 0.0)), max(most, peaks.get(path.stem, 0))
            wrong += ["no reason"] * (row["status"] != "ok" and not row["reason"])
            wrong += [f"began {tries.get(path.stem)} times"] * (tries.get(path.stem, 0) > 2)
            wrong += ["too slow"] * (seconds.get(path.stem, 0.0) > limit + SLACK)
            wrong += ["too much memory"] * (peaks.get(path.stem, 0) > leash.MEMORY + (64 << 20))
            if kind.startswith("poison"):
                wrong += ["not failed"] * (row["status"] != "failed")
            if case is not None and path.is_file():
                wrong += [row["status"]] * (row["status"] not in case.statuses) + ["reason"] * (
                    case.says not in row["reason"]
                )
        lost = sum("a worker process" in rows[name]["reason"] for name in members)
        counted = ", ".join(f"{number} {status}" for status, number in sorted(statuses.items()))
        told = f"{lost} crashed a worker" if lost else ""
        told = rows[members[0]]["reason"][:110] if len(members) == 1 else told
        outcome = f"{counted}; at most {slowest:.1f} s, {most >> 20} MiB{'; ' if told else ''}{told}"
        promise = "its own row, 30 s, 1 GiB" if "poison" not in kind else "fails alone"
        case = f"{kind} ({len(members)})" if len(members) > 1 else kind
        found.append(Row(case=case, promise=promise, outcome="; ".join([*wrong[:3], outcome]), held=not wrong))
    return found


def _meld_row(folder: Path, cases: Sequence[Special]) -> Row:
    _meld(folder, cases)
    code, took = _extract(folder, source="meld", root=folder, out=folder / "out", workers=2)
    wrong = [f"exit code {code}"] if code else []
    if not code:
        for row, case in zip(store.load(folder / "out").manifest["rows"], cases, strict=True):
            good = row["status"] in case.statuses and case.says in row["reason"]
            good = good or "mis-cut" in row["reason"]  # of the clips of minutes and hours
            wrong += [] if good else [f"{case.name}: {row['status']} {row['reason']}"]
    outcome = "; ".join(wrong) or f"{len(cases)} rows after {took:.0f} s"
    return Row(case="special clips in MELD's folder", promise="each its status", outcome=outcome, held=not wrong)


def main() -> int:
    args = parser(__doc__, count=1000).parse_args()
    return show(f"{args.count} bad clips", rows(count=args.count, seed=args.seed))


if __name__ == "__main__":
    sys.exit(cli.run(extract.main, sys.argv[2:]) if sys.argv[1:2] == ["--child"] else main())
