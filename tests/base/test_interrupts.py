"""Ctrl-C and SIGTERM to a command: never lost, never in the way of cleaning up, and never waited for in vain."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from tasks import is_gone

from jmer.base import cli, interrupts
from jmer.base.errors import UserError


def kill(number: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


def works_on(seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.01)


class Finaliser:
    def __del__(self) -> None:
        kill()  # Python prints what is raised here, and goes on
        time.sleep(0)


def in_finaliser(_: Sequence[str]) -> None:
    Finaliser()
    works_on()


def swallowed(_: Sequence[str]) -> None:
    for _attempt in range(2):
        try:
            kill()
            works_on(0.01)
        except BaseException:
            pass
    works_on()


def replaced_by(error: Exception | None) -> Callable[[Sequence[str]], None]:
    """Something else is raised in the place of the interruption, or nothing just before the end."""

    def main(_: Sequence[str]) -> None:
        try:
            kill()
            works_on()
        except KeyboardInterrupt:
            if error:
                raise error from None

    return main


MAINS = {
    "in a finaliser": in_finaliser,
    "swallowed": swallowed,
    "in the import of a module in C": replaced_by(ImportError("half of a module")),
    "in an extraction whose workers got it too": replaced_by(UserError("the workers are gone")),
    "just before the end": replaced_by(None),
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("main", MAINS.values(), ids=MAINS)
def test_a_signal_is_never_lost(main: Callable, capsys: pytest.CaptureFixture[str]):
    begin = time.monotonic()
    assert cli.run(main, []) == 75
    assert time.monotonic() - begin < 2
    assert capsys.readouterr().err.splitlines()[-1:] == [interrupts.MESSAGE]
    assert "error:" not in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_cleaning_up_is_not_disturbed(number: signal.Signals):
    """Neither by the repetitions nor by a second signal."""
    done = []

    def generator():
        try:
            yield
        finally:
            works_on(0.3)
            done.append("generator")

    def main(_: Sequence[str]) -> None:
        for _item in generator():
            try:
                kill(number)
                works_on()
            finally:
                kill(number)
                works_on(0.5)
                done.append("block")

    assert cli.run(main, []) == 75
    assert sorted(done) == ["block", "generator"]


def test_handlers_are_put_back_and_no_thread_is_left():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)], threading.active_count()
    for main in (lambda _: None, lambda _: kill()):
        cli.run(main, [])
        after = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)], threading.active_count()
        assert after == before
        assert signal.set_wakeup_fd(-1) == -1


def test_a_process_that_ignores_ctrl_c_goes_on_to():
    """A shell starts jobs in its background like this."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert cli.run(lambda _: kill(signal.SIGINT), []) == 0
        assert cli.run(lambda _: kill(signal.SIGTERM), []) == 75
    finally:
        signal.signal(signal.SIGINT, before)


SCRIPT = """
import hashlib, multiprocessing, sys, threading, time
from jmer.base import cli, interrupts
interrupts._PATIENCE = 1.0

def ready(child):
    print(child.pid, flush=True)

def compiled(_):
    ready(child)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)

def waiting(_):
    threading.Thread(target=time.sleep, args=(60,)).start()
    ready(child)
    time.sleep(60)

def cleaning(_):
    try:
        ready(child)
        time.sleep(60)
    finally:
        time.sleep(60)

if __name__ == "__main__":
    child = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,), daemon=True)
    child.start()
    main = globals()[sys.argv[1]]
    sys.exit(cli.run(main))
"""


@pytest.mark.parametrize("what", ["compiled", "waiting", "cleaning"])
def test_a_process_that_does_not_leave_is_ended_with_its_workers(what: str, tmp_path):
    """Compiled code that runs, a thread that the interpreter waits for at its end, and a hook that hangs."""
    file = tmp_path / "main.py"
    file.write_text(SCRIPT)
    with subprocess.Popen(
        [sys.executable, str(file), what], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        child = int(process.stdout.readline())
        time.sleep(0.1)
        process.terminate()
        begin = time.monotonic()
        try:
            assert process.wait(10) == 75
        finally:
            process.kill()
        assert time.monotonic() - begin < 3
        assert process.stderr.read().splitlines() == [interrupts.MESSAGE]
    assert is_gone(child, within=5)


ENDING = """
import os, sys, time
from jmer.base import cli

class Slow:
    def __del__(self, write=os.write, sleep=time.sleep):  # called when all modules are taken down
        write(1, b"ending\\n")
        sleep(1)

slow = Slow()
sys.exit(cli.run(lambda _: None))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_after_the_end_changes_nothing(number: signal.Signals):
    with subprocess.Popen([sys.executable, "-c", ENDING], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ending\n"
        process.send_signal(number)
        assert process.wait(10) == 0


CRASHING = """
import atexit, ctypes, os, sys, tempfile, time
from jmer.base import cli

class Crashes:
    def __del__(self, crash=ctypes.string_at):  # called when all modules are taken down
        crash(0)

crashes = Crashes()

def main(_):
    atexit.register(print, "a hook")
    kept = tempfile.TemporaryDirectory()
    print(kept.name, flush=True)
    globals()["kept"] = kept
    time.sleep(60)

sys.exit(cli.run(main))
"""


def test_a_crash_while_modules_are_taken_down_does_not_replace_the_exit_code():
    """As that of JAX whose compiler was interrupted. Hooks still run, and temporary folders vanish."""
    with subprocess.Popen([sys.executable, "-c", CRASHING], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        assert folder.is_dir()
        process.terminate()
        assert process.wait(10) == 75
        assert process.stdout.read() == "a hook\n"
    assert not folder.exists()
