"""The scores of a split: as files, as a text table, and as a picture of the confusion matrix."""

import csv
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from jmer.base import files
from jmer.base.types import UNLABELLED
from jmer.corpora import csvfile
from jmer.training import metrics

_log = logging.getLogger(__name__)


class ScoredRow(NamedTuple):
    """An utterance that was predicted; `label` is its class, or `UNLABELLED`."""

    dialogue: str
    utterance: str
    speaker: str
    text: str
    label: int


def write_scores(
    folder: Path,
    rows: Sequence[ScoredRow],
    probs: Float[np.ndarray, "S N C"],
    *,
    labels: Sequence[str],
    title: str,
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """Scores predictions, writes the files of an evaluation, prints the report, and returns `metrics.json`'s content.

    Args:
      folder: for metrics.json, confusion_matrix.png and predictions.csv.
      probs: of each seed. The table of classes, the confusion matrix and the predictions are those of the first.
      title: of the picture.
      about: further entries of metrics.json, among them `dataset`, `split`, `seeds` and `members`; `ece`, a `spread` of
        calibration errors, is printed where it is given.
    """
    true = np.array([row.label for row in rows])
    each = [metrics.classification_report(true, p.argmax(-1), len(labels)) for p in probs]
    result = {
        **about,
        "n": int((true != UNLABELLED).sum()),
        "labels": list(labels),
        **{name: spread([r[name] for r in each]) for name in metrics.SCORES},
        "per_class": {
            label: {k: v[c].item() for k, v in each[0]["per_class"].items()} for c, label in enumerate(labels)
        },
        "confusion_matrix": each[0]["confusion_matrix"].tolist(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    files.save_json(folder / "metrics.json", result)
    picture = confusion_picture(each[0]["confusion_matrix"], labels, title=title)
    picture.savefig(folder / "confusion_matrix.png", dpi=150)
    _write_predictions(folder / "predictions.csv", labels, rows, probs[0])
    print(report_table(result))
    _log.info(f"written to {folder}\n")
    return result


def report_table(result: Mapping[str, Any]) -> str:
    """Returns a text table of the content of `metrics.json`: the scores, one row a class, and the confusion matrix."""
    seeds = result["seeds"]
    members = result["members"]
    many = len(seeds) > 1 and not members
    lines = [f"== {result['split']}: {result['n']} utterances of {result['dataset']}"]
    lines += [f"seeds {', '.join(map(str, seeds))}: mean and standard deviation"] if many else []
    lines += [f"vote of all seeds of {', '.join(members)}"] if members else []
    for name in ("weighted_f1", "macro_f1", "accuracy", "weighted_precision", "weighted_recall", "ece"):
        if name in result:
            title = "calibration error" if name == "ece" else name.replace("_", " ").replace("f1", "F1")
            deviation = f" +- {result[name]['std']:.4f}" if many else ""
            lines.append(f"{title:<20}{result[name]['mean']:.4f}{deviation}")
    wide = max(10, *map(len, result["labels"])) + 2
    first = f" (seed {seeds[0]})" if many else ""
    lines += ["", f"{'class' + first:<{wide + len(first)}}{'precision':>10}{'recall':>10}{'F1':>10}{'support':>10}"]
    for label, row in result["per_class"].items():
        figures = "".join(f"{row[name]:>10.3f}" for name in ("precision", "recall", "f1"))
        lines.append(f"{label:<{wide + len(first)}}{figures}{row['support']:>10}")
    short = [label[:7] for label in result["labels"]]
    lines += ["", f"{'true | predicted':<{wide + 7}}" + "".join(f"{s:>8}" for s in short)]
    for label, row in zip(result["labels"], result["confusion_matrix"], strict=True):
        lines.append(f"{label:<{wide + 7}}" + "".join(f"{n:>8}" for n in row))
    return "\n".join(lines)


def confusion_picture(confusion: np.ndarray, labels: Sequence[str], *, title: str) -> Figure:
    """Draws a confusion matrix: the colour of a cell is its share of the true class, its number is the count.

    Args:
      confusion: `[C, C]` counts, rows true, columns predicted.
    """
    side = 1.6 + 0.7 * len(labels)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.subplots()
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (i, j), count in np.ndenumerate(confusion):
        axes.text(j, i, str(count), ha="center", va="center", color="white" if share[i, j] > 0.5 else "black")
    axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right")
    axes.set_yticks(range(len(labels)), labels)
    axes.set(xlabel="predicted", ylabel="true", title=title)
    figure.colorbar(image, ax=axes, label="share of the true class")
    return figure


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Returns mean and sample standard deviation over seeds; the deviation of one seed is 0."""
    std = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"mean": float(np.mean(values)), "std": std, "values": list(values)}


def _write_predictions(file: Path, labels: Sequence[str], rows: Sequence[ScoredRow], probs: np.ndarray) -> None:
    """Writes one row an utterance; `probs` is `[N, C]`, in the order of the rows. No text becomes a formula."""
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        head = ["dialogue", "utterance", "speaker", "text", "label", "prediction", *labels]
        writer.writerow(map(csvfile.harmless, head))
        for row, p in zip(rows, probs, strict=True):
            true = "" if row.label == UNLABELLED else labels[row.label]
            begin = [row.dialogue, row.utterance, row.speaker, row.text, true, labels[p.argmax()]]
            writer.writerow([*map(csvfile.harmless, begin), *(f"{x:.6f}" for x in p)])
