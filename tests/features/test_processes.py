"""Worker processes: what a task that crashes, hangs or takes all memory costs, and whom."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest
import tasks
from tasks import is_gone

from jmer.base.errors import UserError
from jmer.features import leash
from jmer.features.processes import LostError, Pool


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(2, initializer=tasks.nothing) as pool:
        wait([pool.submit(time.sleep, 0.1) for _ in range(2)])  # both are started
        yield pool


def pids(pool: Pool) -> set[int]:
    return {worker.process.pid for worker in pool._workers}


def test_results_and_errors_come_back(pool: Pool):
    assert pool.submit(divmod, 7, 2).result() == (3, 1)
    assert pool.submit(tasks.counts, 3).result() == [0, 1, 2]
    assert pool.submit(tasks.counts, 0).result() == []
    with pytest.raises(UserError, match="mine"):
        pool.submit(tasks.raises, UserError("mine")).result()
    with pytest.raises(RuntimeError, match="Unreadable: 1 and 2"):
        pool.submit(tasks.raises_unreadable).result()
    with pytest.raises(Exception, match=r"pickle|local"):
        pool.submit(lambda: None).result()
    with pytest.raises(ValueError, match="cannot be read"):
        pool.submit(tasks.gives_unwelcome).result()
    assert pool.submit(divmod, 7, 2).result() == (3, 1)


@pytest.mark.parametrize(
    ("how", "cause"),
    [("segfault", r"was ended by signal 11 \(Segmentation fault\)"), ("exit", "ended itself with exit code 0")],
)
def test_a_task_that_crashes_is_tried_twice_and_costs_no_other(pool: Pool, tmp_path: Path, how: str, cause: str):
    others = [pool.submit(tasks.takes, 0.05, allowed=(9.0,)) for _ in range(4)]
    crash = pool.submit(tasks.dies, tmp_path / "log", how=how, times=9)
    others += [pool.submit(tasks.takes, 0.05, allowed=(9.0,)) for _ in range(4)]
    with pytest.raises(LostError, match=f"a worker process {cause}, and so did a second one"):
        crash.result()
    assert [other.result() for other in others] == ["done"] * 8
    assert (tmp_path / "log").read_text() == "xx"


def test_a_task_whose_worker_died_is_tried_again_while_nothing_else_runs(pool: Pool, tmp_path: Path):
    """Its worker may have been killed for the memory that another one took."""
    log, died = tmp_path / "log", tmp_path / "died"
    tried = [pool.submit(tasks.spans_and_dies, log, died)]
    tried += [pool.submit(tasks.spans, log, f"{i}", 0.1) for i in range(4)]
    assert [each.result() for each in tried] == ["suspect", "0", "1", "2", "3"]
    lines = log.read_text().splitlines()
    at = lines.index("begin suspect")
    assert lines[at + 1] == "end suspect"
    open_before = {name for what, name in map(str.split, lines[:at]) if what == "begin"}
    assert open_before == {name for what, name in map(str.split, lines[:at]) if what == "end"}


def test_a_task_that_hangs_is_ended_with_its_process(pool: Pool):
    before, begin = pids(pool), time.monotonic()
    hang, other = pool.submit(tasks.hangs, 0.5), pool.submit(divmod, 7, 2)
    with pytest.raises(LostError, match="was given up, since decoding takes more than 0 s"):
        hang.result(20)
    assert time.monotonic() - begin < 5
    assert other.result() == (3, 1)
    assert sum(map(is_gone, before)) == 1
    assert pool.submit(divmod, 7, 2).result() == (3, 1)


def test_time_counts_from_the_first_call_and_can_be_extended(pool: Pool):
    assert pool.submit(tasks.takes, 0.6, allowed=(0.3, 9.0)).result() == "done"
    with pytest.raises(LostError):
        pool.submit(tasks.takes, 9.0, allowed=(9.0, 0.3)).result()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit what a process allocates")
def test_memory_is_limited_anew_for_each_task(pool: Pool):
    first, got = pool.submit(tasks.allocates, 4096).result()
    assert leash.MEMORY >> 20 >= got > (leash.MEMORY >> 20) - 100
    again = [pool.submit(tasks.allocates, 900).result() for _ in range(4)]
    assert {got for _, got in again} == {896}
    assert pool.submit(tasks.allocates, 1536, limited=False).result()[1] == 1536  # as what a clip's extractor loads
    assert first in {pid for pid, _ in again} | pids(pool)  # it lives on


def test_processes_that_cannot_start_are_an_error():
    with Pool(2, initializer=tasks.stillborn) as pool:
        with pytest.raises(BrokenProcessPool, match="ended itself with exit code 3 before it began to work"):
            pool.submit(divmod, 7, 2).result(20)
        with pytest.raises(BrokenProcessPool):
            pool.submit(divmod, 7, 2).result(20)


def test_shutdown_ends_what_runs_at_once():
    pool = Pool(1, initializer=tasks.nothing)
    hang, later = pool.submit(tasks.hangs, 99.0), pool.submit(divmod, 7, 2)
    while not hang.running() or not pids(pool):
        time.sleep(0.01)
    processes, begin = pids(pool), time.monotonic()
    pool.shutdown()
    assert time.monotonic() - begin < 2
    assert all(map(is_gone, processes))
    assert later.cancelled()
    with pytest.raises(LostError):
        hang.result()
    with pytest.raises(RuntimeError, match="shut down"):
        pool.submit(divmod, 7, 2)
    pool.shutdown()


MAIN = """
import os, sys, time
import tasks
from tasks import is_gone
from jmer.features.processes import Pool
if __name__ == "__main__":
    pool = Pool(1, initializer=tasks.nothing)
    print(pool.submit(os.getpid).result(), flush=True)
    pool.submit(tasks.hangs, 1e6)
    time.sleep(1e6)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, a worker that lets no Python run outlives its parent")
def test_workers_end_with_the_main_process_whatever_they_do(tmp_path: Path):
    file = tmp_path / "main.py"
    file.write_text(MAIN)
    environment = os.environ | {"PYTHONPATH": str(Path(tasks.__file__).parent)}
    with subprocess.Popen([sys.executable, str(file)], stdout=subprocess.PIPE, text=True, env=environment) as main:
        try:
            assert main.stdout is not None
            worker = int(main.stdout.readline())
            os.kill(worker, signal.SIGINT)  # as Ctrl-C does
            time.sleep(0.3)
            assert not is_gone(worker)
        finally:
            main.kill()
    if not is_gone(worker, within=5):
        os.kill(worker, signal.SIGKILL)
        pytest.fail("the worker outlived its main process")
