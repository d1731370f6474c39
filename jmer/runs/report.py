"""The scores of a split: as files, as a text table, as a picture of the confusion matrix and as a page."""

import csv
import io
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from jmer.base import files, locks
from jmer.base.types import UNLABELLED
from jmer.corpora import csvfile
from jmer.pages.render import score
from jmer.pages.report import Report, report
from jmer.runs import breakdown
from jmer.runs.scored import ScoredRow
from jmer.training import metrics

_log = logging.getLogger(__name__)


def write_scores(
    folder: Path,
    rows: Sequence[ScoredRow],
    probs: Float[np.ndarray, "S N C"],
    *,
    labels: Sequence[str],
    title: str,
    about: Mapping[str, Any],
    **shown: Any,
) -> dict[str, Any]:
    """Scores predictions, writes the files of an evaluation, prints the report, and returns `metrics.json`'s content.

    Args:
      folder: for metrics.json, confusion_matrix.png, predictions.csv and report.html.
      probs: of each seed. The table of classes, the confusion matrix and the predictions are those of the first.
      title: what is scored, for titles: the split, and the seed or the vote.
      about: further entries of metrics.json, among them `dataset`, `split`, `seeds` and `members`; `ece`, a `spread` of
        calibration errors, is printed where it is given.
      shown: further fields of `jmer.pages.report.Report`.
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
    whole = f"{Path(result['dataset']).name}, {result['split']}: {result['n']} utterances"
    f1 = score(each[0]["weighted_f1"])
    picture = confusion_picture(each[0]["confusion_matrix"], labels, title=f"{whole}\n{title}, weighted F1 {f1}")
    drawn = io.BytesIO()
    picture.savefig(drawn, format="png", dpi=150)
    page = Report(
        title=f"{Path(result['dataset']).name}: {title}",
        about=whole + (", on which the epochs were chosen" if result["split"] == "dev" else ""),
        result=result,
        first=title.rpartition(", ")[2],
        parts=breakdown.parts(rows, probs[0].argmax(-1), classes=len(labels)),
        errors=breakdown.surest_errors(rows, probs[0], labels),
        **shown,
    )
    shown_page, predictions = report(page), _predictions(labels, rows, probs[0])
    with locks.held(folder / ".lock"):  # the files of two evaluations at once, such as training's own, do not mix
        files.save_json(folder / "metrics.json", result)
        files.save_bytes(folder / "confusion_matrix.png", drawn.getvalue())
        files.save_text(folder / "predictions.csv", predictions)
        files.save_text(folder / "report.html", shown_page)
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


def _predictions(labels: Sequence[str], rows: Sequence[ScoredRow], probs: np.ndarray) -> str:
    """Returns a CSV table of one row an utterance. No text becomes a formula.

    Args:
      probs: `[N, C]`, in the order of the rows.
    """
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    head = ["dialogue", "utterance", "speaker", "text", "label", "prediction", *labels]
    writer.writerow(map(csvfile.harmless, head))
    for row, p in zip(rows, probs, strict=True):
        true = "" if row.label == UNLABELLED else labels[row.label]
        begin = [row.dialogue, row.utterance, row.speaker, row.text, true, labels[p.argmax()]]
        writer.writerow([*map(csvfile.harmless, begin), *(f"{x:.6f}" for x in p)])
    return stream.getvalue()
