"""Message passing layers over jraph graphs whose edges are `jmer.graph.Edges`.

Masked edges carry nothing. Layers read `graph.nodes` `[N, D]` and return new nodes `[N, D']`.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import jraph

from jmer.graph import parts


class RGCN(nn.Module):
    """Relational graph convolution, mean over each relation's neighbours; Schlichtkrull et al. 2018, equation 2.

    out_i = W_0 x_i + sum_r mean_{j in N_r(i)} W_r x_j + b
    """

    features: int
    num_relations: int

    @nn.compact
    def __call__(self, graph: jraph.GraphsTuple) -> jax.Array:
        x, edges, senders, receivers = parts(graph)
        n, d = x.shape
        w = self.param("w", nn.initializers.glorot_uniform(batch_axis=0), (self.num_relations, d, self.features))
        # Aggregate first: R sums of D features cost less than a product for each edge.
        segment = receivers * self.num_relations + edges.relation
        weight = edges.mask.astype(x.dtype)
        total = jraph.segment_sum(x[senders] * weight[:, None], segment, n * self.num_relations)
        count = jraph.segment_sum(weight, segment, n * self.num_relations)
        mean = (total / jnp.maximum(count, 1)[:, None]).reshape(n, self.num_relations * d)
        root = nn.Dense(self.features, name="root")(x)
        return root + mean @ w.reshape(self.num_relations * d, self.features)


class GAT(nn.Module):
    """Graph attention with self-loops; Velickovic et al. 2018, equations 1 to 5, heads joined.

    features: of the output, divided evenly among the heads.
    """

    features: int
    heads: int
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
        logits = nn.leaky_relu(from_sender[senders] + from_receiver[receivers], self.negative_slope)
        logits = jnp.where(mask[:, None], logits, jnp.finfo(x.dtype).min)
        attention = jnp.asarray(jraph.segment_softmax(logits, receivers, n))
        out = jraph.segment_sum(projected[senders] * attention[:, :, None], receivers, n)
        return out.reshape(n, self.features) + bias[None]
