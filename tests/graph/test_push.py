"""GFPush against float64 power iteration and its algorithm in plain Python, and within its bounds of error and work."""

import math
import tracemalloc
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp

from jmer.graph import gfpush as gfpush_function
from jmer.graph import push
from jmer.graph.push import _push, gfpush, propagation

SIZE = 60  # of the largest random graph; dense ones are padded to it, so that they compile once


def random_graph(rng, *, weighted):
    """A symmetric graph of 2 to `SIZE` nodes, sparse to full, some of its nodes isolated."""
    n = int(rng.integers(2, SIZE + 1))
    upper = np.triu(rng.random((n, n)) < rng.random() ** 2, 1) * 1.0
    if weighted:
        upper *= rng.uniform(0.05, 3, (n, n))
    joined = rng.random(n) < 0.9
    return (upper + upper.T) * joined * joined[:, None]


def padded(graphs):
    return np.stack([np.pad(g, (0, SIZE - len(g))) for g in graphs])


def step_weights(order, alpha, scheme):
    raw = {"ppr": [alpha * (1 - alpha) ** n for n in range(order + 1)], "avg": [1] * (order + 1)}
    raw = np.array(raw.get(scheme, [0] * order + [1]), np.float64)
    return raw / raw.sum()


def power_iteration(adjacency, *, order, alpha, scheme="ppr"):
    looped = adjacency + np.eye(len(adjacency))
    step = np.diag(1 / looped.sum(1)) @ looped
    return sum(w * np.linalg.matrix_power(step, n) for n, w in enumerate(step_weights(order, alpha, scheme)))


def plain_push(adjacency, source, *, order, alpha, rmax, top_k=None, scheme="ppr"):
    """One source, by dicts and loops. Returns its row and the edges touched."""
    looped = adjacency + np.eye(len(adjacency))
    neighbours = [{int(v): float(row[v]) for v in np.flatnonzero(row)} for row in looped]
    weights = step_weights(order, alpha, scheme)
    reserve, residue, touched = {}, {source: 1.0}, 0
    for n in range(order + 1):
        for u, r in residue.items():
            reserve[u] = reserve.get(u, 0.0) + weights[n] * r
        if n == order:
            break
        following = {}
        for u, r in residue.items():
            degree = sum(neighbours[u].values())
            if r >= rmax * degree:
                for v, weight in neighbours[u].items():
                    following[v] = following.get(v, 0.0) + r * weight / degree
                    touched += 1
        residue = following
    row = np.zeros(len(adjacency))
    for u, value in sorted(reserve.items(), key=lambda item: (-item[1], item[0]))[:top_k]:
        row[u] = value
    return row, touched


@pytest.mark.parametrize(
    ("scheme", "order", "alpha"),
    [("ppr", 4, 0.15), ("avg", 4, 0.15), ("single", 4, 0.15), ("ppr", 2, 1.0), ("ppr", 0, 0.2), ("single", 0, 0.2)],
)
def test_without_threshold_it_equals_power_iteration(scheme, order, alpha):
    rng = np.random.default_rng(order)
    graphs = [random_graph(rng, weighted=bool(i % 2)) for i in range(12)]
    kinds = {"order": order, "alpha": alpha, "scheme": scheme}
    with jax.enable_x64(True):
        dense = np.asarray(jax.jit(partial(propagation, **kinds))(padded(graphs)))
    assert dense.dtype == np.float64
    for graph, found in zip(graphs, dense, strict=True):
        n = len(graph)
        expected = power_iteration(graph, **kinds)
        np.testing.assert_allclose(found[:n, :n], expected, rtol=1e-9)
        np.testing.assert_allclose(gfpush(sp.csr_array(graph), **kinds).toarray(), expected, rtol=1e-9)
        np.testing.assert_allclose(found.sum(1), 1, rtol=1e-9)
        np.testing.assert_allclose(found[n:], np.eye(SIZE)[n:], rtol=1e-9)  # padding keeps to itself
        if order == 0 or (scheme == "ppr" and alpha == 1):
            np.testing.assert_array_equal(found, np.eye(SIZE))


