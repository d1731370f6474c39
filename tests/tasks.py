"""Tasks for worker processes, in a module of their own because the workers import it, and a look at processes."""

import ctypes
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jmer.features import leash


class Unreadable(Exception):
    """An exception that can be written by pickle and not be read."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


def nothing() -> None:
    """An initializer."""


def stillborn() -> None:
    """An initializer that ends the process."""
    os._exit(3)


def raises(error: Any) -> None:
    raise error


def raises_unreadable() -> None:
    raise Unreadable(1, 2)


class Unwelcome:
    """A result that the main process cannot read."""

    def __reduce__(self):
        return _fails_in, (os.getpid(),)


def _fails_in(pid: int) -> None:
    if os.getpid() != pid:
        raise ValueError("cannot be read")


def gives_unwelcome() -> Iterator[Any]:
    yield Unwelcome()
    time.sleep(0.3)
    yield 1


def counts(size: int) -> Iterator[int]:
    yield from range(size)


def dies(log: Path, *, how: str, times: int) -> str:
    """Ends its process the first `times` times, and writes down each time."""
    with log.open("a") as file:
        file.write("x")
    if log.stat().st_size <= times:
        match how:
            case "segfault":
                ctypes.string_at(0)
            case "exit":
                os._exit(0)
            case "killed":
                os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


def spans(log: Path, name: str, seconds: float) -> str:
    """Writes down when it begins and ends."""
    leash.allow(30.0)
    for what in ("begin", "end"):
        with log.open("a") as file:
            file.write(f"{what} {name}\n")
        if what == "begin":
            time.sleep(seconds)
    return name


def spans_and_dies(log: Path, died: Path) -> str:
    """The same, after it ended its process once."""
    dies(died, how="killed", times=1)
    return spans(log, "suspect", 1.0)


def hangs(seconds: float) -> None:
    """Never ends, and lets nothing else of Python run in its process."""
    leash.allow(seconds)
    ctypes.PyDLL(None).pause()


def takes(seconds: float, *, allowed: tuple[float, ...]) -> str:
    for limit in allowed:
        leash.allow(limit)
    time.sleep(seconds)
    return "done"


def allocates(mib: int, *, limited: bool = True) -> tuple[int, int]:
    """Returns the process and how many MiB it could allocate."""
    if limited:
        leash.allow(30.0)
    held = []
    try:
        for _ in range(mib // 32):
            held.append(np.empty(32 << 20, np.uint8))
    except MemoryError:
        pass
    return os.getpid(), 32 * len(held)


def is_gone(pid: int, *, within: float = 0.0) -> bool:
    """Says whether a process has ended, or does so within some seconds."""
    end = time.monotonic() + within
    while True:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state in "ZX" or time.monotonic() > end:
            return state in "ZX"
        time.sleep(0.01)
