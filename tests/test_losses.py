import jax
import jax.numpy as jnp
import numpy as np

from jmer.losses import cross_entropy


def test_equals_the_formula_in_float64_and_ignores_the_unlabelled():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(3, 5, 4)) * 5, rng.integers(-1, 4, size=(3, 5))
    valid = labels >= 0
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = -np.take_along_axis(log_probs, np.maximum(labels, 0)[..., None], -1)[..., 0][valid].mean()
    loss = cross_entropy(jnp.array(logits, jnp.float32), jnp.array(labels, jnp.int32))
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_unlabelled_logits_get_no_gradient_and_none_labelled_is_zero():
    logits, labels = jnp.ones((1, 3, 2)), jnp.array([[0, -1, 1]], jnp.int32)
    grads = jax.grad(cross_entropy)(logits, labels)
    assert (grads[0, 1] == 0).all()
    assert (grads[0, 0] != 0).all()
    assert cross_entropy(logits, jnp.full((1, 3), -1, jnp.int32)) == 0
