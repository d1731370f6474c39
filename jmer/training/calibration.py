"""Calibration: one temperature that makes probabilities as sure as they are right. Numpy and SciPy only."""

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize_scalar

from jmer.base.types import UNLABELLED

_LEAST, _MOST = 0.05, 20.0  # bounds of a temperature
FLOOR = 1e-12  # of a probability under a logarithm


def scaled(probs: Float[np.ndarray, "*shape C"], temperature: float) -> Float[np.ndarray, "*shape C"]:
    """Returns probabilities proportional to p^(1 / temperature); the likeliest class stays the likeliest.

    For the softmax of logits this is temperature scaling (Guo et al. 2017, section 4.2). It also applies to the mean
    of several softmaxes, as of a vote.
    """
    if temperature == 1:
        return probs
    log_p = np.log(np.maximum(probs, FLOOR)) / temperature
    p = np.exp(log_p - log_p.max(axis=-1, keepdims=True))
    return (p / p.sum(axis=-1, keepdims=True)).astype(probs.dtype)


def fit_temperature(probs: Float[np.ndarray, "N C"], labels: Int[np.ndarray, " N"]) -> float:
    """Returns the temperature with the least cross-entropy over the labelled utterances; 1 where there are none."""
    known = labels != UNLABELLED
    if not known.any():
        return 1.0
    probs, labels = probs[known].astype(np.float64), labels[known]

    def cross_entropy(log_temperature: float) -> float:
        p = scaled(probs, float(np.exp(log_temperature)))[np.arange(len(labels)), labels]
        return -np.log(np.maximum(p, FLOOR)).mean()

    found = minimize_scalar(cross_entropy, bounds=(np.log(_LEAST), np.log(_MOST)), method="bounded")
    return float(np.exp(found.x))  # pyright: ignore[reportAttributeAccessIssue]


def cross_scaled(
    probs: Float[np.ndarray, "N C"], labels: Int[np.ndarray, " N"], groups: Int[np.ndarray, " N"]
) -> Float[np.ndarray, "N C"]:
    """Scales the utterances of each group by the temperature that fits all other groups."""
    out = np.empty_like(probs)
    for group in np.unique(groups):
        here = groups == group
        out[here] = scaled(probs[here], fit_temperature(probs[~here], labels[~here]))
    return out
