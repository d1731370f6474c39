"""Cross-validation: a run for each fold, and one score of all that the folds did not train on."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from jmer.base.errors import UserError
from jmer.dataset import store
from jmer.runs import directory
from jmer.runs.directory import RunDirectory
from jmer.runs.fit import fit
from jmer.runs.report import write_scores
from jmer.runs.scored import Scored
from jmer.runs.scoring import (
    calibration_errors,
    calibration_on,
    calibration_shown,
    cross_calibrated,
    folded,
    predicted,
)
from jmer.training.calibration import fit_temperature
from jmer.training.options import TrainOptions

_log = logging.getLogger(__name__)


def cross_validate(options: TrainOptions, dataset: store.Dataset, workdir: Path) -> None:
    """Trains every fold into `workdir`, from where an earlier call stopped, and scores their test splits together.

    The temperature of a fold is the one that fits the test splits of all other folds.

    Raises:
      UserError: the dataset cannot be divided so, or as `fit` does.
    """
    if RunDirectory(workdir).config.is_file():
        raise UserError(f"{workdir} holds a run on one split; give another --workdir")
    runs, found = [], []
    for number in range(options.folds):
        of_fold = replace(options, fold=number)
        data = folded(dataset, of_fold)
        _log.info(f"== fold {number + 1} of {options.folds}")
        path = RunDirectory(workdir).fold(number).path
        fit(of_fold, data, path)
        runs.append(directory.load(path))
        found.append(predicted([runs[-1]], data, "test", vote=False))
    pooled = Scored.pooled(found)
    fold = Scored.part_of_each(found)
    for number, run in enumerate(runs):
        others = fold != number
        run.directory.write_calibration(calibration_on(pooled.probs[:, others], pooled.labels[others]))
    for vote in (False, True) if options.vote else (False,):
        _score(options, dataset, workdir, pooled, fold, vote=vote)


def _score(
    options: TrainOptions, dataset: store.Dataset, workdir: Path, pooled: Scored, fold: np.ndarray, *, vote: bool
) -> None:
    if vote:
        pooled = Scored(pooled.rows, pooled.probs.mean(axis=0, keepdims=True))
    probs = cross_calibrated(pooled, fold)
    temperatures = [fit_temperature(p, pooled.labels) for p in pooled.probs]
    write_scores(
        RunDirectory(workdir).evaluation("cv", vote=vote),
        pooled.rows,
        probs,
        labels=dataset.labels,
        title=f"{options.folds} folds by {options.cv}, {'all seeds' if vote else f'seed {options.seed}'}",
        about={
            "dataset": str(dataset.path),
            "split": f"{options.folds} folds by {options.cv}",
            "seeds": list(options.all_seeds),
            "checkpoint": str(RunDirectory(workdir).fold(0).path.parent),
            "members": [str(workdir)] if vote else [],
            **calibration_errors(pooled, probs, temperatures),
        },
        calibration=calibration_shown(pooled, probs),
    )
