"""Scores of a run on a split of a dataset, as files and as a report."""

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jmer.base import files
from jmer.base.errors import UserError
from jmer.base.labels import check_label
from jmer.base.types import UNLABELLED, Features
from jmer.dataset import store
from jmer.runs.directory import Run
from jmer.runs.predictor import check_members, predict_features
from jmer.runs.report import confusion_picture, report_table
from jmer.training import metrics


def evaluate(members: Sequence[Run], dataset: store.Dataset, split: str, *, vote: bool = False) -> dict[str, Any]:
    """Scores runs on a split, writes the files, prints the report, and returns what `metrics.json` holds.

    Args:
      members: one run; more only where they vote. The files go to the first.
      vote: average the probabilities of all seeds of all members, for one score.

    Raises:
      UserError: the dataset's features or labels are not those that a run was trained on, or the runs do not fit
        together.
    """
    check_members(members)
    run, name = members[0], f"{split}-vote" if vote else split
    dialogues = compatible_split(run, dataset, split)
    each_run = [predict_features(m, compatible_split(m, dataset, split)) for m in members]
    probs = np.concatenate([np.concatenate([p for p, _ in pairs], axis=1) for pairs in each_run])  # [S, N, C]
    if vote:
        probs = probs.mean(axis=0, keepdims=True)
    labels = np.concatenate([d.labels for d in dialogues])
    if not (labels != UNLABELLED).any():
        raise UserError(f"{dataset.path}: no utterance of split '{split}' has a label, so there is nothing to score")
    each = [metrics.classification_report(labels, p.argmax(-1), len(run.labels)) for p in probs]
    result = {
        "dataset": str(dataset.path),
        "split": split,
        "n": int((labels != UNLABELLED).sum()),
        "labels": list(run.labels),
        "seeds": list(run.seeds),
        **{name: _spread([r[name] for r in each]) for name in metrics.SCORES},
        "per_class": {
            label: {k: v[c].item() for k, v in each[0]["per_class"].items()} for c, label in enumerate(run.labels)
        },
        "confusion_matrix": each[0]["confusion_matrix"].tolist(),
        "checkpoint": str(run.workdir / "checkpoints" / str(run.progress["epoch"])),
        "best_epoch": run.progress["best_epoch"],
        "members": [str(m.workdir) for m in members] if vote else [],  # whose seeds voted
    }
    folder = run.workdir / "eval" / name
    who = "all seeds" if vote else f"seed {run.seeds[0]}"
    folder.mkdir(parents=True, exist_ok=True)
    files.save_json(folder / "metrics.json", result)
    picture = confusion_picture(each[0]["confusion_matrix"], run.labels, title=f"{split}, {who}")
    picture.savefig(folder / "confusion_matrix.png", dpi=150)
    _write_predictions(folder / "predictions.csv", run.labels, dialogues, probs[0])
    print(report_table(result))
    print(f"written to {folder}\n")
    return result


def compatible_split(run: Run, dataset: store.Dataset, split: str) -> tuple[Features, ...]:
    """Returns a split with its labels numbered as the run numbers them.

    Raises:
      UserError: features come from other extractors than the run's, or a label is not in the run's set.
    """
    for modality, expected in run.modalities.items():
        found = dataset.manifest["modalities"][modality]
        if found["dim"] and found["fingerprint"] != expected["fingerprint"]:
            raise UserError(
                f"{dataset.path}: its {modality} features come from another extractor ({found['extractor']}) than "
                f"the run's ({expected['extractor']}); extract again with the run's"
            )
    cure = "score a dataset that has only labels of the run"
    numbers = [run.labels.index(check_label(x, run.labels, where=str(dataset.path), cure=cure)) for x in dataset.labels]
    lookup = np.array([*numbers, UNLABELLED], np.int32)  # UNLABELLED is -1: the last
    return tuple(replace(d, labels=lookup[d.labels]) for d in dataset.split(split))


def _spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean and sample standard deviation over seeds (0 for one seed)."""
    std = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"mean": float(np.mean(values)), "std": std, "values": list(values)}


def _write_predictions(file: Path, labels: Sequence[str], dialogues: Sequence[Features], probs: np.ndarray) -> None:
    """One row an utterance; `probs` is `[N, C]`."""
    each = iter(probs)
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["dialogue", "utterance", "speaker", "text", "label", "prediction", *labels])
        for d in dialogues:
            for utterance, speaker, text, label in zip(d.utterance_ids, d.speakers, d.texts, d.labels, strict=True):
                p = next(each)
                true = "" if label == UNLABELLED else labels[label]
                row = [d.dialogue_id, utterance, speaker, text, true, labels[p.argmax()]]
                writer.writerow([*row, *(f"{x:.6f}" for x in p)])
