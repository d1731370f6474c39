"""Bootstrap and McNemar's test against independent computations."""

import math
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from jmer.base.errors import UserError
from jmer.base.types import UNLABELLED
from jmer.runs.comparison import compare
from jmer.runs.scored import Scored, ScoredRow

CLASSES = 3
ZERO: Any = 0.0  # scikit-learn says that it takes a string


def said(labels: Any, answers: Any, *, length: int = 5) -> Scored:
    rows = [ScoredRow(f"d{i // length}", f"u{i}", "", "", int(label)) for i, label in enumerate(labels)]
    return Scored(rows, np.eye(CLASSES)[np.asarray(answers)][None])


def guesses(labels: np.ndarray, rng: np.random.Generator, *, right: float) -> np.ndarray:
    wrong = rng.integers(CLASSES, size=len(labels))
    return np.where(rng.random(len(labels)) < right, np.maximum(labels, 0), wrong)


@pytest.fixture
def both() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    labels = rng.choice([UNLABELLED, 0, 1, 2], p=[0.1, 0.5, 0.3, 0.1], size=150)
    return labels, guesses(labels, rng, right=0.3), guesses(labels, rng, right=0.55)


def test_scores_and_intervals_are_those_of_a_plain_loop(both):
    labels, first, second = both
    found = compare(said(labels, first), said(labels, second), classes=CLASSES, resamples=2000)
    scorers = {
        "accuracy": accuracy_score,
        "weighted_f1": lambda t, p: f1_score(t, p, labels=range(CLASSES), average="weighted", zero_division=ZERO),
        "macro_f1": lambda t, p: f1_score(t, p, labels=range(CLASSES), average="macro", zero_division=ZERO),
    }
    known, dialogue, rng = labels != UNLABELLED, np.arange(len(labels)) // 5, np.random.default_rng(0)
    for name, scorer in scorers.items():
        row = found["scores"][name]
        assert row["values"] == pytest.approx([scorer(labels[known], a[known]) for a in (first, second)])
        drawn = []
        for _ in range(200):
            chosen = np.concatenate([np.flatnonzero(dialogue == d) for d in rng.integers(30, size=30)])
            chosen = chosen[known[chosen]]
            drawn.append(scorer(labels[chosen], second[chosen]) - scorer(labels[chosen], first[chosen]))
        assert row["interval"] == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.04)
        assert row["interval"][0] < row["difference"] < row["interval"][1]
        assert row["p"] < 0.05


def test_the_p_value_of_runs_that_do_not_differ(both):
    """Over many pairs of equally good runs, a p-value below .1 comes up about as often as it says."""
    rng, low = np.random.default_rng(0), 0
    for _ in range(60):
        labels = rng.integers(CLASSES, size=100)
        pair = [said(labels, guesses(labels, rng, right=0.5)) for _ in range(2)]
        low += compare(*pair, classes=CLASSES, resamples=300)["scores"]["accuracy"]["p"] < 0.1
    assert 1 <= low <= 14  # of 60; 6 are expected


def test_mcnemar_is_the_binomial_test_of_the_utterances_that_one_run_alone_gets_right():
    labels = [0] * 20
    first, second = [0] * 10 + [1] * 10, [0] * 8 + [1] * 3 + [0] * 9
    found = compare(said(labels, first), said(labels, second), classes=CLASSES, resamples=10)["mcnemar"]
    assert (found["both"], found["first"], found["second"], found["neither"]) == (8, 2, 9, 1)
    assert found["p"] == pytest.approx(2 * sum(math.comb(11, k) for k in range(3)) / 2**11)
    same = compare(said(labels, first), said(labels, first), classes=CLASSES, resamples=10)
    assert same["mcnemar"]["p"] == 1
    assert same["scores"]["accuracy"]["p"] == 1


def test_what_cannot_be_compared():
    with pytest.raises(UserError, match="different utterances"):
        compare(said([0, 1, 2], [0, 0, 0]), said([0, 1, 1], [0, 0, 0]), classes=CLASSES)
    with pytest.raises(UserError, match="one dialogue"):
        compare(said([0, 1, 2], [0, 0, 0]), said([0, 1, 2], [0, 0, 0]), classes=CLASSES)
