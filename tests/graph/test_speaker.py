import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmer.base.types import Rows
from jmer.graph import FORMS, Segments, drop_edge, drop_node, relation_names, speaker_graph
from jmer.graph.forms import Banded, Dense

CASES = [
    (2, 3, 1, ()),
    (0, 1, 1, ()),
    (3, 0, 2, ()),
    (50, 50, 1, (2, 4)),
    (0, 0, 1, ()),
    (0, 0, 3, ()),
    (4, 2, 3, (1,)),
]


def random_dialogues(streams):
    """Which utterances of rows of 7, 4 and 0 are present in each of M streams, and whose they are."""
    rng = np.random.default_rng(0)
    mask = np.arange(7) < np.array([7, 4, 0])[:, None]
    present = mask[..., None] & (rng.random((3, 7, streams)) < (1 if streams == 1 else 0.7))
    dialogue = np.array([[1, 1, 1, 2, 2, 2, 2], [1] * 7, [0] * 7], np.int32)
    speaker = np.where(mask, rng.integers(3, size=(3, 7)), -1).astype(np.int32)
    return jnp.array(present), Rows(*map(jnp.array, (mask, dialogue, speaker)))


def edges_of(graph, shape):
    """(sender, receiver, relation) of every edge, nodes numbered over all rows."""
    if isinstance(graph, Dense):
        row, receiver, sender = np.nonzero(graph.mask)
        first = row * shape[1] * shape[2]
        columns = (first + sender, first + receiver, np.asarray(graph.relation)[row, receiver, sender])
        return list(zip(*(c.tolist() for c in columns), strict=True))
    if isinstance(graph, Banded):
        graph = Segments.of(graph)
    keep = np.asarray(graph.mask)
    columns = (graph.senders, graph.receivers, graph.relation)
    return list(zip(*(np.asarray(c)[keep].tolist() for c in columns), strict=True))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("past", "future", "streams", "bins"), CASES)
def test_edges_equal_a_plain_loop(past, future, streams, bins, form):
    present, (_, dialogue, speaker) = given = random_dialogues(streams)
    b, u, m = present.shape
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
    graph = speaker_graph(*given, past=past, future=future, distance_bins=bins, form=form)
    found = edges_of(graph, (b, u, m))
    assert len(found) == len(set(found))
    assert set(found) == expected
    dense = np.zeros((b * u * m, b * u * m), np.bool_)
    for frm, to, _ in expected:
        dense[to, frm] = True
    v = u * m
    blocks = np.stack([dense[i * v : (i + 1) * v, i * v : (i + 1) * v] for i in range(b)])
    np.testing.assert_array_equal(jax.jit(lambda graph=graph: graph.adjacency())(), blocks)


@pytest.mark.parametrize(("past", "future", "streams", "bins"), CASES)
def test_all_forms_give_the_same_and_have_the_same_gradients(past, future, streams, bins):
    present, _ = given = random_dialogues(streams)
    relations, rng = len(relation_names(streams=streams, distance_bins=bins)), np.random.default_rng(1)
    x = jnp.array(rng.normal(size=(*present.shape, 2, 4)), jnp.float32)
    scores = jnp.array(rng.normal(size=(2, *present.shape, 2)), jnp.float32)
    by_relation = jnp.array(rng.normal(size=(relations + 1, 2)), jnp.float32)

    @functools.partial(jax.jit, static_argnames="form")
    def run(x, scores, by_relation, *, form):
        graph = speaker_graph(*given, past=past, future=future, distance_bins=bins, form=form)

        def outputs(x, scores, by_relation):
            mean = graph.mean(x.reshape(*present.shape, 8), relations)
            return mean, graph.attend(x, scores[0], scores[1], by_relation, slope=0.2)

        def loss(*args):
            mean, attended = outputs(*args)
            return (mean**2).sum() + (attended**3).sum()

        return outputs(x, scores, by_relation), jax.grad(loss, argnums=(0, 1, 2))(x, scores, by_relation)

    reference, *others = (run(x, scores, by_relation, form=form) for form in FORMS)
    for other in others:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), reference, other)


@pytest.mark.parametrize(
    ("width", "streams", "reach", "form"),
    [
        (24, 1, 10, Dense),  # as dialogues are
        (240, 1, 10, Dense),  # 12 nodes for each of 20 slots
        (241, 1, 10, Banded),
        (88, 3, 10, Dense),  # 264 nodes, 20 slots and 2 for the other streams
        (89, 3, 10, Banded),
        (960, 1, 40, Dense),
        (961, 1, 40, Banded),
        (400, 3, 400, Dense),  # each with all: there is nothing to leave out
    ],
)
def test_the_form_is_chosen_by_nodes_and_slots(width, streams, reach, form):
    zeros, mask = (jax.ShapeDtypeStruct((1, width), kind) for kind in (jnp.int32, jnp.bool_))
    present, rows = jax.ShapeDtypeStruct((1, width, streams), jnp.bool_), Rows(mask, zeros, zeros)
    make = functools.partial(speaker_graph, past=reach, future=reach, form="auto")
    assert isinstance(jax.eval_shape(make, present, rows), form)


def test_an_unknown_form_is_an_error():
    zeros, mask = jnp.zeros((1, 4), jnp.int32), jnp.ones((1, 4), jnp.bool_)
    with pytest.raises(ValueError, match="graph form 'sparse'; expected auto, dense, banded, segments"):
        speaker_graph(mask[..., None], Rows(mask, zeros, zeros), past=2, future=2, form="sparse")


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
    there = (jnp.arange(10_000) % 4 > 0).reshape(1, 100, 100)
    graph = drop_edge(jax.random.key(0), Dense(jnp.zeros(there.shape, jnp.int32), there), rate=0.2)
    assert not (graph.mask & ~there).any()
    np.testing.assert_allclose(graph.mask.sum() / there.sum(), 0.8, atol=0.02)


@pytest.mark.parametrize(("past", "future", "streams", "bins"), CASES)
def test_all_forms_lose_the_same_edges(past, future, streams, bins):
    given = random_dialogues(streams)
    graphs = [speaker_graph(*given, past=past, future=future, distance_bins=bins, form=form) for form in FORMS]
    whole = set(edges_of(graphs[0], given[0].shape))
    left = [set(edges_of(drop_edge(jax.random.key(3), graph, rate=0.4), given[0].shape)) for graph in graphs]
    assert left[0] == left[1] == left[2]
    assert left[0] < whole or not whole
