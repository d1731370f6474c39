"""Files that are written atomically: by several at once, and onto a disk that is full."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jmer.base import files, locks
from jmer.base.errors import UserError

MANY = """
import sys
from pathlib import Path
from jmer.base import files

for i in range(300):
    files.save_text(Path("file"), sys.argv[1] * 100_000)
"""


def test_two_processes_write_one_file_at_the_same_time(tmp_path: Path):
    """With one name for what is not yet renamed, one would rename the half of the other, which then has no file."""
    writers = [
        subprocess.Popen([sys.executable, "-c", MANY, letter], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        for letter in "abc"
    ]
    while any(writer.poll() is None for writer in writers):
        if (tmp_path / "file").exists():
            assert (tmp_path / "file").read_text() in {letter * 100_000 for letter in "abc"}
    for writer in writers:
        assert writer.communicate()[1] == ""
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_file_stays_where_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    file = tmp_path / "file"
    files.save_text(file, "good")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(OSError, match=r"No space left on device: '.*/file'"):
            files.save_text(file, "new")
    assert file.read_text() == "good"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    (tmp_path / ".file.partial").write_text("a longer text, which a killed process left")
    files.save_text(file, "new")
    assert file.read_text() == "new"


HOLDER = """
import sys, time
from pathlib import Path
from jmer.base import locks

with locks.held(Path(sys.argv[1])):
    print(flush=True)
    time.sleep(1)
"""


def test_a_lock_refuses_or_waits(tmp_path: Path):
    lock = tmp_path / "x/lock"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(lock)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(UserError, match="somebody is here"), locks.held(lock, refusal="somebody is here"):
            pass
        with locks.held(lock):
            assert process.wait() == 0


def test_a_file_system_without_locks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog):
    def missing(self: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr(locks.FileLock, "acquire", missing)
    with locks.held(tmp_path / "lock", refusal="no"):
        pass
    assert "this file system has no locks" in caplog.text
