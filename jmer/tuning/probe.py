"""A head to begin with: a logistic regression on the vectors of the encoder as published.

Kumar et al. 2022 show that an encoder forgets less when its head begins so. Numpy and scikit-learn only.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Int
from sklearn.linear_model import LogisticRegression

from jmer.base.types import UNLABELLED

_STRENGTH = 0.01  # the inverse of the penalty on the coefficients
_UNSEEN = -10.0  # logit of a class that no utterance has
# The least deviation of a feature, relative to the typical one. A smaller deviation is not scaled up to 1.
_LEAST = 0.1


def probe(
    vectors: Float[np.ndarray, "N D"], labels: Int[np.ndarray, " N"], *, classes: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the statistics of the vectors, `mean` and `scale` `[D]`, and a head, `kernel` `[D, C]` and `bias` `[C]`.

    The head is for vectors that are standardised by the statistics.
    """
    known = labels != UNLABELLED
    vectors, labels = vectors[known].astype(np.float64), labels[known]
    mean, deviation = vectors.mean(axis=0), vectors.std(axis=0)
    scale = 1 / np.maximum(deviation, _LEAST * np.sqrt(np.mean(deviation**2)))
    found = LogisticRegression(C=_STRENGTH, max_iter=300).fit((vectors - mean) * scale, labels)
    coefficients, intercept = found.coef_, found.intercept_
    if len(found.classes_) == 2:  # scikit-learn has one row for two classes
        coefficients, intercept = (np.concatenate([-x / 2, x / 2]) for x in (coefficients, intercept))
    kernel, bias = np.zeros((vectors.shape[1], classes)), np.full(classes, _UNSEEN)
    kernel[:, found.classes_], bias[found.classes_] = coefficients.T, intercept
    mean, scale, kernel, bias = (x.astype(np.float32) for x in (mean, scale, kernel, bias))
    return {"mean": mean, "scale": scale}, {"kernel": kernel, "bias": bias}