@pytest.mark.parametrize(("scheme", "top_k"), [("ppr", None), ("ppr", 5), ("avg", 1), ("single", 8)])
def test_with_threshold_it_equals_the_algorithm_in_plain_python(scheme, top_k):
    rng = np.random.default_rng(1)
    # Where entries are cut, weights make them differ: equal ones would be told apart by rounding.
    graphs = [random_graph(rng, weighted=bool(top_k or i % 2)) for i in range(16)]
    rmax = 10 ** rng.uniform(-4, -1, len(graphs))
    kinds = {"order": 3, "alpha": 0.1, "scheme": scheme, "top_k": top_k}
    with jax.enable_x64(True):
        push = jax.jit(jax.vmap(lambda graph, least: propagation(graph, rmax=least, **kinds)))
        dense = np.asarray(push(padded(graphs), rmax))
    exact = 0
    for graph, least, found in zip(graphs, rmax, dense, strict=True):
        n = len(graph)
        plain = [plain_push(graph, s, rmax=float(least), **kinds) for s in range(n)]
        rows, touched = _push(sp.csr_array(graph), np.arange(n), rmax=float(least), **kinds)
        expected = np.stack([row for row, _ in plain])
        np.testing.assert_allclose(found[:n, :n], expected, rtol=1e-12)
        np.testing.assert_allclose(rows.toarray(), expected, rtol=1e-12)
        assert touched.tolist() == [edges for _, edges in plain]
        exact += np.allclose(expected, power_iteration(graph, order=3, alpha=0.1, scheme=scheme))
    assert exact < len(graphs) / 2  # the threshold or the cut did something


def test_300_random_graphs_stay_within_the_bounds_of_error_and_work():
    rng = np.random.default_rng(2)
    order, alpha = 4, 0.1
    graphs = [random_graph(rng, weighted=i % 3 == 0) for i in range(300)]
    rmax = 10 ** rng.uniform(-3.5, -0.7, len(graphs))
    with jax.enable_x64(True):
        push = jax.jit(jax.vmap(lambda graph, least: propagation(graph, order=order, alpha=alpha, rmax=least)))
        dense = np.asarray(push(padded(graphs), rmax))
    errors, shares, falls = [], [], []
    for i, (graph, least, found) in enumerate(zip(graphs, rmax.tolist(), dense, strict=True)):
        n = len(graph)
        exact = power_iteration(graph, order=order, alpha=alpha)
        rows, touched = _push(sp.csr_array(graph), np.arange(n), order=order, alpha=alpha, rmax=least)
        np.testing.assert_allclose(rows.toarray(), found[:n, :n], rtol=1e-9)
        bound = order * least * (n + graph.sum())
        error = np.abs(exact - found[:n, :n]).sum(1)
        assert (error <= bound + 1e-12).all()
        lightest = min(1, graph[graph > 0].min(initial=1))
        assert (touched <= order / (least * lightest) * (1 + 1e-9)).all()
        errors.append(error.max() / bound)
        shares.append(touched.max() * least * lightest / order)
        if i % 5 == 0:
            _, more = _push(sp.csr_array(graph), np.arange(n), order=order, alpha=alpha, rmax=least / 10)
            assert (touched <= more).all()
            falls.append(touched.sum() / more.sum())
    # Neither bound holds for want of anything to bound: as shares of it, errors reach 10 % and work 68 %.
    assert max(errors) > 0.05
    assert max(shares) > 0.4
    assert np.median(errors) > 1e-3
    assert np.mean(np.array(falls) < 0.5) > 0.3


def test_the_bound_of_work_is_nearly_reached_on_a_full_graph():
    n, order = 16, 10
    full = sp.csr_array(np.ones((n, n)) - np.eye(n))
    # From the second step on each node holds 1 / n, just enough to push along its n edges.
    _, touched = _push(full, np.arange(n), order=order, alpha=0.1, rmax=1 / n**2)
    assert (touched == n + (order - 1) * n**2).all()
    _, touched = _push(full, np.arange(n), order=order, alpha=0.1, rmax=1.001 / n**2)
    assert (touched == n).all()


def grid(side):
    line = sp.eye_array(side, k=1) + sp.eye_array(side, k=-1)
    return sp.csr_array(sp.kron(line, sp.eye_array(side)) + sp.kron(sp.eye_array(side), line))


