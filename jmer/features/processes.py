"""Worker processes that can be ended one by one: a clip that hangs or crashes costs no other clip anything.

Python's `ProcessPoolExecutor` gives up all tasks when one worker dies, and cannot end a task. Of the libraries that
can, pebble (LGPL) fixes a task's limit of time when the task is handed in, though only the worker learns how long a
recording is. Its workers also share one pipe, which a worker that is killed while it writes leaves broken for all. Here
every worker has a pipe of its own, and asks for the time that its clip may take.
"""

import contextlib
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future, InvalidStateError
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import connection, get_context, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from typing import Any, Literal

from jmer.features import leash

# Seconds until a worker is ready, and until its task asks for time. Meanwhile it imports libraries, and may compile
# librosa, which takes 15 s and waits for other workers that do the same.
_LOADING = 600.0
_TRIES = 2
_STILLBORN = 3  # workers that end before they are ready, one after the other, until the pool gives up
_NEVER = float("inf")


class LostError(Exception):
    """A task took its worker with it, or too long. The message is a short phrase, as that of a `MediaError`."""


_Kind = Literal["ready", "time", "item", "end", "done", "error"]


@dataclass(eq=False)
class _Task:
    """A task and its future.

    call: the pickled function and its arguments.
    tries: how many workers it took with it.
    began, limit: when it first asked for time, and how many seconds it may take since.
    items: what came of its iterator so far.
    """

    future: Future
    call: Any
    tries: int = 0
    began: float | None = None
    limit: float = _LOADING
    items: list[Any] = field(default_factory=list)


@dataclass(eq=False)
class _Worker:
    """A process, its pipe and its task. `deadline`: when it has to be ready or done, by `time.monotonic`."""

    process: Any
    pipe: Connection
    deadline: float
    ready: bool = False
    task: _Task | None = None


