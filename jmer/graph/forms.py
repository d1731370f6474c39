"""Three forms of one graph, with what layers ask of a graph: a mean over each relation's neighbours, and attention.

The dense form is a matrix over all pairs of a row's nodes: a few large products, best for dialogues of common length.
The banded form has a slot for each offset of the window, so that its work grows with the length of a dialogue and not
with the square. The segment form is a list of edges for jraph and fits any graph. All forms give the same result, and
what stands where a mask is False never enters one.

Nodes are `[B, U, M, ...]`; a row has V = U * M of them, numbered in that order.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jraph
import numpy as np
from jaxtyping import Array, Bool, Float, UInt32

from jmer.base.masks import masked_softmax


class Dense(NamedTuple):
    """A graph as a matrix; row i holds the edges that node i receives.

    relation: `[B, V, V]` int32.
    mask: `[B, V, V]` bool.
    """

    relation: jax.Array
    mask: jax.Array

    def mean(self, x: Float[Array, "B U M D"], relations: int) -> Float[Array, "B U M R D"]:
        """Returns the mean of x over the neighbours of each relation; zeros for a relation without neighbours."""
        b, u, m, d = x.shape
        share = _by_relation(self, relations, x.dtype)
        share = share / jnp.maximum(share.sum(axis=-1, keepdims=True), 1)
        return jnp.einsum("birj,bjd->bird", share, x.reshape(b, u * m, d)).reshape(b, u, m, relations, d)

    def attend(
        self,
        values: Float[Array, "B U M H D"],
        sent: Float[Array, "B U M H"],
        received: Float[Array, "B U M H"],
        by_relation: Float[Array, "R1 H"],
        *,
        slope: float,
    ) -> Float[Array, "B U M H D"]:
        """Returns softmax attention over the neighbours and the node itself; Velickovic et al. 2018, equations 3 to 5.

        The logit of an edge is leaky_relu(sent[sender] + received[receiver] + by_relation[relation]).

        Args:
          by_relation: one number for each relation and, last, for a node's attention to itself; R1 = R + 1.
          slope: of the leaky ReLU.
        """
        b, u, m, h, d = values.shape
        v, itself = u * m, jnp.eye(u * m, dtype=jnp.bool_)[None, :, :, None]
        number = jnp.einsum("birj,rh->bijh", _by_relation(self, len(by_relation) - 1, values.dtype), by_relation[:-1])
        number = jnp.where(itself, by_relation[-1][None, None, None], number)
        logits = received.reshape(b, v, 1, h) + sent.reshape(b, 1, v, h) + number
        weights = masked_softmax(jax.nn.leaky_relu(logits, slope), self.mask[..., None] | itself, axis=2)
        return jnp.einsum("bijh,bjhd->bihd", weights, values.reshape(b, v, h, d)).reshape(values.shape)

    def adjacency(self) -> Bool[Array, "B V V"]:
        """Returns whether node i (row) receives from node j (column)."""
        return self.mask

    def edge_numbers(self) -> UInt32[Array, "B V V"]:
        """Returns a number for each edge, given by its row, receiver and sender, and so the same in every form."""
        b, v, _ = self.mask.shape
        return jax.lax.iota(jnp.uint32, b * v * v).reshape(b, v, v)


class Window(NamedTuple):
    """The slots of every node: one for each offset, then one for each other stream of the node's utterance.

    offsets: ascending, without 0.
    streams: M.
    """

    offsets: tuple[int, ...]
    streams: int

    def neighbours(self, x: jax.Array) -> jax.Array:
        """Returns the values of the senders in K slots: `[B, U, M, ...] -> [B, U, M, K, ...]`; zeros from beyond a row.

        M may be 1 where all streams have the same value.
        """
        u, reach = x.shape[1], max(map(abs, self.offsets), default=0)
        padded = jnp.pad(x, [(0, 0), (reach, reach)] + [(0, 0)] * (x.ndim - 2))
        shifted = [padded[:, reach + o : reach + o + u] for o in self.offsets]
        rolled = [jnp.roll(x, -k, axis=2) for k in range(1, self.streams)]
        if not shifted and not rolled:
            return jnp.zeros((*x.shape[:3], 0, *x.shape[3:]), x.dtype)
        return jnp.stack([*shifted, *rolled], axis=3)


class Banded(NamedTuple):
    """A graph as the K slots of a window, through which each node receives.

    relation: `[B, U, M, K]` int32.
    mask: `[B, U, M, K]` bool.
    """

    window: Window
    relation: jax.Array
    mask: jax.Array

    def mean(self, x: Float[Array, "B U M D"], relations: int) -> Float[Array, "B U M R D"]:
        """See `Dense.mean`."""
        share = _by_relation(self, relations, x.dtype)
        share = share / jnp.maximum(share.sum(axis=-1, keepdims=True), 1)
        return jnp.einsum("bumrk,bumkd->bumrd", share, self.window.neighbours(x))

    def attend(
        self,
        values: Float[Array, "B U M H D"],
        sent: Float[Array, "B U M H"],
        received: Float[Array, "B U M H"],
        by_relation: Float[Array, "R1 H"],
        *,
        slope: float,
    ) -> Float[Array, "B U M H D"]:
        """See `Dense.attend`."""
        number = jnp.einsum("bumrk,rh->bumkh", _by_relation(self, len(by_relation) - 1, values.dtype), by_relation[:-1])
        logits = received[..., None, :] + self.window.neighbours(sent) + number
        alone = (received + sent + by_relation[-1][None, None, None])[..., None, :]
        mask = jnp.concatenate([self.mask, jnp.ones((*self.mask.shape[:3], 1), jnp.bool_)], axis=-1)
        logits = jax.nn.leaky_relu(jnp.concatenate([logits, alone], axis=3), slope)
        weights = masked_softmax(logits, mask[..., None], axis=3)
        others = jnp.einsum("bumkh,bumkhd->bumhd", weights[..., :-1, :], self.window.neighbours(values))
        return others + weights[..., -1, :, None] * values

    def adjacency(self) -> Bool[Array, "B V V"]:
        """See `Dense.adjacency`."""
        return Segments.of(self).adjacency()

    def edge_numbers(self) -> UInt32[Array, "B U M K"]:
        """See `Dense.edge_numbers`."""
        return Segments.of(self).edge_numbers().reshape(self.mask.shape)


class Segments(NamedTuple):
    """A graph as a list of edges between nodes that are numbered over all rows.

    relation, senders, receivers: `[E]` int32.
    mask: `[E]` bool.
    nodes: B, U and M.
    """

    relation: jax.Array
    mask: jax.Array
    senders: jax.Array
    receivers: jax.Array
    nodes: tuple[int, int, int]

    @classmethod
    def of(cls, graph: Banded) -> "Segments":
        """Returns the graph with an edge for each slot."""
        b, u, m, k = graph.mask.shape
        number = jnp.arange(b * u * m, dtype=jnp.int32).reshape(b, u, m)
        return cls(
            graph.relation.reshape(-1),
            graph.mask.reshape(-1),
            graph.window.neighbours(number).reshape(-1),
            jnp.repeat(number.reshape(-1), k),
            (b, u, m),
        )

    def mean(self, x: Float[Array, "B U M D"], relations: int) -> Float[Array, "B U M R D"]:
        """See `Dense.mean`."""
        flat = x.reshape(-1, x.shape[-1])
        n = len(flat)
        segment = self.receivers * relations + self.relation
        weight = self.mask.astype(x.dtype)
        total = jraph.segment_sum(flat[self.senders] * weight[:, None], segment, n * relations)
        count = jraph.segment_sum(weight, segment, n * relations)
        return (total / jnp.maximum(count, 1)[:, None]).reshape(*x.shape[:3], relations, x.shape[-1])

    def attend(
        self,
        values: Float[Array, "B U M H D"],
        sent: Float[Array, "B U M H"],
        received: Float[Array, "B U M H"],
        by_relation: Float[Array, "R1 H"],
        *,
        slope: float,
    ) -> Float[Array, "B U M H D"]:
        """See `Dense.attend`."""
        h, d = values.shape[-2:]
        flat, sent, received = values.reshape(-1, h, d), sent.reshape(-1, h), received.reshape(-1, h)
        n, loops = len(flat), jnp.arange(len(flat), dtype=self.senders.dtype)
        # Every node sends to itself, in the padding too, since jraph's softmax over an empty set would be NaN.
        senders, receivers = jnp.concatenate([self.senders, loops]), jnp.concatenate([self.receivers, loops])
        mask = jnp.concatenate([self.mask, jnp.ones((n,), jnp.bool_)])
        itself = jnp.full((n,), len(by_relation) - 1, self.relation.dtype)
        logits = sent[senders] + received[receivers] + by_relation[jnp.concatenate([self.relation, itself])]
        logits = jnp.where(mask[:, None], jax.nn.leaky_relu(logits, slope), jnp.finfo(values.dtype).min)
        weights = jnp.asarray(jraph.segment_softmax(logits, receivers, n))
        return jraph.segment_sum(flat[senders] * weights[:, :, None], receivers, n).reshape(values.shape)

    def adjacency(self) -> Bool[Array, "B V V"]:
        """See `Dense.adjacency`."""
        b, u, m = self.nodes
        v = u * m
        joined = jnp.zeros((b * v, v), jnp.bool_).at[self.receivers, self.senders % v].max(self.mask)
        return joined.reshape(b, v, v)

    def edge_numbers(self) -> UInt32[Array, " E"]:
        """See `Dense.edge_numbers`."""
        _, u, m = self.nodes
        v = np.uint32(u * m)
        return self.receivers.astype(jnp.uint32) * v + self.senders.astype(jnp.uint32) % v


Graph = Dense | Banded | Segments


def _by_relation(graph: Dense | Banded, relations: int, dtype: jnp.dtype) -> jax.Array:
    """Returns `[..., R, K]`, 1 where the edge is valid and of the relation."""
    kinds = jnp.arange(relations, dtype=graph.relation.dtype).reshape(*[1] * (graph.mask.ndim - 1), relations, 1)
    return ((graph.relation[..., None, :] == kinds) & graph.mask[..., None, :]).astype(dtype)
