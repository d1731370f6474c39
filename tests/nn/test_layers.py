"""Each layer against a plain NumPy loop in float64, without padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from jmer.graph import RELATIONS, parts, window_graph
from jmer.nn.encoders import BiGRU
from jmer.nn.fusion import GatedFusion
from jmer.nn.graph_layers import GAT, RGCN


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def randomised(params, seed=0):
    """Every parameter random, biases too."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda p: jnp.array(rng.normal(size=p.shape) * 0.5, jnp.float32), params)


def test_bigru_equals_a_loop_over_each_dialogue():
    rng = np.random.default_rng(0)
    lengths, u, d, h = [5, 3, 1], 6, 4, 3
    x = rng.normal(size=(3, u, d)).astype(np.float32)
    mask = np.arange(u) < np.array(lengths)[:, None]
    layer = BiGRU(h)
    params = randomised(layer.init(jax.random.key(0), jnp.array(x), jnp.array(mask))["params"])
    out = tiny.apply(layer, {"params": params}, jnp.array(np.where(mask[..., None], x, np.nan)), jnp.array(mask))
    p = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
    for b, n in enumerate(lengths):
        for k, order in enumerate((range(n), reversed(range(n)))):
            state = np.zeros(h)
            for t in order:
                gi = x[b, t] @ p["w_in"].reshape(d, 2, 3 * h)[:, k] + p["b_in"][k]
                gr = state @ p["w_rec"][k] + p["b_rec"][k]
                r, z = sigmoid(gi[:h] + gr[:h]), sigmoid(gi[h : 2 * h] + gr[h : 2 * h])
                state = (1 - z) * np.tanh(gi[2 * h :] + r * gr[2 * h :]) + z * state
                np.testing.assert_allclose(out[b, t, k * h : (k + 1) * h], state, atol=1e-5)
        assert (out[b, n:] == 0).all()


@pytest.fixture
def graph():
    rng = np.random.default_rng(1)
    mask = jnp.array(np.arange(6) < np.array([6, 4, 1])[:, None])
    speaker = jnp.where(mask, jnp.array(rng.integers(2, size=(3, 6)), jnp.int32), -1)
    nodes = jnp.array(rng.normal(size=(3, 6, 4)), jnp.float32)
    return window_graph(nodes, mask, speaker, past=2, future=3)


def neighbours(graph):
    """(sender, receiver, relation) of the edges that are there, and the nodes in float64."""
    nodes, edges, senders, receivers = parts(graph)
    keep = np.asarray(edges.mask)
    triples = zip(*(np.asarray(a)[keep].tolist() for a in (senders, receivers, edges.relation)), strict=True)
    return list(triples), np.asarray(nodes, np.float64)


def test_rgcn_equals_its_equation(graph):
    layer = RGCN(5, len(RELATIONS))
    params = randomised(layer.init(jax.random.key(0), graph)["params"])
    out = tiny.apply(layer, {"params": params}, graph)
    p = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
    triples, x = neighbours(graph)
    for i in range(len(x)):
        expected = x[i] @ p["root"]["kernel"] + p["root"]["bias"]
        for r in range(len(RELATIONS)):
            senders = [j for j, to, relation in triples if to == i and relation == r]
            if senders:
                expected = expected + x[senders].mean(0) @ p["w"][r]
        np.testing.assert_allclose(out[i], expected, atol=1e-5)


def test_gat_equals_its_equations(graph):
    heads, features = 2, 6
    layer = GAT(features, heads)
    params = randomised(layer.init(jax.random.key(0), graph)["params"])
    out = tiny.apply(layer, {"params": params}, graph)
    p = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
    triples, x = neighbours(graph)
    projected = (x @ p["project"]["kernel"]).reshape(len(x), heads, -1)
    for i in range(len(x)):
        senders = [j for j, to, _ in triples if to == i] + [i]
        for h in range(heads):
            logits = np.array([projected[j, h] @ p["a_send"][h] + projected[i, h] @ p["a_receive"][h] for j in senders])
            weights = np.exp(np.where(logits > 0, logits, 0.2 * logits))
            expected = weights / weights.sum() @ projected[senders, h]
            start = h * features // heads
            found = out[i, start : start + features // heads] - p["bias"][start : start + features // heads]
            np.testing.assert_allclose(found, expected, atol=1e-5)


def test_gates_sum_to_one_over_the_present_modalities_and_mix_the_candidates():
    rng = np.random.default_rng(2)
    encoded = jnp.array(rng.normal(size=(1, 4, 3, 5)), jnp.float32)
    present = jnp.array([[[1, 1, 1], [0, 1, 1], [0, 0, 1], [0, 0, 0]]], jnp.bool_)
    layer = GatedFusion(6)
    params = randomised(layer.init(jax.random.key(0), encoded, present)["params"])
    fused, gates = tiny.apply(layer, {"params": params}, encoded, present)
    np.testing.assert_allclose(gates.sum(-1), [[1, 1, 1, 0]], atol=1e-6)
    assert (gates[~present] == 0).all()
    alone = np.tanh(np.asarray(encoded)[0, 2, 2] @ np.asarray(params["w"][2]))
    np.testing.assert_allclose(fused[0, 2], alone, atol=1e-6)
    assert (fused[0, 3] == 0).all()
