"""Speaker graphs over the utterances of a batch, as pure functions of its masks.

A node is an utterance, or an utterance in one stream (a modality, say). Shapes are static: an edge slot exists for
every node and every offset of the window, and a mask says which slots hold an edge. So a graph is built inside the
compiled step, at no cost on the host.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import jraph
import numpy as np

from jmer.masks import keep_mask

_WHO, _WHEN = ("same", "other"), ("past", "future")


class Edges(NamedTuple):
    """The edges of a jraph graph.

    relation: `[E]` int32, index into `relation_names`.
    mask: `[E]` bool; an edge slot that is False joins padding or crosses the end of a dialogue and carries nothing.
    """

    relation: jax.Array
    mask: jax.Array


def relation_names(*, streams: int = 1, distance_bins: Sequence[int] = ()) -> tuple[str, ...]:
    """Returns the relations of `speaker_graph`, R names, in order.

    An edge within a stream is told by who spoke (the same speaker or another, whatever their names), when (before or
    after) and, with bins, how far away; an edge between streams by the two streams.
    """
    bounds = itertools.pairwise([0, *distance_bins, ""])
    spans = [f"_{int(a) + 1}-{b}" for a, b in bounds] if distance_bins else [""]
    within = [f"{who}_{when}{span}" for span in spans for who in _WHO for when in _WHEN]
    between = [f"stream_{a}_to_{b}" for a in range(streams) for b in range(streams) if a != b]
    return (*within, *between)


def speaker_graph(
    nodes: jax.Array,
    present: jax.Array,
    dialogue: jax.Array,
    speaker: jax.Array,
    *,
    past: int,
    future: int,
    distance_bins: Sequence[int] = (),
) -> jraph.GraphsTuple:
    """Joins each utterance with its neighbours: those up to `past` before it and `future` after it send to it.

    That happens within each of the M streams; and the streams of one utterance send to each other.

    Args:
      nodes: `[B, U, M, D]`.
      present: `[B, U, M]` bool; a node that is not present neither sends nor receives.
      dialogue: `[B, U]` int32, its number in the row; none sends to another.
      speaker: `[B, U]` int32.
      distance_bins: ascending; the last distance of each bin but the last one, which has no end.

    Returns:
      One graph a row: nodes `[B * U * M, D]` in that order, edges `Edges`, without self-loops.
    """
    b, u, m, d = nodes.shape
    # Within a stream. Offsets beyond the padded length reach nobody.
    offsets = np.array([o for o in range(-min(past, u - 1), min(future, u - 1) + 1) if o != 0], np.int32)
    receiver = np.arange(u, dtype=np.int32)[:, None] + 0 * offsets  # [U, offsets]
    sender = receiver + offsets
    inside = (sender >= 0) & (sender < u)
    sender = np.clip(sender, 0, u - 1)
    span = np.searchsorted(np.array(distance_bins, np.int32), np.abs(offsets)).astype(np.int32)
    other = (speaker[:, sender] != speaker[:, receiver]).astype(jnp.int32)  # [B, U, offsets]
    relation = 4 * jnp.array(span)[None, None] + 2 * other + jnp.array(offsets > 0, jnp.int32)[None, None]
    relations = [jnp.repeat(relation.reshape(b, -1), m, axis=1)]
    joined = inside[None] & (dialogue[:, sender] == dialogue[:, receiver])
    valid = joined[..., None] & present[:, sender] & present[:, receiver]
    valids = [jnp.asarray(valid).reshape(b, -1)]
    stream = np.arange(m, dtype=np.int32)
    senders, receivers = ([(m * x[..., None] + stream).reshape(-1)] for x in (sender, receiver))

    # Between the streams of an utterance.
    pairs = np.array([(a, c) for a in range(m) for c in range(m) if a != c], np.int32).reshape(-1, 2)
    first_node = m * np.arange(u, dtype=np.int32)[:, None]
    senders.append((first_node + pairs[:, 0]).reshape(-1))
    receivers.append((first_node + pairs[:, 1]).reshape(-1))
    number = 4 * (len(distance_bins) + 1) + np.arange(len(pairs), dtype=np.int32)
    relations.append(jnp.array(np.broadcast_to(number, (b, u, len(pairs)))).reshape(b, -1))
    valids.append(jnp.asarray(present[:, :, pairs[:, 0]] & present[:, :, pairs[:, 1]]).reshape(b, -1))

    local_senders, local_receivers = np.concatenate(senders), np.concatenate(receivers)
    first = u * m * np.arange(b, dtype=np.int32)[:, None]  # the row's first node
    return jraph.GraphsTuple(
        nodes=nodes.reshape(b * u * m, d),
        edges=Edges(
            relation=jnp.concatenate(relations, axis=1).reshape(-1), mask=jnp.concatenate(valids, axis=1).reshape(-1)
        ),
        senders=jnp.array(first + local_senders).reshape(-1),
        receivers=jnp.array(first + local_receivers).reshape(-1),
        n_node=jnp.full((b,), u * m),
        n_edge=jnp.full((b,), local_senders.size),
        globals=None,
    )


def parts(graph: jraph.GraphsTuple) -> tuple[jax.Array, Edges, jax.Array, jax.Array]:
    """Returns nodes, edges, senders and receivers of a graph made here, with their types, which jraph leaves open."""
    return cast(
        tuple[jax.Array, Edges, jax.Array, jax.Array], (graph.nodes, graph.edges, graph.senders, graph.receivers)
    )


def adjacency(graph: jraph.GraphsTuple) -> jax.Array:
    """Returns a graph's edges as `[B, V, V]` of 0 and 1, V nodes a row: row receives from column."""
    nodes, edges, senders, receivers = parts(graph)
    b = jnp.shape(graph.n_node)[0]
    v = nodes.shape[0] // b
    joined = jnp.zeros((b * v, v), nodes.dtype).at[receivers, senders % v].max(edges.mask.astype(nodes.dtype))
    return joined.reshape(b, v, v)


def drop_node(key: jax.Array, nodes: jax.Array, *, rate: float) -> jax.Array:
    """DropNode in training: zeroes whole rows, each with probability `rate`, and scales the rest by 1 / (1 - rate).

    Its expectation is the identity. Feng et al. 2020, "Graph Random Neural Networks" (GRAND), section 3.1.

    Args:
      nodes: `[..., D]`; one draw a row.
    """
    keep = keep_mask(key, nodes.shape[:-1], rate=rate)
    return jnp.where(keep[..., None], nodes / (1 - rate), 0)


def drop_edge(key: jax.Array, edges: Edges, *, rate: float) -> Edges:
    """DropEdge in training: removes each edge with probability `rate`; Rong et al. 2020, section 4.1.

    What is left is not scaled: the layers normalise over the edges that are there.
    """
    return edges._replace(mask=edges.mask & keep_mask(key, edges.mask.shape, rate=rate))
