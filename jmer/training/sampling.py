"""Class imbalance, before training: counts, class weights, and which dialogues to draw how often. Numpy only."""

import numpy as np

from jmer.base.types import UNLABELLED
from jmer.dataset.plan import Plan

CLASS_WEIGHTS = ("none", "inverse", "sqrt", "effective")


def class_counts(labels: np.ndarray, lengths: np.ndarray, *, num_classes: int) -> np.ndarray:
    """Returns how many utterances of each class each dialogue has: `[n, C]` int64.

    Args:
      labels: `[N]` int32, the dialogues' end to end; lengths: `[n]`, of the dialogues.
    """
    dialogue, known = np.repeat(np.arange(len(lengths)), lengths), labels != UNLABELLED
    pair = dialogue[known] * num_classes + labels[known]
    return np.bincount(pair, minlength=len(lengths) * num_classes).reshape(-1, num_classes)


def class_weights(counts: np.ndarray, *, scheme: str, beta: float = 0.999) -> np.ndarray:
    """Returns a weight a class, `[C]` float64, scaled so that their mean over the counted utterances is 1.

    A class that does not occur weighs 0.

    Args:
      counts: `[C]`.
      scheme: `none`; `inverse`, 1 / n; `sqrt`, 1 / sqrt(n); `effective`, (1 - beta) / (1 - beta^n), the inverse of the
        effective number of samples (Cui et al. 2019, equation 2).
    """
    n = np.maximum(counts, 1).astype(np.float64)
    weights = {
        "none": np.ones_like(n),
        "inverse": 1 / n,
        "sqrt": n**-0.5,
        "effective": (1 - beta) / (1 - beta**n),
    }[scheme]
    weights = np.where(counts > 0, weights, 0)
    return weights * counts.sum() / (weights * counts).sum()


def dialogue_weights(counts: np.ndarray, *, scheme: str) -> np.ndarray:
    """Returns how often to draw each dialogue, relative to the others: the mean class weight of its utterances.

    Args:
      counts: `[n, C]`, of `class_counts`; scheme: of `class_weights`.

    Returns:
      `[n]` float64 of mean 1; a dialogue without any label is never drawn unless the scheme is `none`.
    """
    if scheme == "none":
        return np.ones(len(counts))
    each = counts @ class_weights(counts.sum(axis=0), scheme=scheme) / np.maximum(counts.sum(axis=1), 1)
    return each / each.mean()


def expected_shares(plan: Plan, counts: np.ndarray) -> np.ndarray:
    """Returns each class's expected share of the labelled utterances that an epoch of the plan draws.

    Args:
      counts: `[n, C]`, of the plan's dialogues.
    """
    drawn = plan.expected_draws() @ counts
    return drawn / drawn.sum()
