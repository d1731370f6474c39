"""Training end to end on a tiny dataset: what it learns, resume, determinism, seeds, and what is refused."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest
import tiny

from jmer import train
from jmer.base import cli
from jmer.base.types import UNLABELLED
from jmer.dataset import store
from jmer.runs import directory, voting
from jmer.runs.log import LOG_SHA256
from jmer.training import checkpoint, metrics, steps


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return tiny.write_dataset(tmp_path_factory.mktemp("data") / "tiny")


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory):
    """Two seeds, four epochs, never interrupted."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    tiny.train(dataset, workdir, seeds=2)
    return workdir


def assert_same(a, b, *, within=0.0):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=within)


def state_of(workdir):
    """The whole content of the last checkpoint, but for the hash of the log, which holds seconds."""
    folder = workdir / "checkpoints"
    *trees, progress = checkpoint.Checkpoints(folder).restore(checkpoint.latest_epoch(folder), state=None, best=None)
    return *trees, {name: value for name, value in progress.items() if name != LOG_SHA256}


def lines_of(workdir):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def macro_f1(run, dialogues) -> list[float]:
    """The score of each seed."""
    labels = np.concatenate([d.labels for d in dialogues])
    probs = np.concatenate([p for p, _ in voting.predict_features(run, dialogues)], axis=1)
    return [metrics.classification_report(labels, p.argmax(-1), len(tiny.LABELS))["macro_f1"] for p in probs]


def test_it_learns_the_labels_of_dialogues_that_it_was_not_trained_on(tmp_path):
    splits = {
        name: tiny.dialogues([8] * count, seed=seed)
        for name, count, seed in (("train", 40, 1), ("dev", 10, 2), ("test", 10, 3))
    }
    data = tiny.write_dataset(tmp_path / "data", splits=splits)
    tiny.train(
        data, tmp_path / "run", seeds=2, epochs=15, patience=15, hidden=16, lr=2e-2, batch_utterances=64, dropout=0.1
    )
    run, unseen = directory.load(tmp_path / "run"), store.load(data).split("test")
    assert min(macro_f1(run, unseen)) > 0.85  # chance is a third
    untrained = steps.repeat_params(steps.init_params(run.model, seeds=(0, 1)), count=1)
    assert max(macro_f1(replace(run, params=untrained), unseen)) < 0.5


def test_it_logs_every_epoch_of_every_seed(trained):
    lines = lines_of(trained)
    assert [(line["epoch"], line["seed"]) for line in lines] == [(e, s) for e in (1, 2, 3, 4) for s in (0, 1)]
    for line in lines:
        assert set(line) == {"epoch", "seed", "train_loss", "graph_weight", *(f"dev_{name}" for name in metrics.SCORES)}
        assert 0 < line["train_loss"] < 3
        assert line["graph_weight"] == 1


@pytest.mark.parametrize("when", ["before", "after", "without its hashes"])
def test_killed_and_run_again_it_ends_with_the_same_parameters(dataset, trained, tmp_path, monkeypatch, when):
    save = checkpoint.Checkpoints.save
    monkeypatch.setattr(checkpoint, "PAUSE", 0)  # every epoch is saved

    def killed(self, epoch, **parts):
        if when != "before" or epoch != 3:
            save(self, epoch, **parts)
        if epoch == 3:
            if when == "without its hashes":
                (self.folder / "3.sha256.json").unlink()
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint.Checkpoints, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        tiny.train(dataset, tmp_path / "run", seeds=2)
    monkeypatch.setattr(checkpoint.Checkpoints, "save", save)
    tiny.train(dataset, tmp_path / "run", seeds=2)
    assert_same(state_of(tmp_path / "run"), state_of(trained))
    assert lines_of(tmp_path / "run") == lines_of(trained)


def test_a_seed_alone_is_the_same_as_in_company(dataset, trained, tmp_path):
    tiny.train(dataset, tmp_path / "run", seed=1)
    alone, together = directory.load(tmp_path / "run"), directory.load(trained)
    assert_same(jax.tree.map(lambda x: x[0], alone.params), jax.tree.map(lambda x: x[1], together.params), within=1e-5)
    assert not np.allclose(*jax.tree.leaves(together.params)[0])  # and seeds differ