def test_a_large_sparse_graph_costs_its_touched_edges_only():
    side, order, rmax = 448, 10, 1e-3  # 200,704 nodes
    sources = np.arange(0, side * side, 50)  # 0.15 s for these 4,015; 5 s for all
    graph = grid(side)
    tracemalloc.start()
    rows, touched = _push(graph, sources, order=order, alpha=0.1, rmax=rmax, top_k=32)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert touched.max() <= order / rmax
    assert peak < 200e6  # these rows as dense float64 are 6.4 GB
    assert (np.diff(rows.indptr) <= 32).all()
    # Far from the rim, all rows are one pattern moved about: that of a small grid's middle node.
    middle = 15 * 31 + 15
    expected, edges = _push(grid(31), np.array([middle]), order=order, alpha=0.1, rmax=rmax, top_k=32)
    inner = ((sources // side > 11) & (sources // side < side - 12)) & (
        (sources % side > 11) & (sources % side < side - 12)
    )
    assert (touched[inner] == edges).all()
    np.testing.assert_allclose(rows.sum(axis=1)[inner], expected.sum(), rtol=1e-9)


def test_groups_of_sources_change_nothing(monkeypatch):
    graph = grid(20)
    kinds = {"order": 6, "alpha": 0.2, "rmax": 1e-4, "top_k": 30}
    sources = np.random.default_rng(3).permutation(400)[:300]
    rows, touched = _push(graph, sources, **kinds)
    groups, cut = [], push._largest
    monkeypatch.setattr(push, "_largest", lambda rows, count: groups.append(rows.shape[0]) or cut(rows, count))
    monkeypatch.setattr(push, "_EDGES_AT_ONCE", 1)
    split, again = _push(graph, sources, **kinds)
    assert sum(groups) == 300
    # No step of a group touches more than the graph's own edges, and a source touches the most at its last step.
    assert max(groups) * touched.max() / 6 < graph.nnz + 400 < touched.sum() / 6
    np.testing.assert_array_equal(split.toarray(), rows.toarray())
    np.testing.assert_array_equal(again, touched)
    single = [_push(graph, np.array([s]), **kinds)[0].toarray()[0] for s in sources[:5]]
    np.testing.assert_array_equal(np.stack(single), rows.toarray()[:5])


@pytest.mark.parametrize("order", [1, 2])
def test_of_equal_entries_the_lower_index_is_kept(order):
    full = np.ones((6, 6)) - np.eye(6)
    kept = [sorted([i, *[j for j in range(6) if j != i][:2]]) for i in range(6)]
    dense = gfpush(full, order=order, alpha=0.5, top_k=3)
    assert [np.flatnonzero(row).tolist() for row in np.asarray(dense)] == kept
    sparse = gfpush(sp.coo_array(full), order=order, alpha=0.5, top_k=3)
    assert sparse.indices.reshape(6, 3).tolist() == kept


def test_zeros_stored_in_a_sparse_graph_are_no_edges():
    rows, cols = np.nonzero(1 - np.eye(5))
    graph = sp.csr_array((np.where(rows + cols == 1, 1.0, 0.0), (rows, cols)))
    result, touched = _push(graph, np.arange(5), order=1, alpha=0.5)
    assert touched.tolist() == [2, 2, 1, 1, 1]
    assert np.diff(result.indptr).tolist() == [2, 2, 1, 1, 1]


@pytest.mark.parametrize(("rmax", "top_k"), [(0.0, None), (0.02, None), (0.02, 3)])
def test_no_later_node_changes_a_bit_of_an_earlier_row(rmax, top_k):
    rng = np.random.default_rng(4)
    now = 7
    causal = np.tril(rng.random((3, 12, 12)) < 0.6, -1) * rng.uniform(0.1, 2, (3, 12, 12)).astype(np.float32)
    other = causal.copy()
    other[:, now + 1 :] = np.tril(rng.uniform(0, 9, (12, 12)), -1)[now + 1 :]
    push = jax.jit(partial(propagation, order=3, alpha=0.1, rmax=rmax, top_k=top_k))
    before, after = np.asarray(push(causal)), np.asarray(push(other))
    np.testing.assert_array_equal(before[:, : now + 1].view(np.int32), after[:, : now + 1].view(np.int32))
    assert (before[:, now + 1 :] != after[:, now + 1 :]).any()
    assert (np.triu(before, 1) == 0).all()
    if rmax == 0:  # a directed graph's rows gather from the nodes their edges lead to
        for graph, found in zip(causal, before, strict=True):
            np.testing.assert_allclose(found, power_iteration(graph, order=3, alpha=0.1), atol=1e-6)


def test_gradients_of_padded_graphs_are_finite():
    graph = np.pad(np.float32(np.ones((4, 4)) - np.eye(4)), (0, 3))

    def loss(adjacency, alpha, rmax):
        return (propagation(adjacency, order=2, alpha=alpha, rmax=rmax, top_k=3) ** 2).sum()

    grads = jax.jit(jax.grad(loss, argnums=(0, 1)))(graph, 0.1, 0.04)
    assert all(np.isfinite(g).all() for g in grads)
    assert np.any(grads[0])


def test_dtypes_and_transformations():
    rng = np.random.default_rng(5)
    graphs = np.stack([np.triu(rng.random((8, 8)) < 0.5, 1) for _ in range(3)])
    graphs = graphs | graphs.swapaxes(1, 2)
    push = partial(gfpush, order=2, alpha=0.2, rmax=0.01, top_k=4)
    expected = [push(sp.csr_matrix(g)) for g in graphs]
    for rows in expected:
        assert isinstance(rows, sp.csr_array)
        assert rows.dtype == np.float64
    expected = np.stack([rows.toarray() for rows in expected]).sum(-1)  # ties aside
    for dtype in (bool, np.int64, np.float64):
        found = push(graphs[0].astype(dtype))
        assert isinstance(found, jax.Array)
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(np.sum(np.asarray(found), -1), expected[0], rtol=1e-5)
    mapped = jax.jit(jax.vmap(lambda g, alpha, rmax: push(g, alpha=alpha, rmax=rmax), in_axes=(0, None, None)))
    np.testing.assert_allclose(np.sum(np.asarray(mapped(graphs, 0.2, 0.01)), -1), expected, rtol=1e-5)
    half = jax.ShapeDtypeStruct((2, 3, 3), jnp.bfloat16)
    assert jax.eval_shape(partial(propagation, order=1, alpha=0.2), half).dtype == jnp.bfloat16
    with jax.enable_x64(True):
        assert push(graphs[0].astype(np.float32)).dtype == jnp.float64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"order": -1}, "order: expected an integer of at least 0"),
        ({"order": 2.5}, "order: expected an integer"),
        ({"alpha": 0.0}, "alpha: expected above 0 and at most 1"),
        ({"alpha": 1.5}, "alpha: expected"),
        ({"alpha": math.nan}, "alpha: expected"),
        ({"rmax": -1e-3}, "rmax: expected at least 0"),
        ({"rmax": math.nan}, "rmax: expected"),
        ({"top_k": 0}, "top_k: expected None or an integer of at least 1"),
        ({"scheme": "heat"}, "scheme: expected ppr, avg or single, got 'heat'"),
    ],
)
def test_arguments_out_of_range_are_refused(change, message, unchecked):
    for graph in (np.zeros((2, 2)), sp.csr_array((2, 2))):
        with pytest.raises(ValueError, match=message):
            gfpush(graph, **{"order": 2, "alpha": 0.5} | change)


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (np.zeros((2, 3)), r"adjacency: expected a square \[V, V\] array, got shape \(2, 3\)"),
        ([[0, 1], [0.5, 0]], "adjacency: expected a symmetric array, got 2"),
        ([[0, -1], [-1, 0]], "adjacency: expected weights of at least 0, got -1"),
        ([[0, math.inf], [math.inf, 0]], "adjacency: expected finite"),
        ([[0, math.nan], [math.nan, 0]], "adjacency: expected finite"),
        ([[1, 1], [1, 0]], "adjacency: expected a zero diagonal"),
    ],
)
def test_other_graphs_are_refused(graph, message):
    for form in (np.array, sp.csr_array):
        with pytest.raises(ValueError, match=message):
            gfpush(form(graph), order=2, alpha=0.5)


def test_it_is_exported_and_other_schemes_take_any_alpha():
    assert gfpush_function is gfpush
    found = gfpush(np.array([[0, 1], [1, 0]]), order=1, alpha=7.0, scheme="avg")
    np.testing.assert_allclose(found, [[0.75, 0.25], [0.25, 0.75]])
    assert gfpush(sp.csr_array((3, 3)), order=2, alpha=0.5).toarray().tolist() == np.eye(3).tolist()
