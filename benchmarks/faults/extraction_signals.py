"""SIGTERM and SIGINT to a running extraction, at random instants.

    python benchmarks/faults/extraction_signals.py [--count=20] [--seed=0]

Each phase of an extraction gets `count` of each signal, in turn to the process alone and to its process group, which is
what Ctrl-C in a terminal does. The promise: exit code 75 within 10 s, no worker left, and no finished feature lost. A
signal that comes before Python has loaded jmer ends the process as it ends any other. At the end, the command is run
until it is done and has to write the same bytes as an unbroken one. Exits with 1 if a promise was not kept.
"""

import functools
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.faults import commands
from benchmarks.faults.outcomes import Row
from jmer import extract
from jmer.base import cli, files
from jmer.features import engine

PHASES = ("start-up", "decoding", "encoding")
_MARK = "JMER_SIGNALS_MARK"


class _Marked(engine._Engine):
    """Writes to a file whenever a batch is encoded."""

    def _encode(self, target, group):
        with open(os.environ[_MARK], "a") as file:
            file.write("x")
        super()._encode(target, group)


def _start(folder: Path, *, marked: bool) -> subprocess.Popen[bytes]:
    fields = {"source": "meld", "root": commands.ROOT / "data/sample", "workers": 2, "cache": folder / "cache"}
    arguments = [f"--config.{name}={value}" for name, value in (fields | {"out": folder / "out"}).items()]
    program = [__file__, "--child"] if marked else ["-m", "jmer.extract"]
    return commands.start(
        [*program, f"--config={commands.ROOT / 'configs/extract/lite.py'}", *arguments],
        folder,
        environment={_MARK: folder / "mark"},
    )


def _entries(cache: Path) -> dict[Path, int]:
    found = [path for path in cache.glob("*/*/*") if not path.name.startswith(".")]
    return {path: path.stat().st_mtime_ns for path in found}


def _wait(phase: str, folder: Path, process: subprocess.Popen[bytes], rng: random.Random, *, startup: float) -> None:
    """Waits for a random instant of the phase."""
    mark = folder / "mark"
    if phase == "start-up":
        time.sleep(rng.uniform(0, startup))
        return
    kept = len(_entries(folder / "cache"))
    while process.poll() is None and len(_entries(folder / "cache")) == kept:
        time.sleep(0.002)
    time.sleep(rng.uniform(0, 1.0))
    if phase == "encoding":
        size = mark.stat().st_size if mark.exists() else 0
        while process.poll() is None and (not mark.exists() or mark.stat().st_size == size):
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.03))


def once(
    phase: str, number: signal.Signals, folder: Path, rng: random.Random, *, group: bool, startup: float
) -> commands.Ended | None:
    """Starts the command, sends it one signal, and waits for its end; None if it was done before."""
    process = _start(folder, marked=phase == "encoding")
    _wait(phase, folder, process, rng, startup=startup)
    kept = _entries(folder / "cache")
    if process.poll() is not None or (folder / "out").exists():
        process.wait()
        return None
    ended = commands.interrupt(process, number, group=group)
    now = _entries(folder / "cache")
    return replace(ended, lost=sum(now.get(path) != written for path, written in kept.items()))


def rows(*, count: int = 20, seed: int = 0, phases: Sequence[str] = PHASES) -> list[Row]:
    """Sends `count` of each signal in each phase."""
    rng, found = random.Random(seed), []
    with tempfile.TemporaryDirectory(prefix="jmer-signals-") as name:
        whole = Path(name) / "whole"
        whole.mkdir()
        begin = time.monotonic()
        process = _start(whole, marked=False)
        while process.poll() is None and not _entries(whole / "cache"):
            time.sleep(0.01)
        startup = time.monotonic() - begin
        assert process.wait() == 0
        folder = Path(name) / "broken"
        folder.mkdir()
        for phase in phases:
            for number in (signal.SIGTERM, signal.SIGINT):
                sent = functools.partial(once, phase, number, folder, rng, startup=startup)
                anew = functools.partial(_clear, folder)
                found.append(commands.interrupted(phase, number, count=count, once=sent, anew=anew))
        process = _start(folder, marked=False)
        code = process.wait()
        same = code == 0 and _hashes(folder / "out") == _hashes(whole / "out")
        outcome = "the same bytes as an unbroken run's" if same else f"exit code {code}, other bytes"
        found.append(Row(case="the command once more", promise="the same dataset", outcome=outcome, held=same))
        if not all(row.held for row in found):
            print(commands.told(folder), file=sys.stderr)
    return found


def _clear(folder: Path) -> None:
    for entry in _entries(folder / "cache"):
        entry.unlink()
    for file in (folder / "out").glob("*"):
        file.unlink()
    if (folder / "out").exists():
        (folder / "out").rmdir()


def _hashes(folder: Path) -> dict[str, str]:
    return {file.name: files.sha256(file) for file in folder.iterdir()}


def _child(argv: list[str]) -> int:
    engine._Engine = _Marked
    sys.argv = [sys.argv[0], *argv]
    return cli.run(extract.main)


def main() -> int:
    return commands.count_signals(__doc__, "signals to extraction", rows, phases=PHASES)


if __name__ == "__main__":
    sys.exit(_child(sys.argv[2:]) if sys.argv[1:2] == ["--child"] else main())
