"""Limits of containers, on made-up trees of control groups."""

from collections.abc import Callable
from pathlib import Path

import joblib
import pytest

from jmer.base import limits


@pytest.fixture
def tree(tmp_path: Path):
    def write(files: dict[str, str], own: str, *, limit: Callable[..., int] = limits.memory) -> int:
        for name, text in files.items():
            file = tmp_path / "cgroup" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{text}\n")
        (tmp_path / "own").write_text(own)
        return limit(cgroups=tmp_path / "cgroup", own=tmp_path / "own")

    return write


def test_the_tightest_group_counts(tree):
    files = {"a/b/memory.max": "max", "a/memory.max": "4096", "memory.max": "8192", "other/memory.max": "1"}
    assert tree(files, "0::/a/b\n") == 4096


def test_a_container_sees_its_own_group_as_the_root(tree):
    assert tree({"memory.max": "5000"}, "0::/\n") == 5000


def test_version_1(tree):
    files = {"memory/docker/memory.limit_in_bytes": "3000", "cpu/docker/memory.limit_in_bytes": "1"}
    assert tree(files, "5:cpu,cpuacct:/docker\n4:memory:/docker\n") == 3000


def test_without_a_limit_it_is_the_memory_of_the_machine(tree, tmp_path):
    unlimited = tree({"memory.max": "max"}, "0::/\n")
    assert unlimited == limits.memory(own=tmp_path / "none") > 1e8
    assert tree({"memory/memory.limit_in_bytes": str(2**63 - 4096)}, "4:memory:/\n") == unlimited


def test_cores_of_the_tightest_group(tree, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(joblib, "cpu_count", lambda: 16)
    assert tree({}, "", limit=limits.cores) == 16
    quotas = {"job/step/cpu.max": "max 100000", "job/cpu.max": "350000 100000", "cpu.max": "800000 100000"}
    assert tree(quotas, "0::/job/step\n", limit=limits.cores) == 4
    assert tree({"job/step/cpu.max": "5000 100000"}, "0::/job/step\n", limit=limits.cores) == 1


def test_cores_of_version_1(tree, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(joblib, "cpu_count", lambda: 16)
    files = {"cpu/job/cpu.cfs_quota_us": "200000", "cpu/job/cpu.cfs_period_us": "100000"}
    files |= {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}
    assert tree(files, "4:memory:/x\n1:cpu,cpuacct:/job\n", limit=limits.cores) == 2
    assert tree(files, "1:cpu,cpuacct:/\n", limit=limits.cores) == 16


def test_cores():
    assert limits.cores() >= 1
