"""Ctrl-C and SIGTERM as an interruption of a command that cannot be lost.

Python's handler raises KeyboardInterrupt in whatever the main thread does at that instant. Python drops an exception
that is raised within a finaliser or a callback of the garbage collector, of which JAX has one, and some code catches
all exceptions. While compiled code runs, no handler runs at all. A thread therefore repeats the signal until the
exception has taken effect, and ends the process if that takes too long.
"""

import atexit
import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

EXIT_INTERRUPTED = 75
MESSAGE = "interrupted; finished work is kept: run the same command again to continue"

_AGAIN = 0.2  # seconds between repetitions
# Seconds that a command has to leave by itself. Those who stop jobs wait for 10 s at the least before they kill.
_PATIENCE = 8.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """What became of the signals to a command.

    signalled: whether one came.
    """

    def __init__(self) -> None:
        self.signalled = False
        self._over = threading.Event()

    def over(self) -> None:
        """Is told that the command has ended. Later signals change nothing."""
        self._over.set()

    def at_exit(self) -> None:
        """Is called when the interpreter ends, after the hooks that the command has registered.

        What is left is to take down modules and objects. That gives signals their default back, which replaces the exit
        code. After an interruption it is left out, because libraries in C++ were cut off anywhere: JAX whose compiler
        was interrupted ends the process by a segmentation fault.
        """
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        if self.signalled:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(Exception):
                    stream.flush()
            _end_process()

    def handle(self, number: int, frame: FrameType | None) -> None:
        """The handler: raises KeyboardInterrupt, unless one that was raised before is being cleaned up after."""
        if not self._over.is_set():
            self.signalled = True
            if not _is_unwinding():
                raise KeyboardInterrupt

    def watch(self, signals: int, *, ends_process: bool) -> None:
        """Waits for a signal, and then for its effect.

        Args:
          signals: a pipe in which the numbers of signals arrive, whatever the main thread does; closed at the end.
          ends_process: as in `caught`.
        """
        number = 0
        while number not in _SIGNALS:
            read = os.read(signals, 1)
            if not read:
                return
            number = read[0]
        deadline, main = time.monotonic() + _PATIENCE, threading.main_thread().ident
        assert main is not None
        while not self._over.wait(_AGAIN):
            signal.pthread_kill(main, number)
            if time.monotonic() > deadline:
                _end_process(f"{MESSAGE}\n")
        if ends_process:
            time.sleep(max(deadline - time.monotonic(), 0))
            _end_process()


@contextlib.contextmanager
def caught(*, ends_process: bool) -> Iterator[Interruption]:
    """Turns Ctrl-C and SIGTERM into KeyboardInterrupt within the block, which runs in the main thread.

    Args:
      ends_process: whether the process ends after the block. Then the end of the interpreter is watched as well, and a
        signal that comes after the block no longer changes the exit code.
    """
    interruption = Interruption()
    if ends_process:
        atexit.register(interruption.at_exit)
    signals, pipe = os.pipe()
    os.set_blocking(pipe, False)
    handlers = {
        number: signal.signal(number, interruption.handle)
        for number in _SIGNALS
        # Jobs in a shell's background ignore Ctrl-C, which is for the job in front.
        if number != signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN
    }
    previous = signal.set_wakeup_fd(pipe, warn_on_full_buffer=False)
    watcher = threading.Thread(
        target=interruption.watch, args=(signals,), kwargs={"ends_process": ends_process}, daemon=True
    )
    watcher.start()
    try:
        yield interruption
    finally:
        interruption.over()
        if not ends_process:
            signal.set_wakeup_fd(previous)
            os.close(pipe)
            watcher.join()  # it sends no signal any more, which other handlers would take
            os.close(signals)
            for number, handler in handlers.items():
                signal.signal(number, handler)


def _is_unwinding() -> bool:
    """Returns whether the main thread cleans up after an interruption, or after a generator that one ended."""
    error = sys.exception()
    while error is not None:
        if isinstance(error, KeyboardInterrupt | GeneratorExit):
            return True
        error = error.__context__
    return False


def _end_process(message: str = "") -> None:
    """Ends the process and its worker processes at once, and leaves out all that Python does at its end."""
    with contextlib.suppress(Exception):
        for child in multiprocessing.active_children():
            child.kill()
    with contextlib.suppress(OSError):
        os.write(2, message.encode())
    os._exit(EXIT_INTERRUPTED)
