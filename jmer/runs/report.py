"""The scores of a split for a reader: a text table, and a picture of the confusion matrix."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure


def report_table(result: Mapping[str, Any]) -> str:
    """Returns a text table of the content of `metrics.json`: the scores, one row a class, and the confusion matrix."""
    seeds = result["seeds"]
    members = result["members"]
    many = len(seeds) > 1 and not members
    lines = [f"== {result['split']}: {result['n']} utterances of {result['dataset']}"]
    lines += [f"seeds {', '.join(map(str, seeds))}: mean and standard deviation"] if many else []
    lines += [f"vote of all seeds of {', '.join(members)}"] if members else []
    for name in ("weighted_f1", "macro_f1", "accuracy", "weighted_precision", "weighted_recall"):
        spread = f" +- {result[name]['std']:.4f}" if many else ""
        lines.append(f"{name.replace('_', ' ').replace('f1', 'F1'):<20}{result[name]['mean']:.4f}{spread}")
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
