"""Limits of containers, on made-up trees of control groups."""

from pathlib import Path

import pytest

from jmer.base import limits


@pytest.fixture
def tree(tmp_path: Path):
    def write(files: dict[str, str], own: str) -> int:
        for name, text in files.items():
            file = tmp_path / "cgroup" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{text}\n")
        (tmp_path / "own").write_text(own)
        return limits.memory(cgroups=tmp_path / "cgroup", own=tmp_path / "own")

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


def test_cores():
    assert limits.cores() >= 1
