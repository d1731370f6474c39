"""Masks must look independent: in rate, from entry to entry, from key to key and from draw to draw."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from jmer.base import masks as masks_module
from jmer.base.masks import dropout, keep_mask, keep_numbered
from jmer.graph import speaker

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


def test_entries_and_keys_are_independent(masks):
    for lag in (1, 2, 3, 4, 8, 64, 128, 256, 1024):
        z = correlation(masks[:, :-lag].astype(float), masks[:, lag:].astype(float))
        assert np.abs(z).max() < 5, lag
        assert 0.8 < z.std() < 1.2, lag
    z = correlation(masks[:-1].astype(float), masks[1:].astype(float))
    assert np.abs(z).max() < 5
    assert 0.8 < z.std() < 1.2


def test_a_mask_depends_on_its_key_alone():
    keys = jax.random.split(jax.random.key(0), 3)
    together = jax.vmap(lambda key: keep_mask(key, (5, 7), rate=0.3))(keys)
    np.testing.assert_array_equal(together[1], keep_mask(keys[1], (5, 7), rate=0.3))


def test_an_entry_depends_on_its_number_alone():
    key, numbers = jax.random.key(0), jnp.arange(100, dtype=jnp.uint32)
    shuffled = jax.random.permutation(jax.random.key(1), numbers)
    whole = keep_mask(key, (100,), rate=0.3)
    np.testing.assert_array_equal(keep_numbered(key, shuffled, rate=0.3), whole[shuffled])


class Dropping(nn.Module):
    """Dropout at several depths: in a module twice, in children, and in branches that are mapped over."""

    rate: float
    depth: int = 2

    @nn.compact
    def __call__(self, x):
        x = dropout(self, dropout(self, x, rate=self.rate), rate=self.rate)
        if not self.depth:
            return x
        each = nn.vmap(Dropping, variable_axes={"params": 0}, split_rngs={"params": True, "dropout": True})
        x = each(rate=self.rate, depth=self.depth - 1)(jnp.stack([x] * 3)).sum(axis=0)
        return Dropping(rate=self.rate, depth=self.depth - 1)(x)


def keys_of(monkeypatch, run):
    """The key data of every mask that `run` draws, mapped ones each on their own."""
    drawn = []
    original = masks_module.keep_numbered

    def recorded(key, number, *, rate):
        jax.debug.callback(lambda data: drawn.append(tuple(np.ravel(data).tolist())), jax.random.key_data(key))
        return original(key, number, rate=rate)

    monkeypatch.setattr(masks_module, "keep_numbered", recorded)
    monkeypatch.setattr(speaker, "keep_numbered", recorded)
    run()
    jax.effects_barrier()
    return drawn


def test_nested_draws_never_share_a_key(monkeypatch):
    steps = [jax.random.fold_in(jax.random.key(seed), step) for seed in range(3) for step in range(3)]
    layer, x = Dropping(rate=0.5), jnp.ones((2, 4))
    drawn = keys_of(monkeypatch, lambda: [layer.apply({}, x, rngs={"dropout": key}) for key in steps])
    assert len(drawn) == len(steps) * (2 + 4 * (2 + 4 * 2))
    assert len(set(drawn)) == len(drawn)


def test_a_training_step_of_the_whole_model_never_draws_a_key_twice(monkeypatch):
    """With every part that draws: the defect was that sites of different branches shared their masks."""
    rates: dict[str, Any] = {"drop_edge": 0.2, "drop_node": 0.2, "dropout": 0.3, "modality_dropout": 0.2}
    model = tiny.model(encoder="transformer", encoder_layers=2, co_attention=True, fusion="hybrid", **rates)
    batch = tiny.batch(tiny.dialogues([5, 7]))
    variables = jax.jit(model.init)(jax.random.key(0), batch)
    keys = jax.random.split(jax.random.key(1), 2)

    def run():
        jax.block_until_ready(jax.jit(jax.vmap(lambda key: model.apply(variables, batch, rngs={"dropout": key})))(keys))

    drawn = keys_of(monkeypatch, run)
    # A pass draws for the modalities, 3 inputs and 3 co-attentions, and in each of 4 branches in 2 blocks twice, for
    # nodes, for edges and in the head.
    assert len(drawn) == 2 * (1 + 3 + 4 * (2 * 2 + 2 + 1) + 3)
    assert len(set(drawn)) == len(drawn)


class Once(nn.Module):
    """Dropout as a module."""

    rate: float

    def __call__(self, x):
        return dropout(self, x, rate=self.rate)


def test_dropout_keeps_the_expectation_and_is_the_identity_in_evaluation():
    x, rngs = jnp.full((400, 500), 3.0), {"dropout": jax.random.key(0)}
    dropped = np.asarray(Once(rate=0.25).apply({}, x, rngs=rngs))
    assert set(np.unique(dropped).tolist()) == {0.0, 4.0}
    assert dropped.mean() == pytest.approx(3.0, abs=0.02)
    assert Once(rate=0.25).apply({}, x) is x
    assert Once(rate=0.0).apply({}, x, rngs=rngs) is x
    assert keep_mask(jax.random.key(0), (1000,), rate=1e-12).all()
