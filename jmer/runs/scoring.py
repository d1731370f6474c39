"""Scores of runs on a split of a dataset, as files and as a printed report."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jmer.base.errors import UserError
from jmer.base.labels import check_label
from jmer.base.types import UNLABELLED, Features
from jmer.dataset import store
from jmer.runs.directory import Run
from jmer.runs.predictor import check_members, predict_features
from jmer.runs.report import ScoredRow, write_scores


def score(members: Sequence[Run], dataset: store.Dataset, split: str, *, vote: bool) -> dict[str, Any]:
    """Scores runs on a split, writes the files, prints the report, and returns the content of `metrics.json`.

    Args:
      members: the runs; more than one only where they vote. The files go into the directory of the first.
      vote: the probabilities of all seeds of all members are averaged before there is one score. Otherwise each seed
        has a score; the table of classes, the confusion matrix and the predictions are those of the first seed.

    Raises:
      UserError: the dataset has no such split or no label in it, its features or labels are not those that a run was
        trained on, or the runs do not fit together.
    """
    if len(members) > 1 and not vote:
        raise ValueError("several runs can only be scored by a vote")
    check_members(members)
    for member in members:
        check_features(member, dataset)
    run = members[0]
    dialogues = split_for(run, dataset, split)
    labels = np.concatenate([d.labels for d in dialogues])
    if not (labels != UNLABELLED).any():
        raise UserError(f"{dataset.path}: no utterance of split '{split}' has a label, so there is nothing to score")
    each_run = [predict_features(member, dialogues) for member in members]
    probs = np.concatenate([np.concatenate([p for p, _ in pairs], axis=1) for pairs in each_run])  # [S, N, C]
    if vote:
        probs = probs.mean(axis=0, keepdims=True)
    rows = [
        ScoredRow(d.dialogue_id, utterance, speaker, text, int(label))
        for d in dialogues
        for utterance, speaker, text, label in zip(d.utterance_ids, d.speakers, d.texts, d.labels, strict=True)
    ]
    return write_scores(
        run.directory.evaluation(split, vote=vote),
        rows,
        probs,
        labels=run.inputs.labels,
        title=f"{split}, {'all seeds' if vote else f'seed {run.options.seed}'}",
        about={
            "dataset": str(dataset.path),
            "split": split,
            "seeds": list(run.options.all_seeds),
            "checkpoint": str(run.directory.checkpoints / str(run.progress.epoch)),
            "best_epoch": run.progress.best_epoch,
            "members": [str(m.directory.path) for m in members] if vote else [],  # the runs whose seeds voted
        },
    )


def score_run(run: Run, dataset: store.Dataset, split: str) -> None:
    """Scores a run on a split seed by seed and, where the run was trained with `config.vote`, also by their vote."""
    score([run], dataset, split, vote=False)
    if run.options.vote:
        score([run], dataset, split, vote=True)


def dataset_of(run: Run, moved: Path | None) -> store.Dataset:
    """Opens the dataset that a run was trained on, or the one at `moved`.

    Raises:
      UserError: there is no dataset, or it is damaged.
    """
    path = moved or Path(run.options.dataset)
    if moved is None and not path.is_dir():
        raise UserError(
            f"{run.directory.path} was trained on {path}, which is not there any more; name its new place with "
            "--dataset=DIR"
        )
    return store.load(path)


def check_features(run: Run, dataset: store.Dataset) -> None:
    """Checks that a dataset holds features of the extractors that a run reads, unless a modality is absent.

    Raises:
      UserError: the features of a modality come from another extractor.
    """
    for name, expected in run.inputs.modalities.items():
        found = dataset.manifest["modalities"][name]
        if found["dim"] and found["fingerprint"] != expected.fingerprint:
            raise UserError(
                f"{dataset.path}: its {name} features come from another extractor ({found['extractor']}) than "
                f"those of {run.directory.path} ({expected.extractor}); extract again with the run's extractor"
            )


def split_for(run: Run, dataset: store.Dataset, split: str) -> tuple[Features, ...]:
    """Returns a split whose labels are numbered as the run numbers them.

    Raises:
      UserError: the dataset has no such split, or a label that the run does not know.
    """
    known = run.inputs.labels
    cure = "score a dataset that has only labels of the run"
    numbers = [known.index(check_label(x, known, where=str(dataset.path), cure=cure)) for x in dataset.labels]
    lookup = np.array([*numbers, UNLABELLED], np.int32)  # UNLABELLED is -1, which reads the last entry
    return tuple(replace(d, labels=lookup[d.labels]) for d in dataset.split(split))
