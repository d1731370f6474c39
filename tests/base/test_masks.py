"""Masks must look independent: in rate, from entry to entry, from key to key and from draw to draw."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmer.base.masks import Draws, dropout, keep_mask

N = 1 << 16


@pytest.fixture(scope="module")
def masks():
    """256 masks of 65,536 entries, by keys as training makes them: a seed, then a step folded in."""
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(i % 4), i // 4))(jnp.arange(256))
    return np.asarray(jax.jit(jax.vmap(lambda key: keep_mask(key, (64, N // 64), rate=0.4)))(keys)).reshape(256, N)


def correlation(a, b):
    """In standard deviations of what independent masks give."""
    a, b = a - a.mean(-1, keepdims=True), b - b.mean(-1, keepdims=True)
    return (a * b).mean(-1) / (a.std(-1) * b.std(-1)) * np.sqrt(a.shape[-1])


def test_the_rate_is_kept_in_every_mask_row_and_column(masks):
    assert np.abs(masks.mean(axis=1) - 0.6).max() < 5 * np.sqrt(0.24 / N)
    assert np.abs(masks.mean(axis=0) - 0.6).max() < 6 * np.sqrt(0.24 / 256)
    spread = masks.sum(axis=1).std() / np.sqrt(0.24 * N)
    assert 0.85 < spread < 1.15  # as a binomial's: neither too even nor too uneven
    for shape in ((64, N // 64), (N // 64, 64)):
        for axis in (1, 2):
            z = (masks.reshape(256, *shape).mean(axis=axis) - 0.6) / np.sqrt(0.24 / shape[axis - 1])
            assert 0.95 < z.std() < 1.05


def test_entries_keys_and_draws_are_independent(masks):
    for lag in (1, 2, 3, 4, 8, 64, 128, 256, 1024):
        z = correlation(masks[:, :-lag].astype(float), masks[:, lag:].astype(float))
        assert np.abs(z).max() < 5, lag
        assert 0.8 < z.std() < 1.2, lag
    z = correlation(masks[:-1].astype(float), masks[1:].astype(float))
    assert np.abs(z).max() < 5
    assert 0.8 < z.std() < 1.2

    def two(key):
        draws = Draws(key)
        return keep_mask(draws.key(), (N,), rate=0.5), keep_mask(draws.key(), (N,), rate=0.5)

    a, b = jax.jit(jax.vmap(two))(jax.random.split(jax.random.key(1), 64))
    z = correlation(np.asarray(a, float), np.asarray(b, float))
    assert np.abs(z).max() < 5
    assert 0.7 < z.std() < 1.3


def test_a_mask_depends_on_its_key_alone():
    keys = jax.random.split(jax.random.key(0), 3)
    together = jax.vmap(lambda key: keep_mask(key, (5, 7), rate=0.3))(keys)
    np.testing.assert_array_equal(together[1], keep_mask(keys[1], (5, 7), rate=0.3))


def test_dropout_keeps_the_expectation_and_is_the_identity_in_evaluation():
    x = jnp.full((400, 500), 3.0)
    dropped = np.asarray(dropout(x, Draws(jax.random.key(0)), rate=0.25))
    assert set(np.unique(dropped).tolist()) == {0.0, 4.0}
    assert dropped.mean() == pytest.approx(3.0, abs=0.02)
    assert dropout(x, None, rate=0.25) is x
    assert dropout(x, Draws(jax.random.key(0)), rate=0.0) is x
    assert keep_mask(jax.random.key(0), (1000,), rate=1e-12).all()
