import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmer.graph import RELATIONS, drop_node, parts, window_graph


@pytest.mark.parametrize(("past", "future"), [(2, 3), (0, 1), (3, 0), (50, 50), (0, 0)])
def test_edges_equal_a_plain_loop(past, future):
    rng = np.random.default_rng(0)
    b, u = 3, 7
    mask = np.arange(u) < np.array([7, 4, 0])[:, None]
    speaker = np.where(mask, rng.integers(3, size=(b, u)), -1).astype(np.int32)
    expected = set()
    for i in range(b):
        for to in range(u):
            for frm in range(to - past, to + future + 1):
                if frm != to and 0 <= frm < u and mask[i, frm] and mask[i, to]:
                    who = "same" if speaker[i, frm] == speaker[i, to] else "other"
                    relation = RELATIONS.index(f"{who}_{'past' if frm < to else 'future'}")
                    expected.add((i * u + frm, i * u + to, relation))
    graph = window_graph(jnp.zeros((b, u, 2)), jnp.array(mask), jnp.array(speaker), past=past, future=future)
    _, edges, senders, receivers = parts(graph)
    keep = np.asarray(edges.mask)
    columns = (senders, receivers, edges.relation)
    found = list(zip(*(np.asarray(c)[keep].tolist() for c in columns), strict=True))
    assert len(found) == len(set(found))
    assert set(found) == expected
    assert np.sum(graph.n_edge) == len(keep)


def test_drop_node_drops_whole_rows_and_keeps_the_expectation():
    x = jnp.arange(1.0, 9).reshape(4, 2)
    samples = jax.vmap(lambda key: drop_node(key, x, rate=0.3))(jax.random.split(jax.random.key(0), 20_000))
    whole = (samples == 0).all(-1) | (samples != 0).all(-1)
    assert whole.all()
    np.testing.assert_allclose((samples == 0).all(-1).mean(), 0.3, atol=0.01)
    np.testing.assert_allclose(samples.mean(0), x, rtol=0.03)
