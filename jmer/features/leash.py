"""A worker process's side: it works on the tasks of `jmer.features.processes`, one at a time and within limits.

The main process ends a worker whose task takes too long. The kernel limits its memory: Linux counts what a process
allocates (RLIMIT_DATA). Other systems do not, so that only time is limited there. Nothing here imports JAX.
"""

import ctypes
import os
import pickle
import resource
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing import connection, parent_process
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

MEMORY = 1 << 30  # bytes that a task may take beyond what its worker held before


class _Leash:
    """A worker's side of the pipe to the main process."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._limited = False  # whether the memory of the running task is limited

    def allow(self, seconds: float) -> None:
        if not self._limited:
            self._limited = True
            _limit_memory(MEMORY)
        self._pipe.send(("time", seconds))

    def serve(self) -> None:
        """Works on tasks until the pipe is closed."""
        self._pipe.send(("ready", None))
        while True:
            try:
                call = self._pipe.recv_bytes()
            except (EOFError, OSError):
                return
            self._limited = False
            _limit_memory(None)
            try:
                self._work(call)
            except Exception as error:
                self._pipe.send(("error", _picklable(error)))

    def _work(self, call: bytes) -> None:
        function, args, kwargs = pickle.loads(call)
        result = function(*args, **kwargs)
        if isinstance(result, Iterator):  # sent piece by piece, so that the worker holds one at a time
            for item in result:
                self._pipe.send(("item", item))
            self._pipe.send(("end", None))
        else:
            self._pipe.send(("done", result))


_leash: _Leash | None = None  # of this process, if it is a worker


def allow(seconds: float) -> None:
    """Sets the time that the worker's task may take from its first call on. The first call also limits its memory.

    In a process that is no worker, this does nothing.
    """
    if _leash is not None:
        _leash.allow(seconds)


def _limit_memory(more: int | None) -> None:
    """Lets this process allocate so many bytes more than now; with None, as many as it was started with."""
    try:
        held = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    except OSError:
        return  # not Linux
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    limits = [limit for limit in (most, -1 if more is None else held + more) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(limits, default=resource.RLIM_INFINITY), most))


def _picklable(error: Exception) -> Exception:
    try:
        pickle.loads(ForkingPickler.dumps(error))  # some exceptions can be written and not read
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def main(pipe: Connection, initializer: Callable[[], object]) -> None:
    """Runs a worker: calls the initializer, then works until the pipe is closed."""
    global _leash
    end_with_parent()
    initializer()
    _leash = _Leash(pipe)
    _leash.serve()


def end_with_parent() -> None:
    """Ends this worker when the main process ends, however it ends and whatever the worker is doing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG

    def wait() -> None:  # on other systems, and for a parent that ended before this
        parent = parent_process()
        if parent is not None:
            connection.wait([parent.sentinel])
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
