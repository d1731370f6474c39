"""No damaged file of a run or a dataset is read in silence: one bit flipped, cut, emptied or deleted, each in turn."""

import json
import logging
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny

import jmer
from benchmarks.faults.damage import FAULTS, flipped
from jmer.base import files
from jmer.dataset import manifest, store
from jmer.runs import directory
from jmer.runs.directory import Calibration, RunDirectory
from jmer.training import checkpoint

SEALED = ("config.json", "features.json", "calibration.json", "diverged.json")


@pytest.fixture
def run(trained, tmp_path) -> Path:
    copy = tmp_path / "run"
    shutil.copytree(trained, copy)
    RunDirectory(copy).write_calibration(Calibration(seeds=(1.5, 2.0), vote=1.2))
    RunDirectory(copy).record_divergence(9, seeds=[0], options=directory.load(copy).options)
    return copy


def faults(file: Path) -> Iterator[str]:
    """Damages a file in each way, and mends it again."""
    good, rng = file.read_bytes(), random.Random(0)
    for name, fault in FAULTS.items():
        bad = fault(good, rng)
        if bad is None:
            file.unlink()
        else:
            file.write_bytes(bad)
        yield name
        file.write_bytes(good)


def test_every_file_that_describes_a_run(run):
    path = RunDirectory(run)
    readers = {
        "config.json": path.read_options,
        "features.json": path.read_inputs,
        "calibration.json": lambda: path.read_calibration(seeds=2),
        "diverged.json": path._is_diverged,
    }
    assert tuple(readers) == SEALED
    for name, read in readers.items():
        before = read()
        for fault in faults(run / name):
            if fault == "deleted" and name == "diverged.json":
                continue  # it need not be there
            with pytest.raises(jmer.UserError, match=f"{name} (is damaged|does not exist|is missing)"):
                read()
        assert read() == before


def test_a_run_that_is_not_calibrated_any_more_needs_no_calibration(run):
    RunDirectory(run).forget_calibration()
    assert not (run / "calibration.json").exists()
    assert directory.load(run).calibration == Calibration(seeds=(1.0, 1.0), vote=1.0)


def test_a_flipped_bit_anywhere_is_found(run):
    path, good = RunDirectory(run), (run / "features.json").read_bytes()
    before = path.read_inputs()
    for place in range(0, len(good), 7):
        bad = bytearray(good)
        bad[place] ^= 1 << place % 8
        (run / "features.json").write_bytes(bytes(bad))
        try:
            assert path.read_inputs() == before  # such as another blank between two entries
        except jmer.UserError as error:
            assert "features.json is damaged" in str(error)  # noqa: PT017 (either will do)


def test_every_file_of_the_latest_checkpoint(run, caplog):
    last = checkpoint.latest_epoch(run / "checkpoints")
    whole, before = directory.load(run), run / f"checkpoints/{last - 1}"
    assert before.is_dir()
    every = [f for f in (run / f"checkpoints/{last}").rglob("*") if f.is_file() and f.stat().st_size]
    for file in [*every, run / f"checkpoints/{last}.sha256.json"]:
        for fault in faults(file):
            caplog.clear()
            with caplog.at_level(logging.WARNING, logger="jmer"):
                found = checkpoint.latest_epoch(run / "checkpoints")
            assert found == last - 1, (file, fault)
            (said,) = [r.getMessage() for r in caplog.records]
            assert f"checkpoint {run / 'checkpoints' / str(last)} is left out: " in said
    assert directory.load(run).progress == whole.progress
    shutil.rmtree(run / f"checkpoints/{last}")
    with caplog.at_level(logging.WARNING, logger="jmer"):
        assert directory.load(run).progress.epoch == last - 1
    assert "its folder is missing" in caplog.text
    shutil.rmtree(run / f"checkpoints/{last - 1}")
    with pytest.raises(jmer.UserError, match="no checkpoint"):
        directory.load(run)
    with pytest.raises(jmer.UserError, match="no checkpoint is whole any more; restore one from a copy"):
        checkpoint.remove_damaged(run / "checkpoints", after=0)


