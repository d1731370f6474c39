"""Attention pooling against its equations in float64, and what no masked frame may change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from jmer.nn.options import LayerOptions
from jmer.nn.pooling import AttentionPooling

B, U, T, D = 3, 4, 6, 5
LAYER = AttentionPooling(options=LayerOptions(hidden=8))


@pytest.fixture(scope="module")
def given():
    """Frames, a mask of any pattern with utterances of no, of one and of all frames, and random parameters."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(B, U, T, D)).astype(np.float32)
    mask = rng.random((B, U, T)) < 0.6
    mask[0, 0], mask[1, 2], mask[2, 1] = False, True, np.arange(T) == 3
    shapes = jax.eval_shape(lambda: LAYER.init(jax.random.key(0), jnp.array(x), jnp.array(mask)))
    return x, mask, jax.tree.map(lambda p: jnp.array(rng.normal(size=p.shape), jnp.float32), shapes)


@jax.jit
def pooled(variables, x, mask):
    return tiny.apply(LAYER, variables, x, mask)


def test_it_equals_its_equations(given):
    x, mask, variables = given
    p = jax.tree.map(lambda a: np.asarray(a, np.float64), variables["params"])
    out = pooled(variables, x, mask)
    for b, u in np.ndindex(B, U):
        expected = np.zeros(D)
        frames = x[b, u][mask[b, u]].astype(np.float64)
        if len(frames):
            scores = np.tanh(frames @ p["hidden"]["kernel"] + p["hidden"]["bias"]) @ p["query"]["kernel"][:, 0]
            weights = np.exp(scores) / np.exp(scores).sum()
            expected = weights @ frames
        np.testing.assert_allclose(out[b, u], expected, atol=1e-5)
    assert np.abs(out[1, 2] - x[1, 2].mean(axis=0)).max() > 0.1  # it is not the mean


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_what_stands_in_masked_frames_changes_no_bit_of_output_and_gradient(given, value):
    x, mask, variables = given

    @jax.jit
    def both(variables, x):
        # The square, as a gradient of the plain sum would not depend on the output.
        return jax.value_and_grad(lambda v, x: (pooled(v, x, mask) ** 2).sum(), argnums=(0, 1))(variables, x)

    clean, other = both(variables, x), both(variables, np.where(mask[..., None], x, np.float32(value)))
    for a, b in zip(jax.tree.leaves(clean), jax.tree.leaves(other), strict=True):
        assert np.isfinite(a).all()
        np.testing.assert_array_equal(a, b)
    frames = clean[1][1]
    assert (np.asarray(frames)[~mask] == 0).all()
    assert np.abs(np.asarray(frames)[mask]).min() > 0


def test_no_frame_at_all_gives_zeros_and_gradients_of_zero(given):
    x, _, variables = given
    none = jnp.zeros((B, U, T), jnp.bool_)
    value, grads = jax.jit(jax.value_and_grad(lambda v: (pooled(v, x, none) ** 2 + pooled(v, x, none)).sum()))(
        variables
    )
    assert value == 0
    assert all((np.asarray(g) == 0).all() for g in jax.tree.leaves(grads))


def test_order_and_company_do_not_matter_and_padding_only_in_the_last_digits(given):
    x, mask, variables = given
    out = np.asarray(pooled(variables, x, mask))
    np.testing.assert_array_equal(pooled(variables, x[::-1], mask[::-1])[::-1], out)  # of dialogues
    turned = np.random.default_rng(1).permutation(T)
    np.testing.assert_allclose(pooled(variables, x[:, :, turned], mask[:, :, turned]), out, atol=1e-6)  # of frames
    wider = [(0, 0), (0, 0), (0, 3)]
    padded = pooled(variables, np.pad(x, [*wider, (0, 0)], constant_values=np.nan), np.pad(mask, wider))
    np.testing.assert_allclose(padded, out, atol=1e-6)
