"""Whether one run is better than another, beyond the chance of which dialogues the split holds."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from scipy import stats

from jmer.base import files
from jmer.base.errors import UserError
from jmer.base.types import UNLABELLED
from jmer.pages.report import comparison
from jmer.runs.directory import Run
from jmer.runs.scored import Scored
from jmer.runs.scoring import dataset_of, predicted
from jmer.training import metrics

_log = logging.getLogger(__name__)

RESAMPLES = 10_000
_BATCH = 50  # resamples that are scored at a time
_SHOWN = ("weighted_f1", "macro_f1", "accuracy")


def compare(first: Scored, second: Scored, *, classes: int, resamples: int = RESAMPLES) -> dict[str, Any]:
    """Compares what two models say of the same utterances, by the first prediction of each.

    Returns: `scores`, with the values, the difference, its 95 % interval and a p-value by a bootstrap over dialogues
      (Efron & Tibshirani 1993, chapter 13); and `mcnemar`, the counts and the p-value of the exact test (McNemar 1947).

    Raises:
      UserError: the utterances or their labels differ, or there are fewer than two dialogues.
    """
    if _asked(first) != _asked(second):
        raise UserError(
            "the two runs were scored on different utterances, so that they cannot be compared; give two runs whose "
            "datasets hold the same split"
        )
    true, dialogue = first.labels, first.dialogue
    if len(np.unique(dialogue)) < 2:
        raise UserError("the split holds one dialogue; a comparison draws dialogues and needs two or more")
    answers = [each.probs[0].argmax(axis=-1) for each in (first, second)]
    counts = np.stack([_by_dialogue(true, a, dialogue, classes) for a in answers])
    known = true != UNLABELLED
    right = [(a == true)[known] for a in answers]
    alone = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    return {
        "resamples": resamples,
        "scores": {name: _bootstrap(counts, name, resamples) for name in _SHOWN},
        "mcnemar": {
            "both": int((right[0] & right[1]).sum()),
            "first": alone[0],
            "second": alone[1],
            "neither": int((~right[0] & ~right[1]).sum()),
            "p": float(stats.binomtest(alone[0], sum(alone)).pvalue) if sum(alone) else 1.0,
        },
    }


def _asked(scored: Scored) -> list[tuple[str, str, int]]:
    """Returns what was predicted: each utterance and its label."""
    return [(row.dialogue, row.utterance, row.label) for row in scored.rows]


def _by_dialogue(
    true: Int[np.ndarray, " N"], predicted: Int[np.ndarray, " N"], dialogue: Int[np.ndarray, " N"], classes: int
) -> Int[np.ndarray, "D C C"]:
    """Returns the confusion matrix of each dialogue."""
    each = range(dialogue.max() + 1)
    return np.stack([metrics.confusion_matrix(true[dialogue == d], predicted[dialogue == d], classes) for d in each])


def _bootstrap(counts: Int[np.ndarray, "2 D C C"], name: str, resamples: int) -> dict[str, Any]:
    def difference(drawn: np.ndarray, axis: int) -> np.ndarray:
        first, second = _score(counts[:, drawn].sum(axis=axis - 2), name)  # the axis of the dialogues drawn
        return second - first

    numbers = np.arange(counts.shape[1])
    found = stats.bootstrap(
        (numbers,), difference, vectorized=True, n_resamples=resamples, batch=_BATCH, method="percentile", rng=0
    )
    drawn = found.bootstrap_distribution
    values = [float(_score(each, name)) for each in counts.sum(axis=1)]
    return {
        "values": values,
        "difference": values[1] - values[0],
        "interval": [float(end) for end in found.confidence_interval],
        "p": float(min(1.0, 2 * min((drawn <= 0).mean(), (drawn >= 0).mean()))),
    }


def _score(confusion: Int[np.ndarray, "*shape C C"], name: str) -> Any:
    """Returns a score of many confusion matrices at once, `[*shape]`, as `metrics.scores` defines it."""
    hits = np.einsum("...ii->...i", confusion)
    support, total = confusion.sum(axis=-1), confusion.sum(axis=-2) + confusion.sum(axis=-1)
    everything = np.maximum(support.sum(axis=-1), 1)
    if name == "accuracy":
        return hits.sum(axis=-1) / everything
    f1 = 2 * hits / np.maximum(total, 1)
    return f1.mean(axis=-1) if name == "macro_f1" else (support * f1).sum(axis=-1) / everything


def compare_runs(first: Run, second: Run, *, split: str, vote: bool, moved: Path | None = None) -> str:
    """Compares two runs on a split, writes the result as JSON and as a page, and returns it as a text table.

    Args:
      vote: the vote of all seeds of each run is compared; otherwise its first seed.
      moved: the dataset of both; by default each is compared on the one that it was trained on.

    Raises:
      UserError: as `compare` or `jmer.runs.scoring.predicted` does.
    """
    runs = first, second
    said = [predicted([run], dataset_of(run, moved), split, vote=vote) for run in runs]
    names = [run.directory.path.name for run in runs]
    if names[0] == names[1]:
        names = [str(run.directory.path) for run in runs]
    found = compare(*said, classes=len(first.inputs.labels))
    known = int((said[0].labels != UNLABELLED).sum())
    who = "the votes of all seeds" if vote else f"seed {first.options.seed} and seed {second.options.seed}"
    content = {
        "names": names,
        "about": f"{Path(first.options.dataset).name}, {split}: {known} utterances; {who}",
    } | found
    folder = first.directory.evaluation(split, vote=vote)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"against-{second.directory.path.name}.html"
    files.save_json(file.with_suffix(".json"), content)
    files.save_text(file, comparison(content))
    _log.info(f"written to {file}")
    return table(names, found)


def table(names: Sequence[str], found: dict[str, Any]) -> str:
    """Returns a comparison as a text table."""
    wide = max(len(name) for name in (*names, "difference")) + 2
    lines = [
        f"{'':<14}" + "".join(f"{name:>{wide}}" for name in (*names, "difference")) + f"{'95 % interval':>18}{'p':>9}"
    ]
    for name, row in found["scores"].items():
        values = "".join(f"{value:>{wide}.4f}" for value in row["values"])
        interval = f"{row['interval'][0]:+.4f} {row['interval'][1]:+.4f}"
        lines.append(f"{name:<14}{values}{row['difference']:>+{wide}.4f}{interval:>18}{row['p']:>9.3g}")
    m = found["mcnemar"]
    lines.append(f"right alone: {m['first']} and {m['second']} utterances; McNemar's exact p {m['p']:.3g}")
    return "\n".join(lines)
