"""Message passing layers over jraph graphs whose edges are `jmer.graph.Edges`.

Masked edges carry nothing. Layers read `graph.nodes` `[N, D]` and return new nodes `[N, D']`.
"""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import jraph

from jmer.graph import adjacency, parts, propagation


class _Relational(nn.Module):
    """What the relational layers share: a weight matrix a relation, and the messages made with them.

    num_bases: the matrices are mixtures of so many bases (Schlichtkrull et al. 2018, equation 3); 0: free matrices.
    """

    features: int
    num_relations: int
    num_bases: int = 0

    def weights(self, d: int) -> jax.Array:
        """`[R, D, features]`."""
        init = nn.initializers.glorot_uniform(batch_axis=0)
        if not self.num_bases:
            return self.param("w", init, (self.num_relations, d, self.features))
        bases = self.param("bases", init, (self.num_bases, d, self.features))
        mixture = self.param("coefficients", nn.initializers.glorot_uniform(), (self.num_relations, self.num_bases))
        return jnp.einsum("rk,kdf->rdf", mixture, bases)

    def messages(self, graph: jraph.GraphsTuple, w: jax.Array) -> jax.Array:
        """sum_r mean_{j in N_r(i)} W_r x_j: `[N, features]`."""
        x, edges, senders, receivers = parts(graph)
        n, d = x.shape
        # Aggregate first: R sums of D features cost less than a product for each edge.
        segment = receivers * self.num_relations + edges.relation
        weight = edges.mask.astype(x.dtype)
        total = jraph.segment_sum(x[senders] * weight[:, None], segment, n * self.num_relations)
        count = jraph.segment_sum(weight, segment, n * self.num_relations)
        mean = (total / jnp.maximum(count, 1)[:, None]).reshape(n, self.num_relations * d)
        return mean @ w.reshape(self.num_relations * d, self.features)


class RGCN(_Relational):
    """Relational graph convolution, mean over each relation's neighbours; Schlichtkrull et al. 2018, equation 2.

    out_i = W_0 x_i + sum_r mean_{j in N_r(i)} W_r x_j + b
    """

    @nn.compact
    def __call__(self, graph: jraph.GraphsTuple) -> jax.Array:
        x = parts(graph)[0]
        return nn.Dense(self.features, name="root")(x) + self.messages(graph, self.weights(x.shape[-1]))


class GRNN(_Relational):
    """Gated graph network: each node takes relational messages into a GRU; Li et al. 2016, equations 1 to 6.

    updates: rounds of messages, with the same weights.
    """

    updates: int = 2

    @nn.compact
    def __call__(self, graph: jraph.GraphsTuple) -> jax.Array:
        x = parts(graph)[0]
        chex.assert_axis_dimension(x, 1, self.features)  # the node is the state
        w, cell = self.weights(self.features), nn.GRUCell(self.features, name="cell")
        for _ in range(self.updates):
            x, _ = cell(x, self.messages(graph._replace(nodes=x), w))
        return x


class GAT(nn.Module):
    """Graph attention with self-loops; Velickovic et al. 2018, equations 1 to 5, heads joined.

    features: of the output, divided evenly among the heads.
    num_relations: R > 0 adds to each attention logit, before the leaky ReLU, a learned scalar for the edge's relation
      and head (Busbridge et al. 2019, equation 3, with a constant in place of the projected edge); self-loops are
      relation R. 0: relations are not looked at.
    """

    features: int
    heads: int
    num_relations: int = 0
    negative_slope: float = 0.2

    @nn.compact
    def __call__(self, graph: jraph.GraphsTuple) -> jax.Array:
        x, edges, senders, receivers = parts(graph)
        n = x.shape[0]
        per_head = self.features // self.heads
        projected = nn.Dense(self.features, use_bias=False, name="project")(x).reshape(n, self.heads, per_head)
        a_send = self.param("a_send", nn.initializers.glorot_uniform(), (self.heads, per_head))
        a_receive = self.param("a_receive", nn.initializers.glorot_uniform(), (self.heads, per_head))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))

        # Every node sends to itself, padding too: no softmax is over an empty set (where jraph's would be NaN).
        loops = jnp.arange(n, dtype=receivers.dtype)
        senders = jnp.concatenate([senders, loops])
        receivers = jnp.concatenate([receivers, loops])
        mask = jnp.concatenate([edges.mask, jnp.ones((n,), jnp.bool_)])

        from_sender = jnp.einsum("nhd,hd->nh", projected, a_send)
        from_receiver = jnp.einsum("nhd,hd->nh", projected, a_receive)
        logits = from_sender[senders] + from_receiver[receivers]
        if self.num_relations:
            a_relation = self.param("a_relation", nn.initializers.zeros_init(), (self.num_relations + 1, self.heads))
            logits += a_relation[jnp.concatenate([edges.relation, jnp.full((n,), self.num_relations, jnp.int32)])]
        logits = jnp.where(mask[:, None], nn.leaky_relu(logits, self.negative_slope), jnp.finfo(x.dtype).min)
        attention = jnp.asarray(jraph.segment_softmax(logits, receivers, n))
        out = jraph.segment_sum(projected[senders] * attention[:, :, None], receivers, n)
        return out.reshape(n, self.features) + bias[None]


class GFPush(nn.Module):
    """Generalised mixed-order propagation, then a linear map; Feng et al. 2022 (GRAND+), equation 3.

    Fields as in `jmer.graph.gfpush`; top_k 0 keeps all. Relations are not looked at.
    """

    features: int
    order: int
    alpha: float
    rmax: float
    top_k: int
    scheme: str

    @nn.compact
    def __call__(self, graph: jraph.GraphsTuple) -> jax.Array:
        joined = adjacency(graph)
        b, v, _ = joined.shape
        weights = propagation(
            joined, order=self.order, alpha=self.alpha, rmax=self.rmax, top_k=self.top_k or None, scheme=self.scheme
        )
        mixed = jnp.einsum("bij,bjd->bid", weights, parts(graph)[0].reshape(b, v, -1))
        return nn.Dense(self.features, name="out")(mixed.reshape(b * v, -1))
