"""A disk that fills while a run is saved or scored, as in benchmarks/faults."""

import logging
import sys
from pathlib import Path

import pytest
import tiny

from benchmarks.faults import trainings
from benchmarks.faults.full_disk import Disk, Unavailable, refused
from jmer import evaluate
from jmer.base import cli
from jmer.runs import directory
from jmer.training import checkpoint


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checkpoint, "PAUSE", 0)  # every epoch is saved
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)  # is changed by a save that fails
    try:
        with Disk.mounted(tmp_path / "disk") as disk:
            yield disk
    except Unavailable as error:
        pytest.skip(str(error))
    finally:
        logging.getLogger("absl").filters.clear()


@pytest.mark.parametrize("left", [0, 30_000])
def test_a_save_that_fails_is_one_line(tiny_dataset, trained, disk: Disk, monkeypatch, capfd, caplog, left: int):
    save = checkpoint.Checkpoints.save

    def filling(self, epoch, **parts):
        if epoch == 3:
            disk.fill(leave=left)
        save(self, epoch, **parts)

    run = disk.path / "run"
    monkeypatch.setattr(checkpoint.Checkpoints, "save", filling)
    code = cli.run(lambda _: tiny.train(tiny_dataset, run, seeds=2), [])
    assert code == 5
    errors = capfd.readouterr().err
    assert refused(code, errors) == ""
    assert errors.startswith(f"error: {run / 'checkpoints'}")
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
    disk.empty()
    assert directory.load(run).progress.epoch == 2
    monkeypatch.setattr(checkpoint.Checkpoints, "save", save)
    tiny.train(tiny_dataset, run, seeds=2)
    assert trainings.digest(trainings.saved(run)) == trainings.digest(trainings.saved(trained))


def test_earlier_scores_stay_where_the_disk_is_full(tiny_dataset, disk: Disk, capfd):
    run, argv = disk.path / "run", [f"--workdir={disk.path / 'run'}"]
    tiny.train(tiny_dataset, run, epochs=1)
    assert cli.run(evaluate.main, argv) == 0
    before = {file: file.read_bytes() for file in (run / "eval/test").iterdir()}
    # With 8 KiB left, the picture is the first file for which there is no room.
    for forbid in (disk.fill, lambda: disk.fill(leave=8192), disk.forbid):
        forbid()
        capfd.readouterr()
        code = cli.run(evaluate.main, argv)
        assert code == 5
        assert refused(code, capfd.readouterr().err) == ""
        assert {file: file.read_bytes() for file in (run / "eval/test").iterdir()} == before
        disk.empty()
    assert cli.run(evaluate.main, argv) == 0


def test_what_is_no_proper_refusal():
    assert refused(0, "anything") == ""
    assert refused(5, "error: full\n") == ""
    assert refused(1, "Traceback\n") == "exit code 1: Traceback"
    assert refused(5, "Traceback\nerror: full\n").startswith("2 lines")
