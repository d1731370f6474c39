"""The run directory: who may write into it, where training goes on, and how a run is opened."""

import json
import re
import shutil
import tarfile
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import tiny

import jmer
from jmer.base import files
from jmer.runs import directory, fit, voting
from jmer.runs.environment import keep_compiled
from jmer.runs.layout import Layout
from jmer.training import checkpoint


@pytest.fixture
def run(trained, tmp_path):
    """A copy of a finished run of four epochs."""
    return shutil.copytree(trained, tmp_path / "run")


def epochs_of(workdir) -> list[int]:
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [line["epoch"] for line in map(json.loads, lines) if line["seed"] == 0]


def test_what_lies_in_it(trained):
    named = {p for p in vars(Layout).values() if isinstance(p, property)}
    files = {p.fget(Layout(trained)).name for p in named if p.fget}
    exported = {
        "export.json",
        "model.safetensors",
        "README.md",
        "model.stablehlo",
        "stablehlo.json",
        "model.onnx",
        "onnx.json",
    }
    assert {p.name for p in trained.iterdir()} - {"eval", ".lock"} == files - exported - {
        "diverged.json", "calibration.json",
    }  # fmt: skip
    config = json.loads((trained / "config.json").read_text())
    assert (config["hidden"], config["seeds"], config["gfpush"]["alpha"]) == (8, 2, 0.2)
    environment = json.loads((trained / "environment.json").read_text())
    assert environment["packages"]["jax"] == jax.__version__
    assert environment["streamed"] is False


def test_another_setting_is_refused_with_both_values_and_nothing_is_written(tiny_dataset, run):
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    with pytest.raises(jmer.UserError, match="give another --workdir, or remove") as error:
        tiny.train(tiny_dataset, run, seeds=1, lr=0.02)
    assert "config.lr was 0.01, is 0.02" in str(error.value)
    assert "config.seeds was 2, is 1" in str(error.value)
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before


def test_a_run_is_lengthened(tiny_dataset, run, said):
    tiny.train(tiny_dataset, run, seeds=2, epochs=6)
    lines = said.readouterr().out
    assert "goes on with a changed setting: config.epochs was 4, is 6" in lines
    assert "going on after epoch 4" in lines
    assert epochs_of(run) == [1, 2, 3, 4, 5, 6]
    assert directory.load(run).progress.epoch == 6
    assert json.loads((run / "config.json").read_text())["epochs"] == 6
    with pytest.raises(jmer.UserError, match=r"config\.epochs was 6, is 4"):
        tiny.train(tiny_dataset, run, seeds=2)


def test_the_dataset_may_move_but_not_change(tiny_dataset, run, tmp_path):
    moved = shutil.copytree(tiny_dataset, tmp_path / "moved")
    tiny.train(moved, run, seeds=2, vote=True, devices=2)
    options = directory.load(run).options
    assert (options.dataset, options.vote) == (str(moved), True)
    splits = {name: tiny.dialogues([4, 6], seed=5) for name in ("train", "dev")}
    other = tiny.write_dataset(tmp_path / "other", splits=splits)
    with pytest.raises(jmer.UserError, match=r"the dataset's fingerprint was [0-9a-f]{12}, is [0-9a-f]{12}"):
        tiny.train(other, run, seeds=2)
    assert directory.load(run).options.dataset == str(moved)


def test_every_modality_may_be_spelled_out(tiny_dataset, run):
    tiny.train(tiny_dataset, run, seeds=2, modalities="video, text,audio")
    with pytest.raises(jmer.UserError, match="modalities was text,audio,video, is text"):
        tiny.train(tiny_dataset, run, seeds=2, modalities="text")


def test_a_folder_that_holds_something_else_is_refused_but_not_what_a_kill_left(tiny_dataset, tmp_path):
    workdir = tmp_path / "run"
    workdir.mkdir()
    (workdir / ".config.json.partial").write_text('{"half')
    (workdir / "thesis.txt").touch()
    with pytest.raises(jmer.UserError, match="is not empty and holds no run"):
        tiny.train(tiny_dataset, workdir, epochs=1)
    (workdir / "thesis.txt").unlink()
    tiny.train(tiny_dataset, workdir, epochs=1)
    assert epochs_of(workdir) == [1]


def test_a_kill_while_the_log_is_trimmed_loses_nothing(tiny_dataset, run, monkeypatch):
    shutil.rmtree(run / "checkpoints/4")

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", killed)
        with pytest.raises(KeyboardInterrupt):
            fit.Log(directory.RunDirectory(run), after=3, epochs=4)
    assert epochs_of(run) == [1, 2, 3, 4]
    tiny.train(tiny_dataset, run, seeds=2)
    assert epochs_of(run) == [1, 2, 3, 4]


