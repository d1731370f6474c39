"""Attention against its definition: value, gradients by JAX, rows of any length, tokens that are not seen."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmer.encoders.attention import attention
from jmer.encoders.layers import Sees


def reference(query, key, value, bias):
    """Softmax first, and gradients as JAX derives them."""
    logits = jnp.einsum("bhqd,bhdk->bhqk", query, key)
    return jnp.einsum("bhqk,bhkd->bhqd", jax.nn.softmax(logits if bias is None else logits + bias), value)


def arrays(tokens: int, *, queries: int, bias: tuple[int, ...] | None) -> list[Any]:
    rng = np.random.default_rng(tokens)
    shapes = ((2, 3, queries, 4), (2, 3, 4, tokens), (2, 3, tokens, 4), bias)
    return [None if shape is None else jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]


@pytest.mark.parametrize("tokens", [1, 7, 63, 64, 77, 200])  # rows of 64 tokens and more are cut into parts
@pytest.mark.parametrize("bias", [None, "full", "heads", "row"])
def test_value_and_gradients(tokens, bias):
    queries = min(tokens, 5)
    shape = {"full": (2, 3, queries, tokens), "heads": (2, 1, queries, tokens), "row": (2, 1, 1, tokens)}.get(bias)
    given = arrays(tokens, queries=queries, bias=shape)
    which = tuple(range(4 if shape else 3))

    def loss(attend):
        return lambda *x: (attend(*x) ** 2).sum()

    def found(query, key, value, bias=None):
        return attention(query, key, value, bias)

    np.testing.assert_allclose(found(*given), reference(*given), atol=1e-6)
    for a, b in zip(jax.grad(loss(found), which)(*given), jax.grad(loss(reference), which)(*given), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


def test_large_logits_stay_finite():
    query, key, value, _ = arrays(100, queries=4, bias=None)
    for scale in (1e4, -1e4):
        grads = jax.grad(lambda q, k, v: attention(q, k, v, None).sum(), (0, 1, 2))(scale * query, key, value)
        assert all(np.isfinite(x).all() for x in grads)


def test_the_highest_logit_may_stand_anywhere():
    """The maximum is taken over parts of a row; a part that is left out would let the exponential overflow."""
    tokens = 77
    query, value = jnp.ones((1, 1, 1, 1)), jnp.arange(tokens, dtype=jnp.float32).reshape(1, 1, tokens, 1)
    for place in range(tokens):
        key = jnp.zeros((1, 1, 1, tokens)).at[..., place].set(200.0)
        assert float(attention(query, key, value, None).reshape(())) == pytest.approx(place, abs=1e-5)


def test_factors_in_half_precision_are_near():
    given = arrays(100, queries=6, bias=(2, 1, 6, 100))
    which = (0, 1, 2)
    half, whole = (
        jax.grad(lambda *x, p=p: attention(*x, precision=p).sum(), which)(*given) for p in ("bfloat16", "float32")
    )
    for a, b in zip(half, whole, strict=True):
        np.testing.assert_allclose(a, b, atol=0.05)
        assert not np.array_equal(a, b)


def test_valid_tokens_are_seen_and_no_others():
    valid = jnp.array([[True, True, False, True], [True, False, False, False]])
    query, key, value, _ = arrays(4, queries=4, bias=None)
    result = attention(query, key, value, Sees(valid=valid).bias(0, 4))
    for row, mask in enumerate(np.asarray(valid)):
        kept = np.flatnonzero(mask)
        alone = reference(query[row : row + 1], key[row : row + 1][..., kept], value[row : row + 1][:, :, kept], None)
        np.testing.assert_allclose(result[row : row + 1], alone, atol=1e-6)
