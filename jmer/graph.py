"""Speaker graphs over the utterances of a batch, as pure functions of its masks.

Shapes are static: an edge slot exists for every utterance and every offset of the window, and a mask says which slots
hold an edge. So a graph is built inside the compiled step, at no cost on the host.
"""

from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import jraph
import numpy as np

# By who spoke (the same speaker or another) and when (before or after); invariant to renaming speakers.
RELATIONS = ("same_past", "same_future", "other_past", "other_future")


class Edges(NamedTuple):
    """The edges of a jraph graph.

    relation: `[E]` int32, index into `RELATIONS`.
    mask: `[E]` bool; an edge slot that is False joins padding or crosses the end of a dialogue and carries nothing.
    """

    relation: jax.Array
    mask: jax.Array


def window_graph(nodes: jax.Array, mask: jax.Array, speaker: jax.Array, *, past: int, future: int) -> jraph.GraphsTuple:
    """Joins each utterance with its neighbours: those up to `past` before it and `future` after it send to it.

    Args:
      nodes: `[B, U, D]`.
      mask: `[B, U]` bool.
      speaker: `[B, U]` int32.

    Returns:
      One graph a dialogue: nodes `[B * U, D]`, edges `Edges`, without self-loops.
    """
    b, u, d = nodes.shape
    # Offsets beyond the padded length reach nobody.
    offsets = [o for o in range(-min(past, u - 1), min(future, u - 1) + 1) if o != 0]
    receiver = np.arange(u, dtype=np.int32)[:, None]
    sender = receiver + np.array(offsets, np.int32)[None, :]  # [U, offsets]
    inside = (sender >= 0) & (sender < u)
    sender = np.clip(sender, 0, u - 1)
    receiver = np.broadcast_to(receiver, sender.shape)

    valid = inside[None] & mask[:, sender] & mask[:, receiver]  # [B, U, offsets]
    other = speaker[:, sender] != speaker[:, receiver]
    relation = 2 * other.astype(jnp.int32) + (sender > receiver)[None].astype(jnp.int32)
    first = u * jnp.arange(b, dtype=jnp.int32)[:, None, None]  # the dialogue's first node
    return jraph.GraphsTuple(
        nodes=nodes.reshape(b * u, d),
        edges=Edges(relation=relation.reshape(-1), mask=jnp.asarray(valid).reshape(-1)),
        senders=(first + sender[None]).reshape(-1),
        receivers=(first + receiver[None]).reshape(-1),
        n_node=jnp.full((b,), u),
        n_edge=jnp.full((b,), sender.size),
        globals=None,
    )


def parts(graph: jraph.GraphsTuple) -> tuple[jax.Array, Edges, jax.Array, jax.Array]:
    """Returns nodes, edges, senders and receivers of a graph made here, with their types, which jraph leaves open."""
    return cast(
        tuple[jax.Array, Edges, jax.Array, jax.Array], (graph.nodes, graph.edges, graph.senders, graph.receivers)
    )


def drop_node(key: jax.Array, nodes: jax.Array, *, rate: float) -> jax.Array:
    """DropNode in training: zeroes whole rows, each with probability `rate`, and scales the rest by 1 / (1 - rate).

    Its expectation is the identity. Feng et al. 2020, "Graph Random Neural Networks" (GRAND), section 3.1.

    Args:
      nodes: `[..., D]`; one draw a row.
    """
    keep = jax.random.bernoulli(key, 1 - rate, nodes.shape[:-1])
    return jnp.where(keep[..., None], nodes / (1 - rate), 0)