def test_the_main_process_decides_where_training_goes_on(tiny_dataset, run, monkeypatch):
    """As in another process, whose network file system does not list the latest checkpoints yet."""
    monkeypatch.setattr(fit, "is_main", lambda: False)
    monkeypatch.setattr(fit, "latest_epoch", None)
    monkeypatch.setattr(fit, "as_main", lambda decision: 4)
    tiny.train(tiny_dataset, run, seeds=2, epochs=5)
    assert epochs_of(run) == [1, 2, 3, 4]  # the main process writes the log
    assert directory.load(run).progress.epoch == 5


def test_opening_a_run_writes_nothing_and_opens_no_manager_that_could(run, monkeypatch):
    monkeypatch.setattr(checkpoint, "Checkpoints", None)
    files = sorted(run.rglob("*"))
    for path in files:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = {path: path.stat().st_mtime_ns for path in files}
    try:
        assert directory.load(run).progress.epoch == 4
        assert {path: path.stat().st_mtime_ns for path in sorted(run.rglob("*"))} == before
    finally:
        for path in files:
            path.chmod(0o755 if path.is_dir() else 0o644)


def test_a_run_without_a_checkpoint_says_so(run):
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(jmer.UserError, match=r"has no checkpoint yet; run jmer\.train"):
        directory.load(run)
    assert not (run / "checkpoints").exists()


def test_a_run_of_an_earlier_version_is_opened(root, tmp_path):
    """Written at commit c1a16cb; `expected.json` holds what it predicted then, [dialogue][seed][utterance][class]."""
    with tarfile.open(root / "tests/fixtures/run_format4.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    run = directory.load(tmp_path)
    assert run.options.keep_epochs == 2
    assert run.progress.epoch == 6
    found = [probs for probs, _ in voting.predict_features(run, tiny.dialogues([5, 3], seed=9))]
    for probs, expected in zip(found, json.loads((tmp_path / "expected.json").read_text()), strict=True):
        np.testing.assert_allclose(probs, expected, rtol=0, atol=1e-5)


def test_an_option_that_is_newer_than_the_run_has_its_default_and_an_unknown_one_names_the_writer(run, edited):
    config = json.loads((run / "config.json").read_text())
    del config["co_attention"], config["gfpush"]
    files.save_sealed(run / "config.json", config)
    assert directory.load(run).options.gfpush.alpha == 0.2
    edited(run / "config.json", lookahead=3)
    edited(run / "environment.json", packages={"jmer": "9.9"}, git_revision="abc")
    with pytest.raises(jmer.UserError, match=r"config.json: .*no field 'lookahead'.*jmer 9\.9 \(revision abc\) wrote"):
        directory.load(run)
    edited(run / "features.json", format=6)
    files.save_sealed(run / "config.json", config)
    (run / "environment.json").unlink()
    with pytest.raises(
        jmer.UserError, match=r"has run format 6, .* reads formats 4 and 5; jmer of an unknown version wrote"
    ):
        directory.load(run)


def test_compiled_programs_are_kept_where_jax_was_told_or_in_the_cache_folder(tmp_path, monkeypatch):
    name = "jax_compilation_cache_dir"
    before = jax.config.values[name]
    keep_compiled()
    assert jax.config.values[name] == before  # conftest named it
    monkeypatch.setenv("JMER_CACHE", str(tmp_path))
    try:
        jax.config.update(name, None)
        keep_compiled()
        assert jax.config.values[name] == str(tmp_path / "xla")
    finally:
        jax.config.update(name, before)


def test_nobody_else_builds_a_path_within_a_run(root):
    files = "config|features|environment|classes|calibration|diverged"
    names = rf'"({files})\.json"|"metrics\.jsonl"|"tensorboard"|"checkpoints"|"eval"|"folds"'
    users = [*(root / "jmer/runs").glob("*.py"), root / "jmer/train.py", root / "jmer/evaluate.py"]
    assert [file.name for file in users if re.search(names, file.read_text())] == ["layout.py"]


def test_saving_takes_no_more_than_a_tenth_of_the_time(tmp_path, monkeypatch):
    clock, hashes, saved = SimpleNamespace(now=0.0), checkpoint._hashes, []

    def slow(folder):
        clock.now += 2
        return hashes(folder)

    monkeypatch.setattr(checkpoint, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    monkeypatch.setattr(checkpoint, "_hashes", slow)
    checkpoints = checkpoint.Checkpoints(tmp_path / "checkpoints")
    for epoch in range(1, 16):
        clock.now += 3
        if checkpoints.due():
            checkpoints.save(epoch, state={"x": np.zeros(1)}, best={"x": np.zeros(1)}, progress={})
            saved.append(epoch)
    assert saved == [1, 7, 13]  # 18 s between two saves of 2 s


def test_the_last_epoch_is_saved_however_soon_it_follows(tiny_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "PAUSE", 1e9)
    tiny.train(tiny_dataset, tmp_path / "run", seeds=2)
    assert sorted(p.name for p in (tmp_path / "run/checkpoints").iterdir() if p.is_dir()) == ["1", "4"]
    assert epochs_of(tmp_path / "run") == [1, 2, 3, 4]