class Pool(Executor):
    """Processes that work on one task each, started as needed.

    The result of a task whose function returns an iterator is the list of its items. A task that takes more time than
    it was allowed is ended with its process and fails with `LostError`. A task whose process dies is tried once more,
    while nothing else runs, since another process may have taken the memory. Then it fails with `LostError` too. Every
    task fails with `BrokenProcessPool` if processes cannot even be started.
    """

    def __init__(self, count: int, *, initializer: Callable[[], object]) -> None:
        """count: the most processes. initializer: called in each before its first task; picklable."""
        self._count, self._initializer = count, initializer
        self._context = get_context("spawn")
        self._lock = threading.Lock()
        self._waiting: deque[_Task] = deque()
        self._suspects: deque[_Task] = deque()
        self._workers: list[_Worker] = []
        self._stillborn = 0
        self._ending = False
        self._broken: BrokenProcessPool | None = None
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._woken, False)
        # The kernel ends workers with the thread that started them, so that this thread starts all of them.
        self._thread = threading.Thread(target=self._run, name="worker processes", daemon=True)

    def submit(self, fn: Callable, /, *args: Any, **kwargs: Any) -> Future:
        """Hands in a task. Raises RuntimeError after `shutdown`."""
        future: Future = Future()
        try:
            call = ForkingPickler.dumps((fn, args, kwargs))
        except Exception as error:  # raised where the result is asked for, as a worker's error is
            future.set_exception(error)
            return future
        with self._lock:
            if self._ending:
                raise RuntimeError("the pool has been shut down")
            if self._broken is not None:
                future.set_exception(self._broken)
                return future
            self._waiting.append(_Task(future, call))
            if self._thread.ident is None:
                self._thread.start()
            self._signal()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = True) -> None:
        """Ends all processes at once and cancels what is not done, whatever `wait` and `cancel_futures` are."""
        with self._lock:
            if self._ending:
                return
            self._ending = True
            self._signal()
        if self._thread.ident is not None:
            self._thread.join()
        os.close(self._woken)
        os.close(self._wake)

    def _signal(self) -> None:
        with contextlib.suppress(BlockingIOError):  # the pipe is full of calls to wake up
            os.write(self._wake, b"x")

    # ---- what runs in the pool's own thread

    def _run(self) -> None:
        try:
            # A Ctrl-C reaches the workers too, which inherit this mask. The main process ends them.
            resource_tracker.ensure_running()  # multiprocessing would start it later, and undo the mask
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            while not self._ending:
                self._hand_out()
                self._listen()
                self._end_late()
        except (BrokenProcessPool, OSError) as error:
            self._broken = BrokenProcessPool(str(error))
        except BaseException as error:  # a fault of jmer's own, for which no future may wait for ever
            self._broken = BrokenProcessPool(f"{type(error).__name__}: {error}")
            raise
        finally:
            self._end()

    def _end(self) -> None:
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            _kill(worker)
        with self._lock:
            tasks = [*self._waiting, *self._suspects, *(worker.task for worker in self._workers if worker.task)]
            self._waiting.clear()
        for task in tasks:
            if self._broken is not None:
                _fail(task, self._broken)
            elif not task.future.cancel():
                _fail(task, LostError("was not finished"))

    def _hand_out(self) -> None:
        """Gives tasks to idle workers, and starts workers where there are too few."""
        busy = [worker.task for worker in self._workers if worker.task]
        if any(task.tries for task in busy) or (self._suspects and busy):
            return  # a suspect is alone
        tasks, most = (self._suspects, 1) if self._suspects else (self._waiting, self._count)
        for _ in range(min(len(tasks) + len(busy), most) - len(self._workers)):
            self._start()
        idle = [worker for worker in self._workers if worker.ready and not worker.task]
        while tasks and idle and len(busy) < most:
            with self._lock:
                task = tasks.popleft()
            if task.tries or task.future.set_running_or_notify_cancel():
                self._give(task, idle.pop())
                busy.append(task)

    def _start(self) -> None:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=leash.main, args=(theirs, self._initializer), daemon=True)
        process.start()
        theirs.close()
        self._workers.append(_Worker(process, ours, time.monotonic() + _LOADING))

    def _give(self, task: _Task, worker: _Worker) -> None:
        task.began, task.limit, task.items = None, _LOADING, []
        worker.task, worker.deadline = task, time.monotonic() + _LOADING
        with contextlib.suppress(OSError):  # the worker has just died, which `_listen` finds
            worker.pipe.send_bytes(task.call)

    def _listen(self) -> None:
        """Waits for messages, the end of a worker, a new task, or the next deadline."""
        pipes = {worker.pipe: worker for worker in self._workers}
        deadline = min((worker.deadline for worker in self._workers), default=_NEVER)
        timeout = None if deadline == _NEVER else max(deadline - time.monotonic(), 0)
        for found in connection.wait([self._woken, *pipes], timeout):
            if isinstance(found, Connection):
                self._hear(pipes[found])
            else:
                os.read(self._woken, 1 << 16)

    def _hear(self, worker: _Worker) -> None:
        kind: _Kind
        value: Any
        task = worker.task
        try:
            kind, value = worker.pipe.recv()
        except (EOFError, OSError):
            self._lose(worker)
            return
        except Exception as error:  # what a worker could write, and this process cannot read
            self._give_up(worker, error)
            return
        if kind == "ready":
            worker.ready, worker.deadline, self._stillborn = True, _NEVER, 0
        elif task is None:
            pass
        elif kind == "time":
            task.began = time.monotonic() if task.began is None else task.began
            task.limit, worker.deadline = value, task.began + value
        elif kind == "item":
            task.items.append(value)
        else:
            worker.task, worker.deadline = None, _NEVER
            if kind == "error":
                _fail(task, value)
            else:
                task.future.set_result(task.items if kind == "end" else value)

    def _lose(self, worker: _Worker) -> None:
        """Takes note of a worker that died, and of what it was doing."""
        worker.process.join(1.0)  # its pipe is closed before it has an exit code
        cause = _cause(_kill(worker))
        self._workers.remove(worker)
        if not worker.ready:
            self._stillborn += 1
            if self._stillborn == _STILLBORN:
                raise BrokenProcessPool(f"a worker process {cause} before it began to work")
        if worker.task is None:
            return
        worker.task.tries += 1
        if worker.task.tries < _TRIES:
            self._suspects.append(worker.task)
        else:
            _fail(worker.task, LostError(f"cannot be decoded: a worker process {cause}, and so did a second one"))

    def _end_late(self) -> None:
        """Ends the workers whose task takes too long, or which do not become ready."""
        now = time.monotonic()
        for worker in [worker for worker in self._workers if worker.deadline <= now]:
            if worker.task is None:
                worker.process.kill()
                self._lose(worker)
            else:
                limit = worker.task.limit
                self._give_up(worker, LostError(f"was given up, since decoding takes more than {limit:.0f} s"))

    def _give_up(self, worker: _Worker, error: Exception) -> None:
        """Ends a worker, whose task fails."""
        _kill(worker)
        self._workers.remove(worker)
        if worker.task is not None:
            _fail(worker.task, error)


def _fail(task: _Task, error: BaseException) -> None:
    with contextlib.suppress(InvalidStateError):  # somebody has cancelled the future
        task.future.set_exception(error)


def _kill(worker: _Worker) -> int | None:
    """Ends a worker's process at once. Returns its exit code, or None where the system does not let it end."""
    worker.process.kill()
    worker.process.join(1.0)
    worker.pipe.close()
    return worker.process.exitcode


def _cause(code: int | None) -> str:
    if code is not None and code < 0:
        return f"was ended by signal {-code} ({signal.strsignal(-code)})"
    return f"ended itself with exit code {code}"
