"""Precision, recall, F1 and the confusion matrix, as scikit-learn defines them over the whole label set.

A class without any true or predicted utterance scores 0 and counts in the macro mean, as with scikit-learn's
`labels=range(C), zero_division=0`.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from jmer.base.types import UNLABELLED

SCORES = ("accuracy", "weighted_f1", "macro_f1", "weighted_precision", "weighted_recall")


def confusion_matrix(labels: Any, preds: Any, num_classes: int) -> Int[np.ndarray, "C C"]:
    """Returns the counts of (true, predicted) pairs, rows true, columns predicted; unlabelled utterances are left out.

    Args:
      labels, preds: integers of one shape.
    """
    labels, preds = np.asarray(labels).reshape(-1), np.asarray(preds).reshape(-1)
    known = labels != UNLABELLED
    counts = np.bincount(labels[known] * num_classes + preds[known], minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def scores(confusion: Int[np.ndarray, "C C"]) -> dict[str, Any]:
    """Returns the floats `SCORES` of a confusion matrix, and its figures `per_class`.

    The latter are `precision`, `recall` and `f1` (`[C]` float64) and `support` (`[C]` int64).

    Args:
      confusion: rows true, columns predicted.
    """
    hits, support, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    precision, recall = _ratio(hits, predicted), _ratio(hits, support)
    f1 = _ratio(2 * hits, support + predicted)
    share = _ratio(support, support.sum())
    return {
        "accuracy": float(_ratio(hits.sum(), support.sum())),
        "weighted_f1": float(share @ f1),
        "macro_f1": float(f1.mean()),
        "weighted_precision": float(share @ precision),
        "weighted_recall": float(share @ recall),
        "per_class": {"precision": precision, "recall": recall, "f1": f1, "support": support},
    }


def classification_report(labels: Any, preds: Any, num_classes: int) -> dict[str, Any]:
    """Returns `scores` of the pairs, and their `confusion_matrix`."""
    confusion = confusion_matrix(labels, preds, num_classes)
    return scores(confusion) | {"confusion_matrix": confusion}


def expected_calibration_error(labels: Any, probs: Float[np.ndarray, "N C"], *, bins: int = 15) -> float:
    """Returns the expected calibration error of the likeliest class; Guo et al. 2017, equation 3.

    It is the mean difference between how often the likeliest class is right and the probability that it is given, over
    bins of equal width, each weighing as many utterances as it has. It is 0 where no utterance is labelled.

    Args:
      labels: `[N]` integers; unlabelled utterances are left out.
    """
    labels = np.asarray(labels)
    known = labels != UNLABELLED
    labels, probs = labels[known], probs[known]
    sure, right = probs.max(axis=1), probs.argmax(axis=1) == labels
    # A bin holds its upper end, as in the paper.
    place = np.clip(np.ceil(sure.astype(np.float64) * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(place, weights=right - sure, minlength=bins)
    return float(np.abs(gaps).sum() / max(len(labels), 1))


def _ratio(a: Any, b: Any) -> np.ndarray:
    """a / b, and 0 where b is 0."""
    a, b = np.broadcast_arrays(a, b)
    return np.divide(a, b, out=np.zeros(a.shape, np.float64), where=b != 0)
