"""Scores of runs on a split of a dataset, as files and as a printed report."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from jmer.base.errors import UserError
from jmer.base.labels import check_label
from jmer.base.options import to_config
from jmer.base.types import UNLABELLED, Features
from jmer.dataset import store
from jmer.dataset.folds import fold_of
from jmer.runs.breakdown import Bin, calibration_bins
from jmer.runs.directory import Calibration, Run
from jmer.runs.log import curves
from jmer.runs.report import spread, write_scores
from jmer.runs.scored import Scored, ScoredRow
from jmer.runs.voting import check_features, check_members, joint_calibration, predict_features
from jmer.training.calibration import cross_scaled, fit_temperature, scaled
from jmer.training.metrics import classification_report, expected_calibration_error
from jmer.training.options import TrainOptions


def predicted(members: Sequence[Run], dataset: store.Dataset, split: str, *, vote: bool) -> Scored:
    """Returns what runs say of a split, before any temperature.

    Raises:
      UserError: the dataset has no such split or no label in it, its features or labels are not those that a run was
        trained on, or the runs do not fit together.
    """
    return _said(members, _asked(members, dataset, split), vote=vote)


def _asked(members: Sequence[Run], dataset: store.Dataset, split: str) -> tuple[Features, ...]:
    """Returns the dialogues of a split; the errors are those of `predicted`."""
    check_members(members)
    for member in members:
        check_features(member, dataset)
    dialogues = split_for(members[0], dataset, split)
    if not any((d.labels != UNLABELLED).any() for d in dialogues):
        raise UserError(f"{dataset.path}: no utterance of split '{split}' has a label, so there is nothing to score")
    return dialogues


def _said(members: Sequence[Run], dialogues: Sequence[Features], *, vote: bool) -> Scored:
    each_run = [predict_features(member, dialogues) for member in members]
    probs = np.concatenate([np.concatenate([p for p, _ in pairs], axis=1) for pairs in each_run])
    rows = [
        ScoredRow(d.dialogue_id, utterance, speaker, text, int(label))
        for d in dialogues
        for utterance, speaker, text, label in zip(d.utterance_ids, d.speakers, d.texts, d.labels, strict=True)
    ]
    return Scored(rows, probs.mean(axis=0, keepdims=True) if vote else probs)


def calibrate(run: Run, dataset: store.Dataset) -> Run:
    """Fits the temperatures of a run on dev, where there are labels, and records them; returns the calibrated run."""
    dev = dataset.split("dev") if "dev" in dataset.manifest["splits"] else ()
    if not any((d.labels != UNLABELLED).any() for d in dev):
        return run
    found = predicted([run], dataset, "dev", vote=False)
    calibration = calibration_on(found.probs, found.labels)
    run.directory.write_calibration(calibration)
    return replace(run, calibration=calibration)


def calibration_on(probs: Float[np.ndarray, "S N C"], labels: Int[np.ndarray, " N"]) -> Calibration:
    """Returns the temperatures that fit what the seeds of a run say of these utterances."""
    return Calibration(
        seeds=tuple(fit_temperature(p, labels) for p in probs), vote=fit_temperature(probs.mean(axis=0), labels)
    )


def score(members: Sequence[Run], dataset: store.Dataset, split: str, *, vote: bool) -> dict[str, Any]:
    """Scores runs on a split, writes the files, prints the report, and returns the content of `metrics.json`.

    The temperatures were fitted on dev. There, the calibration error is that of each half of the dialogues with the
    temperature that fits the other half.

    Args:
      members: the runs; more than one only where they vote. The files go into the directory of the first.
      vote: the probabilities of all seeds of all members are averaged before there is one score. Otherwise each seed
        has a score; the table of classes, the confusion matrix and the predictions are those of the first seed.

    Raises:
      UserError: as `predicted` does.
    """
    if len(members) > 1 and not vote:
        raise ValueError("several runs can only be scored by a vote")
    run, dialogues = members[0], _asked(members, dataset, split)
    found = _said(members, dialogues, vote=vote)
    temperatures = joint_calibration(members).of(vote=vote)
    probs, apart = calibrated(found, temperatures, on_dev=split == "dev")
    return write_scores(
        run.directory.evaluation(split, vote=vote),
        found.rows,
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
            **calibration_errors(found, apart, temperatures),
        },
        calibration=calibration_shown(found, apart),
        missing=_without_each(members, dialogues, vote=vote),
        **run_shown(run, dataset),
    )


def _without_each(members: Sequence[Run], dialogues: Sequence[Features], *, vote: bool) -> dict[str, Any]:
    """Returns modality -> the weighted F1 where it is hidden; nothing where the runs read one modality alone."""
    modalities = dict.fromkeys(name for member in members for name in member.inputs.modalities)
    found = {}
    for name in modalities if len(modalities) > 1 else ():
        said = _said(members, [without(d, name) for d in dialogues], vote=vote)
        classes = len(members[0].inputs.labels)
        found[name] = spread(
            [classification_report(said.labels, p.argmax(-1), classes)["weighted_f1"] for p in said.probs]
        )
    return found


def without(dialogue: Features, modality: str) -> Features:
    """Returns a dialogue in which a modality is marked absent."""
    return replace(dialogue, present={m: x & (m != modality) for m, x in dialogue.present.items()})


def calibrated(
    found: Scored, temperatures: Sequence[float], *, on_dev: bool
) -> tuple[Float[np.ndarray, "S N C"], Float[np.ndarray, "S N C"]]:
    """Returns the scaled probabilities, and those for calibration errors, whose temperatures saw other utterances.

    Args:
      temperatures: of each seed, fitted on dev.
      on_dev: whether the utterances are those of dev. If so, the second probabilities are those of each half of the
        dialogues with the temperature that fits the other half.
    """
    probs = np.stack([scaled(p, t) for p, t in zip(found.probs, temperatures, strict=True)])
    return probs, cross_calibrated(found, found.dialogue % 2) if on_dev else probs


def cross_calibrated(found: Scored, groups: Int[np.ndarray, " N"]) -> Float[np.ndarray, "S N C"]:
    """Returns each seed's probabilities, those of a group of utterances scaled by what fits all other groups."""
    return np.stack([cross_scaled(p, found.labels, groups) for p in found.probs])


