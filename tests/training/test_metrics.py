from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk

from jmer.training import metrics


@pytest.mark.parametrize("seed", range(20))
def test_equals_scikit_learn_with_absent_classes(seed):
    rng = np.random.default_rng(seed)
    classes = 7
    drawn = rng.choice(
        classes, size=rng.integers(1, classes), replace=False
    )  # some are never true, some never predicted
    labels, preds = rng.choice(drawn, 40), rng.choice(np.roll(drawn, 1)[: max(1, len(drawn) - 1)], 40)
    ours = metrics.classification_report(labels, preds, classes)
    all_classes = {"labels": range(classes), "zero_division": 0.0}
    for average in ("weighted", "macro"):
        p, r, f, _ = sk.precision_recall_fscore_support(labels, preds, average=average, **all_classes)
        assert ours[f"{average}_f1"] == pytest.approx(f, abs=1e-12)
        if average == "weighted":
            assert ours["weighted_precision"] == pytest.approx(p, abs=1e-12)
            assert ours["weighted_recall"] == pytest.approx(r, abs=1e-12)
    each: Any = sk.precision_recall_fscore_support(labels, preds, **all_classes)
    for name, expected in zip(("precision", "recall", "f1", "support"), each, strict=True):
        np.testing.assert_allclose(ours["per_class"][name], expected, atol=1e-12)
    assert ours["accuracy"] == pytest.approx(sk.accuracy_score(labels, preds))
    np.testing.assert_array_equal(ours["confusion_matrix"], sk.confusion_matrix(labels, preds, labels=range(classes)))


def test_unlabelled_utterances_do_not_count():
    report = metrics.classification_report([0, -1, 1, -1], [0, 1, 1, 0], 2)
    assert report["accuracy"] == 1
    assert report["confusion_matrix"].sum() == 2


def test_nothing_to_score_gives_zeros():
    report = metrics.classification_report([-1], [0], 3)
    assert [report[name] for name in metrics.SCORES] == [0.0] * 5
