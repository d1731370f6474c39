"""The scores of a cross-validated run, or of one run, on dialogues that a benchmark has changed."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jmer.base.types import Features
from jmer.runs import directory
from jmer.runs.directory import Run, RunDirectory
from jmer.runs.report import spread
from jmer.runs.voting import predict_features
from jmer.training.metrics import classification_report

SCORES = ("weighted_f1", "macro_f1")


def fold_runs(workdir: Path) -> list[Run]:
    """Opens the runs of all folds of a cross-validation."""
    return [directory.load(path) for path in sorted(RunDirectory(workdir).fold(0).path.parent.iterdir())]


def scores(
    runs: Sequence[Run], tested: Sequence[Sequence[Features]], chosen: np.ndarray | slice = slice(None)
) -> list[list[float]]:
    """Returns the `SCORES` of what the runs say of their dialogues, all together, each for every seed.

    Args:
      tested: for each run, the dialogues that it is given.
      chosen: a mask of the utterances that count, `[N]`.
    """
    labels = np.concatenate([d.labels for dialogues in tested for d in dialogues])[chosen]
    said = [p for run, dialogues in zip(runs, tested, strict=True) for p, _ in predict_features(run, dialogues)]
    each = [classification_report(labels, p.argmax(-1), p.shape[-1]) for p in np.concatenate(said, axis=1)[:, chosen]]
    return [[report[name] for report in each] for name in SCORES]


def cell(values: Sequence[float]) -> str:
    """Returns the mean of scores as the docs show it, with the deviation where there are several."""
    found = spread(values)
    return " ± ".join(f"{found[name]:.3f}".removeprefix("0") for name in ("mean", "std")[: len(values)])
