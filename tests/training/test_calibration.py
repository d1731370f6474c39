"""Temperatures: they undo a known one, keep the likeliest class, and are fitted on other utterances than they scale."""

import numpy as np
import pytest

from jmer.base.types import UNLABELLED
from jmer.training import calibration, metrics


def softmax(logits: np.ndarray) -> np.ndarray:
    p = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return p / p.sum(axis=-1, keepdims=True)


def drawn(n: int = 20_000, *, temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that are `temperature` times as sure as the labels that are drawn."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(n, 4))
    labels = (softmax(logits).cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    return softmax(logits * temperature), np.minimum(labels, 3)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_a_known_temperature_is_found_and_undone(temperature: float):
    probs, labels = drawn(temperature=temperature)
    found = calibration.fit_temperature(probs, labels)
    assert found == pytest.approx(temperature, rel=0.05)
    scaled = calibration.scaled(probs, found)
    np.testing.assert_allclose(scaled.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(scaled.argmax(axis=1), probs.argmax(axis=1))
    assert metrics.expected_calibration_error(labels, scaled) < 0.015
    before = metrics.expected_calibration_error(labels, probs)
    assert before > 0.1 or temperature == 1


def test_scaling_is_that_of_the_logits():
    logits = np.random.default_rng(0).normal(size=(3, 5, 4))
    np.testing.assert_allclose(calibration.scaled(softmax(logits), 1.7), softmax(logits / 1.7), atol=1e-9)
    certain = np.array([[1.0, 0.0]], np.float32)
    assert np.isfinite(calibration.scaled(certain, 0.1)).all()


def test_unlabelled_utterances_do_not_count():
    probs, labels = drawn(2000, temperature=2.0)
    some = np.where(np.arange(2000) % 2, labels, UNLABELLED)
    assert calibration.fit_temperature(probs, some) == calibration.fit_temperature(probs[1::2], labels[1::2])
    assert calibration.fit_temperature(probs, np.full(2000, UNLABELLED)) == 1.0


def test_a_group_is_scaled_by_what_fits_the_others():
    one, two = drawn(4000, temperature=0.5, seed=1), drawn(4000, temperature=2.0, seed=2)
    probs, labels = (np.concatenate(pair) for pair in zip(one, two, strict=True))
    found = calibration.cross_scaled(probs, labels, np.repeat([7, 9], 4000))
    np.testing.assert_allclose(found[:4000], calibration.scaled(one[0], calibration.fit_temperature(*two)))
    np.testing.assert_allclose(found[4000:], calibration.scaled(two[0], calibration.fit_temperature(*one)))


def test_the_calibration_error_is_that_of_its_definition():
    probs, labels = drawn(300, temperature=1.5)
    labels[:10] = UNLABELLED
    known = labels != UNLABELLED
    sure, right = probs[known].max(axis=1), probs[known].argmax(axis=1) == labels[known]
    expected = 0.0
    for i in range(15):
        inside = (sure > i / 15) & (sure <= (i + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - sure[inside].mean())
    assert metrics.expected_calibration_error(labels, probs) == pytest.approx(expected, abs=1e-12)
    perfect = np.eye(4)[np.zeros(5, int)]
    assert metrics.expected_calibration_error(np.zeros(5, int), perfect) == 0
    assert metrics.expected_calibration_error(np.ones(5, int), perfect) == 1
    assert metrics.expected_calibration_error(np.full(5, UNLABELLED), perfect) == 0
