"""The extraction command as processes: killed and started again, several at once, and how much memory it takes."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tables import CLIPS, copy_clips, hashes, rows_of, write_table
from tasks import is_gone

from jmer import extract
from jmer.base import cli
from jmer.base.types import Corpus, Dialogue, Utterance
from jmer.dataset import build
from jmer.features import worker

FIELDS = ["--config.source=table", "--config.video.frames=2", "--config.workers=1"]


@pytest.fixture(scope="module")
def table(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy_clips(root, tmp_path_factory.mktemp("clips"))
    return write_table(folder / "t.csv", rows_of(folder, *CLIPS))


@pytest.fixture(scope="module")
def unbroken(root: Path, table: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Hashes of the dataset of a run by itself."""
    folder = tmp_path_factory.mktemp("unbroken")
    assert cli.run(extract.main, arguments(root, table, folder)) == 0
    return hashes(folder / "out")


def arguments(root: Path, table: Path, folder: Path, *, out: str = "out") -> list[str]:
    where = {"root": table, "out": folder / out, "cache": folder / "cache"}
    config = f"--config={root / 'configs/extract/lite.py'}"
    return [config, *FIELDS, *(f"--config.{name}={value}" for name, value in where.items())]


def start(root: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "jmer.extract", *arguments]
    return subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def entries(cache: Path) -> dict[Path, int]:
    """When each entry that took decoding was written."""
    found = [path for modality in ("audio", "video") for path in cache.glob(f"{modality}-*/*/*")]
    return {path: path.stat().st_mtime_ns for path in found if not path.name.startswith(".")}


def test_stopped_run_goes_on_and_writes_the_same(root: Path, table: Path, tmp_path: Path, unbroken: dict[str, str]):
    kept: dict[Path, int] = {}
    for stop in (signal.SIGTERM, signal.SIGKILL):
        process = start(root, *arguments(root, table, tmp_path))
        while len(entries(tmp_path / "cache")) == len(kept) and process.poll() is None:
            time.sleep(0.001)  # a clip takes many times as long, so that clips are left when the signal comes
        process.send_signal(stop)
        _, err = process.communicate(timeout=60)
        assert process.returncode == (75 if stop == signal.SIGTERM else -stop), err
        if stop == signal.SIGTERM:
            assert "interrupted; finished work is kept" in err.splitlines()[-1]
        assert not (tmp_path / "out").exists()
        before, kept = kept, entries(tmp_path / "cache")
        assert before.items() < kept.items()  # nothing was computed twice
    assert cli.run(extract.main, arguments(root, table, tmp_path)) == 0
    assert kept.items() < entries(tmp_path / "cache").items()
    assert hashes(tmp_path / "out") == unbroken
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "out"]


HANGING = """
import ctypes, sys
from pathlib import Path
from jmer import extract
from jmer.base import cli
from jmer.media import decoding

def hang(*_, **__):
    Path("hangs").touch()
    ctypes.PyDLL(None).pause()  # nothing else of Python runs in this process any more

if __name__ == "__mp_main__":  # a worker
    decoding.decode = hang
if __name__ == "__main__":
    sys.exit(cli.run(extract.main))
"""


@pytest.mark.parametrize(("number", "group"), [(signal.SIGTERM, False), (signal.SIGINT, True)])
def test_interruption_does_not_wait_for_a_clip_that_hangs(
    root: Path, table: Path, tmp_path: Path, number: signal.Signals, group: bool
):
    (tmp_path / "main.py").write_text(HANGING)
    process = subprocess.Popen(
        [sys.executable, "main.py", *arguments(root, table, tmp_path), "--config.audio.model=none"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(root)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not (tmp_path / "hangs").exists() and process.poll() is None:
        time.sleep(0.01)
    threads = Path(f"/proc/{process.pid}/task").glob("*/children")
    children = [int(child) for thread in threads for child in thread.read_text().split()]
    assert children
    begin = time.monotonic()
    (os.killpg if group else os.kill)(process.pid, number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 75, err
    assert time.monotonic() - begin < 5
    assert "interrupted; finished work is kept" in err.splitlines()[-1]
    assert all(is_gone(child, within=5) for child in children)


def test_interrupted_hashing_does_not_wait_for_large_clips(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(worker, "digest", lambda path: time.sleep(2))
    utterances = tuple(Utterance(id=f"u{i}", speaker="a", clip=tmp_path / f"{i}") for i in range(9))
    corpus = Corpus(name="c", labels=(), splits={"train": (Dialogue(id="d", utterances=utterances),)})
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    begin = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            build._digests(corpus, 2)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - begin < 1


def test_two_processes_share_a_cache(root: Path, table: Path, tmp_path: Path, unbroken: dict[str, str]):
    processes = {out: start(root, *arguments(root, table, tmp_path, out=out)) for out in ("a", "b")}
    for out, process in processes.items():
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        assert hashes(tmp_path / out) == unbroken


PEAKS = """
import sys
from pathlib import Path
from jmer import extract
from jmer.base import cli

for size in ("few", "many"):
    fields = [f"--config.{name}={size}{suffix}" for name, suffix in (("root", ".csv"), ("out", ""))]
    assert cli.run(extract.main, [*sys.argv[1:], *fields]) == 0
    (peak,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print("peak", int(peak.split()[1]) // 1024)
"""


def test_memory_does_not_grow_with_the_corpus(root: Path, tmp_path: Path):
    """10,000 utterances, whose vectors weigh 40 MiB, against 100."""
    rng = random.Random(0)
    for size, name in ((100, "few"), (10_000, "many")):
        rows = rows_of(tmp_path, *[""] * size)
        for row in rows:
            row["text"] = "".join(rng.choices("etaoin shrdlu ", k=30))
        write_table(tmp_path / f"{name}.csv", rows)
    config = [f"--config={root / 'configs/extract/lite.py'}", "--config.source=table", "--config.cache=cache"]
    environment = os.environ | {"PYTHONPATH": str(root)}
    process = subprocess.run(
        [sys.executable, "-c", PEAKS, *config], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    few, many = (int(line.split()[1]) for line in process.stdout.splitlines() if line.startswith("peak"))
    assert many < 1024  # MiB
    assert many - few < 40


def test_command_line_error_is_one_line(root: Path):
    process = start(root, "--config=configs/extract/lite.py", "--config.lrr=1")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith("error: config has no field 'lrr'")
