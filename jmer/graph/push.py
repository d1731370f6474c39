"""GFPush: mixed-order propagation on a graph, approximated by pushing probability along its edges.

Source: Feng et al. 2022, "GRAND+: Scalable Graph Random Neural Networks", section 3.2 and algorithm 1.

Let `D` hold the degrees of `A + I`, and let `P = D^-1 (A + I)`. Row s of `Pi = sum_n w_n P^n` holds the weight of every
node in the mixture that node s receives. The algorithm starts from the residues `r_0 = e_s`. In step n it adds
`w_n r_n` to the row, and every node u with `r_n(u) >= rmax d(u)` splits its residue among its neighbours, which makes
up `r_(n+1)`. A smaller residue is dropped.

With `rmax = 0` nothing is dropped, and the result is `Pi`. Otherwise each of `order` steps drops at most `rmax sum(d)`,
so that the L1 error of a row is at most `order rmax sum(d)`.

The residues of a step sum to at most 1, so that the degrees of the nodes that push sum to at most `1 / rmax`. If no
edge weight is below 1, a source therefore visits at most `order / rmax` edges, self-loops included. With a smallest
weight `w < 1` it visits at most `order / (rmax w)` edges.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jax.core import Tracer

# A step on a group of sources of a sparse graph may touch this many edges, or all edges of the graph once if they are
# more; a larger group is halved. That bounds memory and changes no result.
_EDGES_AT_ONCE = 2**20


def gfpush(
    adjacency: Any,
    *,
    order: int,
    alpha: float | jax.Array,
    rmax: float | jax.Array = 0.0,
    top_k: int | None = None,
    scheme: str = "ppr",
) -> Any:
    """Returns `[V, V]` the weights with which each node (row) takes from all nodes; see the module's docstring.

    A dense graph is computed with jax: under jit (with `order`, `top_k` and `scheme` static) and vmap the values are
    not checked. A sparse one is computed on the host, in work and memory that grow with the edges touched only.

    Args:
      adjacency: `[V, V]` numpy or jax array, or scipy sparse; symmetric, non-negative, without self-loops, which are
        added with weight 1.
      order: The most steps taken; 0 gives the identity.
      alpha: For `ppr`, the share that stays at each step; 1 gives the identity. Other schemes do not use it.
      rmax: Residues below `rmax * degree` are not pushed on.
      top_k: How many entries of each row are kept, the lower index of equal ones; the rest are zero. None keeps all.
      scheme: How step n weighs: `ppr` (alpha (1 - alpha)^n), `avg` (equally) or `single` (the last one only),
        normalised to sum 1.

    Returns:
      A jax array, float64 where x64 is on and else float32; or for a sparse graph a float64 `scipy.sparse.csr_array`.

    Raises:
      ValueError: An argument is out of its range.
    """
    sparse = sp.issparse(adjacency)
    graph = sp.csr_array(adjacency, dtype=np.float64) if sparse else jnp.asarray(adjacency, dtype=float)
    _validate(graph, order=order, alpha=alpha, rmax=rmax, top_k=top_k, scheme=scheme)
    if isinstance(graph, jax.Array):
        return _compiled(graph, order=order, alpha=alpha, rmax=rmax, top_k=top_k, scheme=scheme)
    sources = np.arange(len(graph.indptr) - 1)
    return _push(graph, sources, order=order, alpha=alpha, rmax=rmax, top_k=top_k, scheme=scheme)[0]


def propagation(
    adjacency: jax.Array,
    *,
    order: int,
    alpha: float | jax.Array,
    rmax: float | jax.Array = 0.0,
    top_k: int | None = None,
    scheme: str = "ppr",
) -> jax.Array:
    """Returns `gfpush` of dense graphs, unchecked, for use inside a model.

    The graphs may be directed: `adjacency[i, j]` is the weight with which node i gathers from node j. Under a lower
    triangular one, no later node changes a bit of an earlier row. A node without edges, such as padding, keeps to
    itself.

    Args:
      adjacency: `[..., V, V]` finite, non-negative, of any dtype, without self-loops, which are added.

    Returns:
      `[..., V, V]`, of the adjacency's dtype if that is floating, else of the default one.
    """
    dtype = adjacency.dtype if jnp.issubdtype(adjacency.dtype, jnp.floating) else jnp.asarray(0.0).dtype
    eye = jnp.broadcast_to(jnp.eye(adjacency.shape[-1], dtype=dtype), adjacency.shape)
    looped = adjacency.astype(dtype) + eye
    degree = looped.sum(-1, keepdims=True)
    transition = looped / degree
    least = jnp.asarray(rmax, dtype) * jnp.swapaxes(degree, -1, -2)
    *weights, last = (jnp.asarray(w, dtype) for w in _weights(order, alpha, scheme))

    result, residue = jnp.zeros_like(eye), eye  # [..., sources, V]
    for weight in weights:
        result = result + weight * residue
        pushed = jnp.where(residue >= least, residue, 0)
        # Full precision: rounding to the short formats of accelerators would move residues across the threshold.
        residue = jnp.matmul(pushed, transition, precision="highest")
    result = result + last * residue
    size = result.shape[-1]
    if top_k is None or (isinstance(size, int) and top_k >= size):
        return result
    if not isinstance(size, int):  # an exported program has graphs of any size, also of fewer than top_k nodes
        result = jnp.pad(result, [(0, 0)] * (result.ndim - 1) + [(0, top_k)], constant_values=-1)
    values, nodes = jax.lax.top_k(result, top_k)  # of equal entries the lower index comes first
    least, last = values[..., -1:], nodes[..., -1:]
    kept = (result > least) | (
        (result == least) & (jax.lax.broadcasted_iota(nodes.dtype, result.shape, result.ndim - 1) <= last)
    )
    return jnp.where(kept, result, 0)[..., :size]


_compiled = jax.jit(propagation, static_argnames=("order", "top_k", "scheme"))


def _weights(order: int, alpha: float | jax.Array, scheme: str) -> list:
    """Returns `w_0 ... w_order`, which sum to 1."""
    if scheme == "ppr":
        decay = [(1 - alpha) ** n for n in range(order + 1)]
        total = sum(decay)
        return [w / total for w in decay]
    if scheme == "avg":
        return [1 / (order + 1)] * (order + 1)
    if scheme == "single":
        return [0.0] * order + [1.0]
    raise ValueError(f"scheme: expected ppr, avg or single, got {scheme!r}")


def _push(
    adjacency: sp.csr_array,
    sources: np.ndarray,
    *,
    order: int,
    alpha: Any,
    rmax: Any = 0.0,
    top_k: int | None = None,
    scheme: str = "ppr",
) -> tuple[sp.csr_array, np.ndarray]:
    """Returns the rows of `sources`, `[S, V]`, and how many edges each of them touched, `[S]` int64."""
    size = len(adjacency.indptr) - 1
    looped = sp.csr_array(adjacency + sp.eye_array(size, format="csr"))
    edges = np.diff(looped.indptr).astype(np.int64)
    degree = looped.sum(axis=1)
    transition = looped.multiply(1 / degree[:, None]).tocsr()
    weights = _weights(order, alpha, scheme)

    done = []
    chosen = sp.csr_array((np.ones(len(sources)), sources, np.arange(len(sources) + 1)), shape=(len(sources), size))
    groups = [(0, sp.csr_array(chosen.shape), chosen, np.zeros(len(sources), np.int64))]
    while groups:
        step, result, residue, touched = groups.pop()
        if step == order:
            result = result + weights[step] * residue
            result.sort_indices()
            done.append((result if top_k is None else _largest(result, top_k), touched))
            continue
        pushed = residue.copy()
        pushed.data[pushed.data < rmax * degree[pushed.indices]] = 0
        pushed.eliminate_zeros()
        # Of all that is stored, not of what is above zero: that is what the product below walks.
        work = np.diff(np.append(0, np.cumsum(edges[pushed.indices]))[pushed.indptr])
        if work.sum() > max(_EDGES_AT_ONCE, looped.nnz) and len(work) > 1:
            halves = slice(len(work) // 2), slice(len(work) // 2, None)
            # The first half comes off the stack first, so that rows are done in order.
            groups += [(step, result[half], residue[half], touched[half]) for half in reversed(halves)]
            continue
        # The product of sparse matrices visits the pushed nodes' edges and no others.
        groups.append((step + 1, result + weights[step] * residue, pushed @ transition, touched + work))
    rows, touched = zip(*done, strict=True)
    return sp.csr_array(sp.vstack(rows, format="csr")), np.concatenate(touched)


def _largest(rows: sp.csr_array, count: int) -> sp.csr_array:
    """Returns the `count` largest entries of each row, whose indices are sorted; the lower index of equal entries."""
    filled = np.diff(rows.indptr)
    row = np.repeat(np.arange(len(filled)), filled)
    by_size = np.lexsort((np.negative(rows.data), row))  # stable, so equal entries stay sorted by index
    rank = np.arange(rows.nnz) - rows.indptr[row]
    rows.data[by_size[rank >= count]] = 0
    rows.eliminate_zeros()
    return rows


def _validate(graph: Any, *, order: Any, alpha: Any, rmax: Any, top_k: Any, scheme: str) -> None:
    """Raises ValueError for an argument out of its range, as far as values are known: not those traced by jit."""

    def expect(met, name: str, expected: str) -> None:
        if not met:
            raise ValueError(f"{name}: expected {expected}")

    def whole(value, least: int):
        return isinstance(value, int | np.integer) and value >= least

    expect(whole(order, 0), "order", f"an integer of at least 0, got {order!r}")
    expect(top_k is None or whole(top_k, 1), "top_k", f"None or an integer of at least 1, got {top_k!r}")
    unused = scheme != "ppr"
    expect(unused or isinstance(alpha, Tracer) or 0 < alpha <= 1, "alpha", f"above 0 and at most 1, got {alpha!r}")
    expect(isinstance(rmax, Tracer) or rmax >= 0, "rmax", f"at least 0, got {rmax!r}")
    shape = graph.shape
    expect(len(shape) == 2 and shape[0] == shape[1], "adjacency", f"a square [V, V] array, got shape {shape}")
    if isinstance(graph, Tracer):
        return
    if isinstance(graph, jax.Array):
        graph = np.asarray(graph)
    values = graph.data if sp.issparse(graph) else graph
    expect(np.isfinite(values).all(), "adjacency", "finite weights, got NaN or infinity")
    expect((values >= 0).all(), "adjacency", f"weights of at least 0, got {values.min(initial=0)}")
    expect(not graph.diagonal().any(), "adjacency", "a zero diagonal (self-loops are added here), got self-loops")
    # Weights normalised by degrees are symmetric only up to their rounding.
    uneven = abs(graph - graph.T) > 1e-5 * (graph + graph.T)
    expect(
        not uneven.sum(), "adjacency", f"a symmetric array, got {uneven.sum()} entries that differ from their mirror"
    )
