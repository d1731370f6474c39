"""SIGTERM and SIGINT to a running extraction, at random instants.

    python benchmarks/faults/extraction_signals.py [--count=20] [--seed=0]

Each phase of an extraction gets `count` of each signal, in turn to the process alone and to its process group, which is
what Ctrl-C in a terminal does. The promise: exit code 75 within 10 s, no worker left, and no finished feature lost. A
signal that comes before Python has loaded jmer ends the process as it ends any other. At the end, the command is run
until it is done and has to write the same bytes as an unbroken one. Exits with 1 if a promise was not kept.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.faults.outcomes import Row, parser, show
from jmer import extract
from jmer.base import cli, files
from jmer.features import engine

ROOT = Path(__file__).resolve().parent.parent.parent
PHASES = ("start-up", "decoding", "encoding")
SECONDS = 10.0
_MARK = "JMER_SIGNALS_MARK"


class _Marked(engine._Engine):
    """Writes to a file whenever a batch is encoded."""

    def _encode(self, target, group):
        with open(os.environ[_MARK], "a") as file:
            file.write("x")
        super()._encode(target, group)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What came of one signal.

    code: the exit code; negative for a signal.
    after: seconds between the signal and the end.
    early: whether the signal came before the command could know of it.
    """

    code: int
    after: float
    early: bool
    orphans: int
    lost: int


def _start(folder: Path, *, marked: bool) -> subprocess.Popen[bytes]:
    fields = {"source": "meld", "root": ROOT / "data/sample", "workers": 2, "cache": folder / "cache"}
    arguments = [f"--config.{name}={value}" for name, value in (fields | {"out": folder / "out"}).items()]
    program = [__file__, "--child"] if marked else ["-m", "jmer.extract"]
    with (folder / "output.txt").open("ab") as output:
        return subprocess.Popen(
            [sys.executable, *program, f"--config={ROOT / 'configs/extract/lite.py'}", *arguments],
            cwd=ROOT,
            env=os.environ | {_MARK: str(folder / "mark")},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def _entries(cache: Path) -> dict[Path, int]:
    found = [path for path in cache.glob("*/*/*") if not path.name.startswith(".")]
    return {path: path.stat().st_mtime_ns for path in found}


def _session(number: int) -> list[int]:
    """Returns the processes of a session that still run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session, *_ = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(session) == number and state not in "ZX":
            found.append(int(stat.parent.name))
    return found


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
) -> Ended | None:
    """Starts the command, sends it one signal, and waits for its end; None if it was done before."""
    begin = time.monotonic()
    process = _start(folder, marked=phase == "encoding")
    _wait(phase, folder, process, rng, startup=startup)
    kept = _entries(folder / "cache")
    if process.poll() is not None or (folder / "out").exists():
        process.wait()
        return None
    sent = time.monotonic()
    if group:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    try:
        code = process.wait(3 * SECONDS)
    except subprocess.TimeoutExpired:
        code = 0
    after = time.monotonic() - sent
    time.sleep(0.3)  # for the kernel, to end the workers of a process that was ended
    left = _session(process.pid)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    now = _entries(folder / "cache")
    lost = sum(now.get(path) != written for path, written in kept.items())
    early = code == -number and sent - begin < startup / 2
    return Ended(code=code, after=after, early=early, orphans=len(left), lost=lost)


def _row(phase: str, number: signal.Signals, ended: Sequence[Ended]) -> Row:
    codes = Counter("before jmer was loaded" if e.early else f"exit code {e.code}" for e in ended)
    slowest = max(e.after for e in ended)
    orphans, lost = sum(e.orphans for e in ended), sum(e.lost for e in ended)
    told = ", ".join(f"{count} {what}" for what, count in codes.most_common())
    return Row(
        case=f"{number.name} during {phase} ({len(ended)})",
        promise="exit code 75 within 10 s, no worker left",
        outcome=f"{told}; at most {slowest:.1f} s; {orphans} workers left; {lost} features lost",
        held=all((e.code == cli.EXIT_INTERRUPTED or e.early) and e.after <= SECONDS for e in ended)
        and not orphans
        and not lost,
    )


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
                ended: list[Ended] = []
                while len(ended) < count:
                    group = len(ended) % 2 == 1
                    result = once(phase, number, folder, rng, group=group, startup=startup)
                    if result is None:  # the corpus is done, and has to begin anew
                        _clear(folder)
                    else:
                        ended.append(result)
                found.append(_row(phase, number, ended))
        process = _start(folder, marked=False)
        code = process.wait()
        same = code == 0 and _hashes(folder / "out") == _hashes(whole / "out")
        outcome = "the same bytes as an unbroken run's" if same else f"exit code {code}, other bytes"
        found.append(Row(case="the command once more", promise="the same dataset", outcome=outcome, held=same))
        if not all(row.held for row in found):
            print((folder / "output.txt").read_text()[-5000:], file=sys.stderr)
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
    options = parser(__doc__, count=20)
    options.add_argument("--phase", choices=PHASES, help="this phase alone")
    args = options.parse_args()
    phases = [args.phase] if args.phase else PHASES
    return show("signals to extraction", rows(count=args.count, seed=args.seed, phases=phases))


if __name__ == "__main__":
    sys.exit(_child(sys.argv[2:]) if sys.argv[1:2] == ["--child"] else main())
