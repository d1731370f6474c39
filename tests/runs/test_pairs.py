"""Two commands at once, limits of cores, and one seed on one core and on two: a few of benchmarks/faults."""

import random
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.faults import commands, containers, pairs
from benchmarks.faults.full_disk import Unavailable, files_of
from jmer.base import locks
from jmer.runs import directory, report
from jmer.runs.scored import ScoredRow
from jmer.training import checkpoint


def test_two_extractions_write_one_dataset(tmp_path: Path):
    assert pairs.extraction(tmp_path / "whole", "a").wait() == 0
    whole = files_of(tmp_path / "whole/out")
    assert pairs.two_extractions(tmp_path / "both", whole, random.Random(0)) == "both ended well"


def test_the_second_of_two_downloads_is_refused_or_finds_all_done(tmp_path: Path):
    assert pairs.two_downloads(tmp_path / "both", random.Random(2)) in ("refused", "both ended well")


def test_training_removes_the_epoch_that_is_being_read(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    last = checkpoint.latest_epoch(run / "checkpoints")
    restore = checkpoint.restore_best

    def removed(folder: Path, epoch: int, **rest):
        if epoch == last:
            shutil.rmtree(folder / str(epoch))
            (folder / f"{epoch}.sha256.json").unlink()
        return restore(folder, epoch, **rest)

    monkeypatch.setattr(checkpoint, "restore_best", removed)
    assert directory.load(run).progress.epoch == last - 1


def test_the_files_of_two_evaluations_do_not_mix(tmp_path: Path):
    """Training scores its run at its end, and a user may do so at the same time."""
    rows = [ScoredRow("d", "u", "s", "t", 0), ScoredRow("d", "v", "s", "t", 1)]
    about = {"dataset": "data", "split": "test", "seeds": [0], "members": []}
    probs = np.array([[[0.9, 0.1], [0.2, 0.8]]])

    def write() -> None:
        report.write_scores(tmp_path / "test", rows, probs, labels=("a", "b"), title="test, seed 0", about=about)

    with locks.held(tmp_path / "test/.lock"):
        writer = threading.Thread(target=write)
        writer.start()
        time.sleep(2)
        assert [path.name for path in (tmp_path / "test").iterdir()] == [".lock"]
    writer.join()
    assert (tmp_path / "test/metrics.json").is_file()


def test_one_core_is_one_worker_and_one_device(tmp_path: Path):
    row = containers.cores("bound to one core", commands.on_cores(1))
    assert row.held, row.outcome
    try:
        with containers.group(cores=1) as within:
            row = containers.cores("a quota of one core", within)
    except Unavailable as error:
        pytest.skip(str(error))
    assert row.held, row.outcome
