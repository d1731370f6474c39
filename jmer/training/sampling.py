"""Class imbalance before training: counts, class weights, and how often each dialogue is drawn. Numpy only."""

import numpy as np
from jaxtyping import Float, Int

from jmer.base.types import UNLABELLED
from jmer.dataset.plan import Plan


def class_counts(
    labels: Int[np.ndarray, " N"], lengths: Int[np.ndarray, " K"], *, num_classes: int
) -> Int[np.ndarray, "K C"]:
    """Returns how many utterances of each class each of K dialogues has.

    Args:
      labels: of the utterances of all dialogues, end to end.
      lengths: of the dialogues.
    """
    dialogue, known = np.repeat(np.arange(len(lengths)), lengths), labels != UNLABELLED
    pair = dialogue[known] * num_classes + labels[known]
    return np.bincount(pair, minlength=len(lengths) * num_classes).reshape(-1, num_classes)


def class_weights(counts: Int[np.ndarray, " C"], *, scheme: str, beta: float = 0.999) -> Float[np.ndarray, " C"]:
    """Returns a weight for each class, scaled so that the mean weight of the counted utterances is 1.

    A class that does not occur weighs 0.

    Args:
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


def loss_weights(counts: Int[np.ndarray, " C"], *, scheme: str) -> tuple[float, ...] | None:
    """Returns `class_weights` as a loss takes them; None where every class weighs 1."""
    return None if scheme == "none" else tuple(class_weights(counts, scheme=scheme).tolist())


def dialogue_weights(counts: Int[np.ndarray, "K C"], *, scheme: str) -> Float[np.ndarray, " K"]:
    """Returns how often to draw each of K dialogues relative to the others: the mean class weight of its utterances.

    The mean over the dialogues is 1. A dialogue without any label is never drawn, unless the scheme is `none`.

    Args:
      scheme: as in `class_weights`.
    """
    if scheme == "none":
        return np.ones(len(counts))
    each = counts @ class_weights(counts.sum(axis=0), scheme=scheme) / np.maximum(counts.sum(axis=1), 1)
    return each / each.mean()


def expected_shares(plan: Plan, counts: Int[np.ndarray, "K C"]) -> Float[np.ndarray, " C"]:
    """Returns each class's expected share of the labelled utterances that an epoch of the plan draws.

    Args:
      counts: of the plan's K dialogues.
    """
    drawn = plan.expected_draws() @ counts
    return drawn / drawn.sum()