def errors(capsys, *argv) -> str:
    """The one line that a refused command prints."""
    assert cli.run(train.main, [str(a) for a in argv]) == cli.EXIT_USER_ERROR
    err = capsys.readouterr().err.strip()
    assert err.startswith("error: ")
    assert "\n" not in err
    return err


def test_what_training_refuses(root, dataset, trained, tmp_path, capsys):
    config = f"--config={root}/configs/gat_fusion.py"
    workdir = f"--workdir={tmp_path}/run"
    data = f"--config.dataset={dataset}"
    assert "did you mean 'lr'" in errors(capsys, config, "--config.lrr=1")
    assert "nowhere does not exist" in errors(capsys, config, f"--config.dataset={tmp_path}/nowhere", workdir)
    assert "config.modalities is smell" in errors(capsys, config, data, workdir, "--config.modalities=smell")
    assert "config.hidden was 8, is 128" in errors(capsys, config, data, f"--workdir={trained}", "--config.seeds=2")
    folds = ("--config.cv=speaker", "--coordinator=localhost:1")
    assert "--coordinator cannot be used with config.cv" in errors(capsys, config, data, workdir, *folds)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.txt").touch()
    assert "holds no run" in errors(capsys, config, data, f"--workdir={tmp_path}/full")
    no_dev = tiny.write_dataset(tmp_path / "no_dev", splits={"train": tiny.dialogues([4])})
    assert "no dev split" in errors(capsys, config, f"--config.dataset={no_dev}", workdir)
    no_video = {m: tiny.modality(m) for m in ("text", "audio")} | {
        "video": {"dim": 0, "extractor": None, "fingerprint": "", "reason": "switched off"}
    }
    no_video = tiny.write_dataset(tmp_path / "no_video", modalities=no_video)
    said = errors(capsys, config, f"--config.dataset={no_video}", workdir, "--config.modalities=video")
    assert "has no video (switched off); it has text, audio" in said
    assert "does not exist" in errors(capsys, "--config=nowhere.py")
    assert "config.hidden is 100; expected a multiple of 2 and of config.heads (3)" in errors(
        capsys, config, data, workdir, "--config.hidden=100", "--config.heads=3"
    )
    for field, value in (("dropout", "1.0"), ("seeds", "0"), ("lr", "0"), ("heads", "0"), ("epochs", "-1")):
        assert f"config.{field} is" in errors(capsys, config, data, workdir, f"--config.{field}={value}")
    unlabelled = [replace(d, labels=np.full_like(d.labels, UNLABELLED)) for d in tiny.dialogues([4])]
    mute = [replace(d, present={**d.present, "audio": np.zeros(4, np.bool_)}) for d in tiny.dialogues([4])]
    for name, train_split, message in (("u", unlabelled, "train split has a label"), ("m", mute, "has audio; leave")):
        out = tiny.write_dataset(tmp_path / name, splits={"train": train_split, "dev": tiny.dialogues([4])})
        assert message in errors(capsys, config, f"--config.dataset={out}", workdir)
    assert not (tmp_path / "run").exists()


def test_the_command_opens_its_dataset_once(dataset, tmp_path, monkeypatch):
    file = tmp_path / "small.py"
    file.write_text(
        f"from pathlib import Path\nimport tiny\ndef get_config():\n    return tiny.config(Path({str(dataset)!r}))\n"
    )
    opened, load = [], store.load
    monkeypatch.setattr(store, "load", lambda path: opened.append(path) or load(path))
    with jax.numpy_dtype_promotion("standard"):  # Optax raises a float to an integer power
        arguments = [f"--config={file}", f"--workdir={tmp_path}/run", "--config.epochs=1", "--config.graph=none"]
        assert cli.run(train.main, [*arguments, "--config.encoder=none"]) == cli.EXIT_OK
    assert opened == [dataset]
    for split in ("dev", "test"):
        assert (tmp_path / "run/eval" / split / "metrics.json").is_file()
