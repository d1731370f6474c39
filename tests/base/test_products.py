"""Products with bfloat16 factors: what is rounded, forward and backward, and what is not."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from jmer.base.products import dense, product

SPECS = {
    "nd,dg->ng": ((7, 5), (5, 3)),
    "mbud,mdf->mbuf": ((2, 2, 3, 5), (2, 5, 4)),
    "bumk,kf->bumf": ((2, 3, 1, 6), (6, 4)),
}


def rounded(x: jax.Array) -> np.ndarray:
    return np.asarray(x.astype(jnp.bfloat16).astype(jnp.float32), np.float64)


@pytest.mark.parametrize("spec", SPECS)
def test_factors_are_rounded_and_sums_are_not(spec):
    rng = np.random.default_rng(0)
    x, y = (jnp.array(rng.normal(size=shape), jnp.float32) for shape in SPECS[spec])
    exact = np.einsum(spec, x, y)
    given = jnp.array(rng.normal(size=exact.shape), jnp.float32)
    (a, b), c = spec.split("->")[0].split(","), spec.split("->")[1]
    for precision, cast in (("float32", lambda x: np.asarray(x, np.float64)), ("bfloat16", rounded)):
        out, back = jax.vjp(lambda x, y, precision=precision: product(spec, x, y, precision=precision), x, y)
        np.testing.assert_allclose(out, np.einsum(spec, cast(x), cast(y)), rtol=1e-5, atol=1e-6)
        dx, dy = back(given)
        np.testing.assert_allclose(dx, np.einsum(f"{c},{b}->{a}", cast(given), cast(y)), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(dy, np.einsum(f"{c},{a}->{b}", cast(given), cast(x)), rtol=1e-5, atol=1e-5)
        assert {z.dtype for z in (out, dx, dy)} == {jnp.dtype("float32")}
    assert np.abs(out - exact).max() > 1e-3


def test_a_linear_map_is_the_same_product():
    x = jnp.array(np.random.default_rng(0).normal(size=(2, 3, 5)), jnp.float32)
    layer = dense(4, precision="bfloat16", name="layer")
    params = layer.init(jax.random.key(0), x)
    out = tiny.apply(layer, params, x)
    kernel = jnp.asarray(params["params"]["kernel"])
    np.testing.assert_allclose(out, rounded(x) @ rounded(kernel), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("encoder", "graph"), [("bigru", "rgcn,gat"), ("transformer", "grnn,gfpush")])
def test_the_model_in_bfloat16_is_near_the_one_in_float32(encoder, graph):
    """Same parameters, all parts with large products, forward and backward."""
    batch = tiny.batch(tiny.dialogues([5, 7, 8]), sequences={"audio": (5, 3)})
    options = {"encoder": encoder, "fusion": "hybrid", "dropout": 0.0, "co_attention": encoder == "bigru"}
    options |= {"graph": graph, "drop_node": 0.0, "sequence_dims": tiny.SEQUENCE_DIMS}
    exact, near = tiny.model(**options), tiny.model(**options, precision="bfloat16")
    variables = jax.jit(lambda: exact.init(jax.random.key(0), batch))()

    def loss(model, variables):
        logits = tiny.apply(model, variables, batch).logits
        return jnp.square(jnp.where(batch.mask[..., None], logits, 0)).mean(), logits

    (_, a), (_, b) = found = [
        jax.jit(jax.grad(functools.partial(loss, m), has_aux=True))(variables) for m in (exact, near)
    ]
    assert b.dtype == jnp.float32
    assert 1e-5 < np.abs(a - b)[batch.mask].max() < 0.1
    assert {g.dtype for g in jax.tree.leaves(found[1][0])} == {jnp.dtype("float32")}
    x, y = (np.concatenate([g.ravel() for g in jax.tree.leaves(grads)]) for grads, _ in found)
    assert 1e-4 < np.linalg.norm(x - y) / np.linalg.norm(x) < 0.25
