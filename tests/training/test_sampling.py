from collections.abc import Sequence

import numpy as np
import pytest
import tiny

from jmer.base.types import UNLABELLED, Features
from jmer.dataset.plan import Plan
from jmer.training.options import CLASS_WEIGHTS
from jmer.training.sampling import class_counts, class_weights, dialogue_weights, expected_shares


def counts_of(dialogues: Sequence[Features], *, num_classes: int) -> np.ndarray:
    labels = np.concatenate([d.labels for d in dialogues])
    return class_counts(labels, np.array(list(map(len, dialogues))), num_classes=num_classes)


def test_counts_leave_out_the_unlabelled():
    dialogues = tiny.dialogues([5, 9])
    counts = counts_of(dialogues, num_classes=4)
    assert counts.shape == (2, 4)
    for row, d in zip(counts, dialogues, strict=True):
        assert row.tolist() == [(d.labels == c).sum() for c in range(4)]


def test_class_weights_are_what_their_names_say():
    counts = np.array([1000, 100, 10, 0])
    for scheme in CLASS_WEIGHTS:
        weights = class_weights(counts, scheme=scheme)
        assert weights[3] == 0
        np.testing.assert_allclose((weights * counts).sum() / counts.sum(), 1)
    ratio = {scheme: (lambda w: w[2] / w[0])(class_weights(counts, scheme=scheme)) for scheme in CLASS_WEIGHTS}
    effective = (1 - 0.999**1000) / (1 - 0.999**10)
    expected = {"none": 1, "inverse": 100, "sqrt": 10, "effective": effective}
    assert ratio == pytest.approx(expected)


@pytest.mark.parametrize("scheme", ["inverse", "sqrt"])
def test_expected_shares_are_those_that_the_plan_draws(scheme):
    rng = np.random.default_rng(0)
    dialogues = tiny.dialogues(rng.integers(2, 14, size=60).tolist())
    for d in dialogues:  # the last class is rare
        d.labels[(d.labels == 2) & (rng.random(len(d)) < 0.9)] = 0
    counts = counts_of(dialogues, num_classes=3)
    weights = dialogue_weights(counts, scheme=scheme)
    plan = Plan([len(d) for d in dialogues], batch_utterances=32, weights=weights)
    labels, drawn = np.concatenate([d.labels for d in dialogues]), np.zeros(3)
    for epoch in range(100):
        for index in plan.epoch(epoch, seeds=[0]):
            seen = labels[index[index < len(labels)]]
            drawn += np.bincount(seen[seen != UNLABELLED], minlength=3)
    expected = expected_shares(plan, counts)
    np.testing.assert_allclose(expected.sum(), 1)
    np.testing.assert_allclose(drawn / drawn.sum(), expected, atol=0.01)
    plain = counts.sum(axis=0) / counts.sum()
    assert expected[2] > 1.2 * plain[2]


def test_without_a_sampler_the_shares_are_those_of_the_split():
    dialogues = tiny.dialogues([3, 9, 4, 5, 8])
    counts = counts_of(dialogues, num_classes=3)
    assert (dialogue_weights(counts, scheme="none") == 1).all()
    plan = Plan([len(d) for d in dialogues], batch_utterances=32)
    np.testing.assert_allclose(expected_shares(plan, counts), counts.sum(axis=0) / counts.sum())
