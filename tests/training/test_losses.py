"""Each loss against its formula, in float64 and as plain loops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmer.training.losses import classification_loss, consistency_loss, contrastive_loss

WEIGHTS, PRIOR = (0.5, 1.0, 3.0, 0.0), (-0.1, -1.5, -2.5, -4.0)


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def data(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(3, 5, 4)) * 3, rng.integers(-1, 4, size=(3, 5))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"class_weights": WEIGHTS},
        {"focal_gamma": 2.0},
        {"focal_gamma": 0.5, "class_weights": WEIGHTS},
        {"label_smoothing": 0.2},
        {"log_prior": PRIOR},
        {"class_weights": WEIGHTS, "focal_gamma": 1.5, "label_smoothing": 0.1, "log_prior": PRIOR},
    ],
)
def test_classification_loss_equals_the_formula_in_float64(options):
    logits, labels = data()
    w, gamma = np.array(options.get("class_weights", np.ones(4))), options.get("focal_gamma", 0)
    smooth, prior = options.get("label_smoothing", 0), np.array(options.get("log_prior", np.zeros(4)))

    def formula(logits):
        p = softmax(logits + prior)
        terms = []
        for i in zip(*np.nonzero(labels >= 0), strict=True):
            q = np.full(4, smooth / 4) + (1 - smooth) * np.eye(4)[labels[i]]
            terms.append(-sum(q[c] * w[c] * (1 - p[i][c]) ** gamma * np.log(p[i][c]) for c in range(4)))
        return np.mean(terms)

    def loss(logits):
        return classification_loss(logits, jnp.array(labels, jnp.int32), **options)

    x = jnp.array(logits, jnp.float32)
    value, grads = jax.jit(jax.value_and_grad(loss))(x)
    np.testing.assert_allclose(value, formula(logits), rtol=1e-5)
    for i in [(0, 0, 0), (1, 2, 1), (2, 4, 3)]:  # central differences in float64
        step = np.zeros_like(logits)
        step[i] = 1e-6
        np.testing.assert_allclose(
            grads[i], (formula(logits + step) - formula(logits - step)) / 2e-6, rtol=1e-4, atol=1e-6
        )


def test_what_is_unlabelled_gets_no_gradient_and_nothing_labelled_is_zero():
    logits, labels = jnp.ones((1, 3, 2)), jnp.array([[0, -1, 1]], jnp.int32)
    grads = jax.jit(jax.grad(classification_loss))(logits, labels)
    assert (grads[0, 1] == 0).all()
    assert (grads[0, 0] != 0).all()
    assert classification_loss(logits, jnp.full((1, 3), -1, jnp.int32)) == 0


def test_the_focal_loss_is_finite_where_the_model_is_certain():
    def loss(x):
        return classification_loss(x, jnp.array([0, 1], jnp.int32), focal_gamma=0.5)

    value, grads = jax.jit(jax.value_and_grad(loss))(jnp.array([[200.0, 0], [200.0, 0]]))
    assert np.isfinite(value)
    assert np.isfinite(grads).all()
    assert grads[1, 1] < 0  # the wrong one is still learnt from


@pytest.mark.parametrize("prototypes", [False, True])
def test_contrastive_loss_equals_the_double_loop(prototypes):
    rng = np.random.default_rng(1)
    z = rng.normal(size=(2, 6, 5))
    z /= np.linalg.norm(z, axis=-1, keepdims=True)
    y = np.array([[0, 1, 2, -1, 0, 3], [0, -1, 1, 0, 2, 0]])  # 3 comes once
    centres = rng.normal(size=(4, 5))
    centres /= np.linalg.norm(centres, axis=-1, keepdims=True)
    keys, key_labels = list(z.reshape(-1, 5)), list(y.reshape(-1))
    if prototypes:
        keys, key_labels = keys + list(centres), key_labels + list(range(4))
    terms = []
    for i, (zi, yi) in enumerate(zip(z.reshape(-1, 5), y.reshape(-1), strict=True)):
        others = [a for a in range(len(keys)) if a != i and key_labels[a] >= 0]
        same = [a for a in others if key_labels[a] == yi]
        if yi >= 0 and same:
            below = sum(np.exp(zi @ keys[a] / 0.2) for a in others)
            terms.append(-np.mean([np.log(np.exp(zi @ keys[p] / 0.2) / below) for p in same]))
    assert len(terms) == (10 if prototypes else 9)  # only a prototype gives the only utterance of class 3 a companion

    def loss(z):
        given = jnp.array(centres, jnp.float32) if prototypes else None
        return contrastive_loss(z, jnp.array(y, jnp.int32), temperature=0.2, prototypes=given)

    value, grads = jax.jit(jax.value_and_grad(loss))(jnp.array(z, jnp.float32))
    np.testing.assert_allclose(value, np.mean(terms), rtol=1e-5)
    assert np.isfinite(grads).all()
    assert (grads[y == -1] == 0).all()


def test_contrastive_loss_of_a_batch_without_pairs_is_zero():
    z = jnp.eye(3)
    assert contrastive_loss(z, jnp.array([0, 1, -1], jnp.int32), temperature=0.1) == 0


def test_consistency_loss_equals_the_formula():
    rng = np.random.default_rng(2)
    logits = (rng.normal(size=(3, 2, 4, 5)) * 2).astype(np.float32)
    mask = np.array([[1, 1, 1, 0], [1, 1, 0, 0]], np.bool_)
    terms = []
    for i in np.ndindex(2, 4):
        if mask[i]:
            p = softmax(logits[(slice(None), *i)])
            sharp = p.mean(0) ** (1 / 0.4) / (p.mean(0) ** (1 / 0.4)).sum()
            terms.append(((p - sharp) ** 2).sum(-1).mean() if p.mean(0).max() >= 0.35 else 0)
    assert 0 in terms
    found = jax.jit(functools.partial(consistency_loss, temperature=0.4, confidence=0.35))(logits, mask)
    np.testing.assert_allclose(found, np.mean(terms), rtol=1e-5)
    same = jnp.broadcast_to(jnp.array([100.0, 0, 0]), (2, 1, 1, 3))
    assert consistency_loss(same, jnp.ones((1, 1), jnp.bool_), temperature=0.5, confidence=0.0) < 1e-6