def calibration_shown(found: Scored, apart: Float[np.ndarray, "S N C"]) -> dict[str, list[Bin]]:
    """Returns the calibration of the first prediction as a report shows it; the keys are those of the errors."""
    return {
        name: calibration_bins(found.labels, probs)
        for name, probs in (("ece_unscaled", found.probs[0]), ("ece", apart[0]))
    }


def run_shown(run: Run, dataset: store.Dataset) -> dict[str, Any]:
    """Returns what a report shows of a run: its curves, its settings, where it was trained, and hashes."""
    options = json.loads(to_config(run.options).to_json())
    return {
        "curves": curves(run.directory.metrics),
        "settings": {name: value for name, value in options.items() if value not in ("", None)},
        "environment": _environment(run),
        "hashes": {
            "dataset": dataset.fingerprint,
            "dataset of training": run.inputs.dataset_fingerprint,
            **{f"extractor of {name}": m.fingerprint for name, m in run.inputs.modalities.items()},
        },
    }


def calibration_errors(
    found: Scored, apart: Float[np.ndarray, "S N C"], temperatures: Sequence[float]
) -> dict[str, Any]:
    """Returns the entries of metrics.json on calibration.

    Args:
      apart: the probabilities scaled by temperatures that were fitted on other utterances.
    """
    errors = [[expected_calibration_error(found.labels, p) for p in each] for each in (found.probs, apart)]
    return {"temperature": list(temperatures), "ece_unscaled": spread(errors[0]), "ece": spread(errors[1])}


def _environment(run: Run) -> dict[str, Any]:
    """Returns what environment.json says, entries of entries by dotted names; no score depends on it."""
    try:
        said = run.directory.read_environment()
    except UserError as error:
        return {"not known": str(error)}
    return {
        f"{name}.{key}" if key else name: x
        for name, value in said.items()
        for key, x in (value.items() if isinstance(value, dict) else [("", value)])
    }


def score_run(run: Run, dataset: store.Dataset, split: str) -> None:
    """Scores a run on a split seed by seed and, where the run was trained with `config.vote`, also by their vote."""
    score([run], dataset, split, vote=False)
    if run.options.vote:
        score([run], dataset, split, vote=True)


def folded(dataset: store.Dataset, options: TrainOptions) -> store.Dataset:
    """Returns the dataset with the splits of the fold that the options name; the dataset itself where they name none.

    Raises:
      UserError: the dataset cannot be divided so.
    """
    if options.cv == "none":
        return dataset
    return fold_of(dataset, options.fold, by=options.cv, count=options.folds, dev=options.choose == "best")


def dataset_of(run: Run, moved: Path | None) -> store.Dataset:
    """Opens the dataset that a run was trained on, or the one at `moved`.

    The dataset that a fold was trained on has the splits of that fold.

    Raises:
      UserError: there is no dataset, or it is damaged.
    """
    path = moved or Path(run.options.dataset)
    if moved is None and not path.is_dir():
        raise UserError(
            f"{run.directory.path} was trained on {path}, which is not there any more; name its new place with "
            "--dataset=DIR"
        )
    dataset = store.load(path)
    return folded(dataset, run.options) if dataset.fingerprint == run.inputs.dataset_fingerprint else dataset


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
