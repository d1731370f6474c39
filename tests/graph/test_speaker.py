import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmer.graph import Edges, adjacency, drop_edge, drop_node, parts, relation_names, speaker_graph


def random_dialogues(streams):
    """Nodes `[3, 7, M, 2]` of rows of 7, 4 and 0 utterances, some not present, their dialogues and their speakers."""
    rng = np.random.default_rng(0)
    mask = np.arange(7) < np.array([7, 4, 0])[:, None]
    present = mask[..., None] & (rng.random((3, 7, streams)) < (1 if streams == 1 else 0.7))
    speaker = np.where(mask, rng.integers(3, size=(3, 7)), -1).astype(np.int32)
    dialogue = np.array([[1, 1, 1, 2, 2, 2, 2], [1] * 7, [0] * 7], np.int32)
    return rng.normal(size=(3, 7, streams, 2)).astype(np.float32), present, dialogue, speaker


def edges_of(graph):
    """(sender, receiver, relation) of every edge."""
    _, edges, senders, receivers = parts(graph)
    keep = np.asarray(edges.mask)
    columns = (senders, receivers, edges.relation)
    return list(zip(*(np.asarray(c)[keep].tolist() for c in columns), strict=True))


@pytest.mark.parametrize(
    ("past", "future", "streams", "bins"),
    [(2, 3, 1, ()), (0, 1, 1, ()), (3, 0, 2, ()), (50, 50, 1, (2, 4)), (0, 0, 1, ()), (0, 0, 3, ()), (4, 2, 3, (1,))],
)
def test_edges_equal_a_plain_loop(past, future, streams, bins):
    nodes, present, dialogue, speaker = random_dialogues(streams)
    b, u, m, _ = nodes.shape
    names = relation_names(streams=m, distance_bins=bins)
    expected = set()
    for i, to, frm, s, s2 in np.ndindex(b, u, u, m, m):
        if not (present[i, to, s2] and present[i, frm, s]) or dialogue[i, to] != dialogue[i, frm]:
            continue
        if frm == to and s != s2:
            name = f"stream_{s}_to_{s2}"
        elif frm != to and s == s2 and to - past <= frm <= to + future:
            who = "same" if speaker[i, frm] == speaker[i, to] else "other"
            name = f"{who}_{'past' if frm < to else 'future'}"
            if bins:
                upper = next((x for x in bins if abs(frm - to) <= x), None)
                lower = max([x + 1 for x in bins if x < abs(frm - to)], default=1)
                name += f"_{lower}-{upper or ''}"
        else:
            continue
        expected.add(((i * u + frm) * m + s, (i * u + to) * m + s2, names.index(name)))
    make = jax.jit(functools.partial(speaker_graph, past=past, future=future, distance_bins=bins))
    graph = make(*map(jnp.array, (nodes, present, dialogue, speaker)))
    found = edges_of(graph)
    assert len(found) == len(set(found))
    assert set(found) == expected
    assert np.sum(graph.n_edge) == parts(graph)[1].mask.size
    np.testing.assert_array_equal(parts(graph)[0], nodes.reshape(-1, 2))

    dense = np.zeros((b * u * m, b * u * m))
    for frm, to, _ in expected:
        dense[to, frm] = 1
    v = u * m
    blocks = np.stack([dense[i * v : (i + 1) * v, i * v : (i + 1) * v] for i in range(b)])
    np.testing.assert_array_equal(jax.jit(adjacency)(graph), blocks)


def test_relations_have_one_name_each():
    assert relation_names() == ("same_past", "same_future", "other_past", "other_future")
    names = relation_names(streams=3, distance_bins=(2, 5))
    assert len(names) == len(set(names)) == 4 * 3 + 6
    assert "other_future_6-" in names


def test_drop_node_drops_whole_rows_and_keeps_the_expectation():
    x = jnp.arange(1.0, 9).reshape(4, 2)
    samples = jax.vmap(lambda key: drop_node(key, x, rate=0.3))(jax.random.split(jax.random.key(0), 20_000))
    whole = (samples == 0).all(-1) | (samples != 0).all(-1)
    assert whole.all()
    np.testing.assert_allclose((samples == 0).all(-1).mean(), 0.3, atol=0.01)
    np.testing.assert_allclose(samples.mean(0), x, rtol=0.03)


def test_drop_edge_removes_its_share_and_adds_none():
    there = jnp.arange(10_000) % 4 > 0
    edges = drop_edge(jax.random.key(0), Edges(jnp.zeros(10_000, jnp.int32), there), rate=0.2)
    assert not (edges.mask & ~there).any()
    np.testing.assert_allclose(edges.mask.sum() / there.sum(), 0.8, atol=0.02)