def test_training_goes_on_from_the_checkpoint_before(tiny_dataset, trained, run, said):
    (run / "diverged.json").unlink()
    last = checkpoint.latest_epoch(run / "checkpoints")
    file = next(f for f in (run / f"checkpoints/{last}/state").rglob("*") if f.stat().st_size > 1000)
    file.write_bytes(flipped(file.read_bytes(), random.Random(1)))
    tiny.train(tiny_dataset, run, seeds=2)
    screen = said.readouterr()
    assert f"checkpoints/{last} is left out: " in screen.err
    assert f"checkpoints/{last} is removed; training goes on from epoch {last - 1}" in screen.out
    again, expected = directory.load(run), directory.load(trained)
    jax.tree.map(np.testing.assert_array_equal, again.params, expected.params)


def test_a_damaged_log_is_said_and_kept(tiny_dataset, run, said):
    (run / "diverged.json").unlink()
    good = (run / "metrics.jsonl").read_bytes()
    for bad in (good.replace(b'"epoch": 2', b'"epoch": 3', 1), b"\xff" + good[1:], good[: good.index(b"\n") + 1]):
        (run / "metrics.jsonl").write_bytes(bad)
        tiny.train(tiny_dataset, run, seeds=2)
        assert "metrics.jsonl was damaged or changed since epoch 4 was saved" in said.readouterr().err
        assert (run / "metrics.jsonl").read_bytes() == bad
    (run / "metrics.jsonl").write_bytes(good)
    tiny.train(tiny_dataset, run, seeds=2)
    assert said.readouterr().err == ""


def test_every_file_of_a_dataset(tmp_path):
    data = tiny.write_dataset(tmp_path / "data")
    fingerprint = store.load(data).fingerprint
    for file in sorted(data.iterdir()):
        for _ in faults(file):
            with pytest.raises(jmer.UserError, match=rf"{file.name}|no manifest.json"):
                store.load(data)
    assert store.load(data).fingerprint == fingerprint


def unsealed(file: Path, **changes) -> None:
    """Makes a file as an earlier version of jmer wrote it."""
    content = json.loads(file.read_text())
    del content[files.SEAL]
    file.write_text(json.dumps(content | changes))


def test_files_of_the_earlier_formats_are_read_and_sealed(tiny_dataset, run, tmp_path):
    expected, divergences = directory.load(run), json.loads((run / "diverged.json").read_text())["epochs"]
    for name in ("calibration.json", "config.json"):
        unsealed(run / name)
        with pytest.raises(jmer.UserError, match=f"{name} is damaged"):
            directory.load(run)
    unsealed(run / "features.json", format=4)
    (run / "diverged.json").write_text(json.dumps(divergences))
    assert directory.load(run).calibration == expected.calibration
    assert RunDirectory(run)._is_diverged()
    tiny.train(tiny_dataset, run, seeds=2)
    assert all(files.SEAL in json.loads((run / name).read_text()) for name in SEALED)
    assert directory.load(run).calibration == expected.calibration

    data = tiny.write_dataset(tmp_path / "data")
    before = store.load(data)
    unsealed(data / manifest.MANIFEST)
    with pytest.raises(jmer.UserError, match=r"manifest.json is damaged"):
        store.load(data)
    unsealed_again = json.loads((data / manifest.MANIFEST).read_text()) | {"schema_version": 3}
    (data / manifest.MANIFEST).write_text(json.dumps(unsealed_again))
    assert store.load(data).fingerprint == before.fingerprint


def test_two_trainers_do_not_share_a_directory(tiny_dataset, run):
    with (
        RunDirectory(run).locked(),
        pytest.raises(jmer.UserError, match=r"another process trains into .*; wait until it ends, or give another"),
    ):
        tiny.train(tiny_dataset, run, seeds=2)
    (run / "diverged.json").unlink()
    tiny.train(tiny_dataset, run, seeds=2)


def test_the_hashes_of_an_epoch_that_was_removed_are_not_left(tiny_dataset, run):
    """A process may be ended between the removal of both."""
    (run / "diverged.json").unlink()
    (run / "checkpoints/1.sha256.json").write_text("{}")
    tiny.train(tiny_dataset, run, seeds=2)
    assert not (run / "checkpoints/1.sha256.json").exists()
