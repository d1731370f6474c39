"""Commands of jmer as processes of their own, to which faults are done: started, signalled and looked after."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.faults.outcomes import Row, parser, show
from jmer.base import cli

ROOT = Path(__file__).resolve().parent.parent.parent
SECONDS = 10.0  # in which a command has to leave after a signal


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What came of one signal.

    code: the exit code; negative for a signal; None if the process did not end in time.
    after: seconds between the signal and the end.
    early: whether the signal came before the command could know of it.
    orphans: processes of the command that still ran.
    lost: finished pieces of work that were gone afterwards.
    """

    code: int | None
    after: float
    early: bool
    orphans: int
    lost: int = 0

    @property
    def held(self) -> bool:
        """Whether the command left as it should."""
        return (self.code == cli.EXIT_INTERRUPTED or self.early) and self.after <= SECONDS and not self.orphans


def start(
    program: Sequence[str | Path],
    folder: Path,
    *,
    environment: Mapping[str, str | Path],
    within: Sequence[str] = (),
) -> subprocess.Popen[bytes]:
    """Starts Python in a session of its own.

    Args:
      program: the arguments of Python.
      folder: gets output.txt, to which every command adds, and errors.txt with the errors of the last one.
      environment: what is set besides the environment of this process.
      within: a command that runs another one, such as taskset with its arguments.
    """
    folder.mkdir(parents=True, exist_ok=True)
    given = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}  # the suite simulates devices
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell lets what it starts in its background ignore Ctrl-C, and so would every command that this starts.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with (folder / "output.txt").open("ab") as output, (folder / "errors.txt").open("wb") as errors:
        return subprocess.Popen(
            [*within, sys.executable, *map(str, program)],
            cwd=ROOT,
            env=given | {name: str(value) for name, value in environment.items()},
            stdout=output,
            stderr=errors,
            start_new_session=True,
        )


def on_cores(count: int) -> list[str]:
    """Returns the command that binds another one to so many of the cores that this process may use."""
    return ["taskset", "--cpu-list", ",".join(map(str, sorted(os.sched_getaffinity(0))[:count]))]


def told(folder: Path) -> str:
    """Returns the end of what the commands of a folder have printed, and the errors of the last one."""
    return (folder / "output.txt").read_text()[-3000:] + (folder / "errors.txt").read_text()[-5000:]


def knows_signals(process: subprocess.Popen[bytes]) -> bool:
    """Returns whether a process has a handler for SIGTERM, as jmer's commands have from their first lines on."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:  # it has just ended
        return True
    (caught,) = (line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


def interrupt(process: subprocess.Popen[bytes], number: signal.Signals, *, group: bool) -> Ended:
    """Sends one signal to a process, or to its group as Ctrl-C in a terminal does, and waits for the end."""
    known = knows_signals(process)
    sent = time.monotonic()
    if group:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    try:
        code = process.wait(3 * SECONDS)
    except subprocess.TimeoutExpired:
        code = None
    after = time.monotonic() - sent
    time.sleep(0.3)  # for the kernel, to end the workers of a process that was ended
    orphans = end_session(process)
    return Ended(code=code, after=after, early=not known and code == -number, orphans=orphans)


def end_session(process: subprocess.Popen[bytes]) -> int:
    """Kills what still runs of the session of a process. Returns how many processes those were."""
    left = session(process)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    process.wait()
    return len(left)


def session(process: subprocess.Popen[bytes]) -> list[int]:
    """Returns what still runs of the session of a process."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, number, *_ = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if int(number) == process.pid and state not in "ZX":
            found.append(int(stat.parent.name))
    return found


def interrupted(
    phase: str,
    number: signal.Signals,
    *,
    count: int,
    once: Callable[..., Ended | None],
    anew: Callable[[], None],
) -> Row:
    """Returns the row of so many signals of one kind in one phase of a command.

    Args:
      once: sends one signal, with `group` to the whole group of the process; returns None if the command was done
        before.
      anew: is called then, so that there is something to do again.
    """
    ended: list[Ended] = []
    while len(ended) < count:
        result = once(group=len(ended) % 2 == 1)
        if result is None:
            anew()
        else:
            ended.append(result)
    codes = Counter("before jmer was loaded" if e.early else f"exit code {e.code}" for e in ended)
    slowest = max(e.after for e in ended)
    orphans, lost = sum(e.orphans for e in ended), sum(e.lost for e in ended)
    told = ", ".join(f"{count} {what}" for what, count in codes.most_common())
    return Row(
        case=f"{number.name} during {phase} ({len(ended)})",
        promise="exit code 75 within 10 s, no process left, no finished work lost",
        outcome=f"{told}; at most {slowest:.1f} s; {orphans} processes left; {lost} lost",
        held=all(e.held for e in ended) and not lost,
    )


def count_signals(doc: str | None, title: str, rows: Callable[..., list[Row]], *, phases: Sequence[str]) -> int:
    """The command of a count of signals: --count, --seed and --phase. Returns the exit code."""
    options = parser(doc, count=20)
    options.add_argument("--phase", choices=phases, help="this phase alone")
    args = options.parse_args()
    return show(title, rows(count=args.count, seed=args.seed, phases=[args.phase] if args.phase else phases))
