"""Scores on a split: the files that evaluation writes, and the datasets that it refuses."""

import csv
import errno
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny

from jmer import evaluate
from jmer.base import cli
from jmer.base.types import UNLABELLED
from jmer.dataset import store
from jmer.runs import directory, scoring, voting
from jmer.training import metrics


def run_evaluate(workdir, *arguments) -> int:
    return cli.run(evaluate.main, [f"--workdir={workdir}", *map(str, arguments)])


def read(workdir, name):
    return json.loads((workdir / "eval" / name / "metrics.json").read_text())


def test_the_best_epoch_is_scored_and_the_files_are_written(tiny_dataset, trained, tmp_path, capsys):
    workdir = shutil.copytree(trained, tmp_path / "run")
    assert run_evaluate(workdir, "--split=dev") == 0
    result = read(workdir, "dev")
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    best = [max(x["dev_weighted_f1"] for x in lines if x["seed"] == seed) for seed in (0, 1)]
    np.testing.assert_allclose(result["weighted_f1"]["values"], best, atol=1e-12)
    assert result["weighted_f1"]["mean"] == pytest.approx(np.mean(best))
    assert result["weighted_f1"]["std"] == pytest.approx(np.std(best, ddof=1))
    labels = np.concatenate([d.labels for d in store.load(tiny_dataset).split("dev")])
    assert result["n"] == (labels != UNLABELLED).sum() == np.sum(result["confusion_matrix"])
    assert result["labels"] == list(result["per_class"]) == list(tiny.LABELS)
    assert result["members"] == []
    assert result["checkpoint"] == str(workdir / "checkpoints/4")
    assert (workdir / "eval/dev/confusion_matrix.png").read_bytes().startswith(b"\x89PNG")
    assert "weighted F1" in capsys.readouterr().out

    # The predictions are those of the first seed, whose classes and confusion matrix the report shows.
    with (workdir / "eval/dev/predictions.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ["" if i == UNLABELLED else tiny.LABELS[i] for i in labels]
    predicted = [tiny.LABELS.index(row["prediction"]) for row in rows]
    report = metrics.classification_report(labels, predicted, len(tiny.LABELS))
    assert report["weighted_f1"] == result["weighted_f1"]["values"][0]
    assert report["confusion_matrix"].tolist() == result["confusion_matrix"]
    for row, prediction in zip(rows, predicted, strict=True):
        probs = [float(row[label]) for label in tiny.LABELS]
        assert (sum(probs), int(np.argmax(probs))) == (pytest.approx(1, abs=1e-5), prediction)


def test_a_run_that_was_trained_to_vote_is_scored_both_ways(rich, tmp_path, capsys):
    workdir = shutil.copytree(rich, tmp_path / "run")
    assert run_evaluate(workdir, "--split=dev") == 0
    assert "vote of all seeds" in capsys.readouterr().out
    run = directory.load(workdir)
    dialogues = scoring.dataset_of(run, None).split("dev")
    labels = np.concatenate([d.labels for d in dialogues])
    each = np.concatenate([probs for probs, _ in voting.predict_features(run, dialogues)], axis=1)
    single = [metrics.classification_report(labels, p.argmax(-1), 3)["weighted_f1"] for p in each]
    assert read(workdir, "dev")["weighted_f1"]["values"] == single
    voted = metrics.classification_report(labels, each.mean(axis=0).argmax(-1), 3)
    result = read(workdir, "dev-vote")
    assert result["weighted_f1"]["values"] == [voted["weighted_f1"]]
    assert result["members"] == [str(workdir)]


def test_a_split_is_decoded_once_for_all_members(trained, monkeypatch, tmp_path):
    members, decoded = [directory.load(shutil.copytree(trained, tmp_path / name)) for name in "abc"], []
    stored = store.Dataset.stored
    monkeypatch.setattr(store.Dataset, "stored", lambda self, name: decoded.append(name) or stored(self, name))
    scoring.score(members, scoring.dataset_of(members[0], None), "dev", vote=True)
    assert decoded == ["dev"]
    with pytest.raises(ValueError, match="by a vote"):
        scoring.score(members, scoring.dataset_of(members[0], None), "dev", vote=False)


def test_a_dataset_that_moved_is_named(tiny_dataset, trained, tmp_path, edited, capsys):
    workdir = shutil.copytree(trained, tmp_path / "run")
    edited(workdir / "config.json", dataset=str(tmp_path / "gone"))
    assert run_evaluate(workdir, "--split=dev") == cli.EXIT_USER_ERROR
    assert f"was trained on {tmp_path}/gone, which is not there any more; name its new place" in capsys.readouterr().err
    assert run_evaluate(workdir, "--split=dev", f"--dataset={tiny_dataset}") == 0


def test_other_features_and_labels_are_refused_and_their_order_is_mapped(tiny_dataset, trained, tmp_path, capsys):
    workdir = shutil.copytree(trained, tmp_path / "run")

    def run(out):
        return run_evaluate(workdir, f"--dataset={out}", "--split=dev")

    other = {m: tiny.modality(m, fingerprint="other") for m in tiny.DIMS}
    assert run(tiny.write_dataset(tmp_path / "other", modalities=other)) == 2
    assert "another extractor" in capsys.readouterr().err
    assert run(tiny.write_dataset(tmp_path / "labels", labels=("calm", "glad", "bored"))) == 2
    assert "'bored' is not in the set" in capsys.readouterr().err
    assert run_evaluate(tmp_path / "nowhere") == 2
    assert "does not exist" in capsys.readouterr().err

    turned = [2, 0, 1]  # the new position of each label
    labels = [tiny.LABELS[turned.index(i)] for i in range(3)]
    lookup = np.array([*turned, UNLABELLED], np.int32)
    splits = {"dev": [replace(d, labels=lookup[d.labels]) for d in store.load(tiny_dataset).split("dev")]}
    assert run(tiny.write_dataset(tmp_path / "turned", labels=labels, splits=splits)) == 0
    mapped = read(workdir, "dev")
    assert run(tiny_dataset) == 0
    assert read(workdir, "dev")["weighted_f1"] == mapped["weighted_f1"]
    assert read(workdir, "dev")["confusion_matrix"] == mapped["confusion_matrix"]


@pytest.mark.parametrize("name", ["metrics.json", "confusion_matrix.png", "predictions.csv", "report.html"])
def test_a_file_that_cannot_be_written_leaves_the_earlier_one_whole(trained, tmp_path, monkeypatch, name, capsys):
    """Each file is renamed into its place; a file written in its place would not reach the fault."""
    workdir = shutil.copytree(trained, tmp_path / "run")
    assert run_evaluate(workdir, "--split=dev") == 0
    folder, rename = workdir / "eval/dev", os.replace
    before = {file: file.read_bytes() for file in folder.iterdir()}
    reached = []

    def full(source, target, **given):
        if Path(target).name == name:
            reached.append(Path(source))
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        rename(source, target, **given)

    monkeypatch.setattr(os, "replace", full)
    capsys.readouterr()
    assert run_evaluate(workdir, "--split=dev") == 5
    assert capsys.readouterr().err.startswith(f"error: {folder / name}: No space left on device")
    assert [file.exists() for file in reached] == [False]
    assert {file: file.read_bytes() for file in folder.iterdir()} == before
