"""Unpacks the hostile and damaged archives of benchmarks/faults, most of them with small sizes and small caps."""

import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.faults import archives
from benchmarks.faults.archive_cases import CASES, SMALL, Case, small_caps
from jmer.corpora.fetch import guard


def named(case: Case) -> str:
    return case.name


@pytest.mark.parametrize("case", CASES, ids=named)
def test_archive(tmp_path: Path, case: Case):
    with small_caps():
        row = archives.attempt(case, tmp_path, sizes=SMALL, unpack=archives.unpack)
    assert row.held, row.outcome


@pytest.mark.parametrize("case", [case for case in CASES if case.inner], ids=named)
def test_archive_within_another(tmp_path: Path, case: Case):
    with small_caps():
        row = archives.attempt(case, tmp_path, sizes=SMALL, unpack=archives.unpack, inner=True)
    assert row.held, row.outcome


@pytest.mark.parametrize(
    "name",
    [
        "a pax header of 256 MiB",
        "a header of a negative size",
        "a zip file with a list of 256 MiB",
        "a zip bomb in bzip2",
    ],
)
def test_memory_is_bounded(tmp_path: Path, name: str):
    """A process that may take 64 MiB more refuses what tarfile or zipfile would read into 128 MiB."""
    (case,) = (case for case in CASES if case.name == name)

    def unpack(file: Path, out: Path) -> archives.Result:
        return archives.unpack_apart(file, out, memory=64)

    row = archives.attempt(case, tmp_path, sizes=replace(SMALL, header=128 << 20), unpack=unpack)
    assert row.held, row.outcome


def test_caps_leave_room_for_three_times_meld():
    """MELD.Raw has 10.9 GB packed, and its 14,000 members with the archives within take twice as much."""
    budget = guard.Budget(packed=10_900_000_000)
    for i in range(3 * 14_000):
        budget.take("MELD.Raw.tar.gz", f"dia{i}.mp4", size=2 * budget.packed // 14_000)


def test_cap_on_bytes_holds_for_archives_of_any_size():
    budget = guard.Budget(packed=1 << 40)
    budget.take("x.tar.gz", "a", size=guard.MOST_BYTES)
    with pytest.raises(guard.Refused, match=r"x\.tar\.gz: holds 'b', with which 1\.10TB unpack to 68\.7GB and"):
        budget.take("x.tar.gz", "b", size=1)


def test_no_laxer_than_the_data_filter(tmp_path: Path):
    """Python's own filter refuses no member of an archive that is unpacked here."""
    unpacked = 0
    for case in CASES:
        if case.suffix == ".tar.gz" and case.write(tmp_path / "x", SMALL) is not None:
            with tarfile.open(tmp_path / "x") as tar:
                unpacked += len([tarfile.data_filter(info, str(tmp_path)) for info in tar])
    assert unpacked > 5
