"""Message passing layers over a `jmer.graph.Graph` in any of its forms.

All layers are made in one way: from the graph's options, the width `features` of their output and the number of
`relations`. Edges that the graph's mask leaves out carry nothing.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jmer.base.products import dense, product
from jmer.graph import Graph, propagation
from jmer.nn.options import GraphOptions

_NEGATIVE_SLOPE = 0.2  # of the leaky ReLU in GAT; Velickovic et al. 2018, section 2.1
ROUNDS = 2  # of messages in GRNN
_COLUMNS = 32  # senders whose weights are computed at a time, so that a long dialogue needs little memory

ATTENTION = "attention"  # the collection into which GAT puts its weights where the caller asks for them


class _Relational(nn.Module):
    """What the relational layers share: a weight matrix for each relation, and the messages made with them.

    With `options.bases`, the matrices are mixtures of that many bases (Schlichtkrull et al. 2018, equation 3).
    """

    options: GraphOptions
    features: int
    relations: int

    def weights(self, d: int) -> Float[Array, "R D D2"]:
        """Returns the weight matrix of every relation for inputs of width `d`."""
        init, bases = nn.initializers.glorot_uniform(batch_axis=0), self.options.bases
        if not bases:
            return self.param("w", init, (self.relations, d, self.features))
        basis = self.param("bases", init, (bases, d, self.features))
        mixture = self.param("coefficients", nn.initializers.glorot_uniform(), (self.relations, bases))
        return jnp.einsum("rk,kdf->rdf", mixture, basis)

    def messages(self, graph: Graph, x: Float[Array, "B U M D"], w: Float[Array, "R D D2"]) -> Float[Array, "B U M D2"]:
        """Returns sum_r mean_{j in N_r(i)} W_r x_j for every node i."""
        # Aggregating first costs R sums of D features; a product for each edge would cost more.
        mean = graph.mean(x, self.relations)
        mean, w = mean.reshape(*x.shape[:-1], -1), w.reshape(-1, self.features)
        return product("bumk,kf->bumf", mean, w, precision=self.options.precision)


class RGCN(_Relational):
    """Relational graph convolution with the mean over each relation's neighbours; Schlichtkrull et al. 2018, equation
    2.

    out_i = W_0 x_i + sum_r mean_{j in N_r(i)} W_r x_j + b
    """

    @nn.compact
    def __call__(self, graph: Graph, x: Float[Array, "B U M D"]) -> Float[Array, "B U M D2"]:
        root = dense(self.features, precision=self.options.precision, name="root")
        return root(x) + self.messages(graph, x, self.weights(x.shape[-1]))


class GRNN(_Relational):
    """Gated graph network: each node takes relational messages into a GRU, twice; Li et al. 2016, equations 1 to 6.

    The node is the state, so that D equals `features`. Both rounds of messages have the same weights.
    """

    @nn.compact
    def __call__(self, graph: Graph, x: Float[Array, "B U M D"]) -> Float[Array, "B U M D"]:
        w, cell = self.weights(self.features), nn.GRUCell(self.features, name="cell")
        for _ in range(ROUNDS):
            x, _ = cell(x, self.messages(graph, x, w))
        return x


class GAT(nn.Module):
    """Graph attention with self-loops and joined heads; Velickovic et al. 2018, equations 1 to 5.

    The features are divided evenly among `options.heads`. A learned scalar for the edge's relation and head is added to
    each attention logit before the leaky ReLU (Busbridge et al. 2019, equation 3, with a constant in place of the
    projected edge); self-loops are one more relation. With `relations` 0 the layer ignores relations.

    Where the collection `ATTENTION` is mutable, the layer stores `[V, B, U, M]` there: how much each node attends to
    each of the V = U M senders, as the mean over the heads.
    """

    options: GraphOptions
    features: int
    relations: int

    @nn.compact
    def __call__(self, graph: Graph, x: Float[Array, "B U M D"]) -> Float[Array, "B U M D2"]:
        (*nodes, _), heads, glorot = x.shape, self.options.heads, nn.initializers.glorot_uniform()
        project = dense(self.features, use_bias=False, precision=self.options.precision, name="project")
        projected = project(x).reshape(*nodes, heads, -1)
        a_send = self.param("a_send", glorot, projected.shape[-2:])
        a_receive = self.param("a_receive", glorot, projected.shape[-2:])
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        by_relation = jnp.zeros((1, heads), x.dtype)
        if self.relations:
            by_relation = self.param("a_relation", nn.initializers.zeros_init(), (self.relations + 1, heads))
        sent, received = (jnp.einsum("bumhd,hd->bumh", projected, a) for a in (a_send, a_receive))
        out = graph.attend(projected, sent, received, by_relation, slope=_NEGATIVE_SLOPE)
        if self.is_mutable_collection(ATTENTION):
            _, u, m = nodes

            def weights(sender: jax.Array) -> jax.Array:
                marked = jax.nn.one_hot(sender, u * m, dtype=x.dtype).reshape(1, u, m, 1, 1)
                values = jnp.broadcast_to(marked, (*nodes, heads, 1))
                return graph.attend(values, sent, received, by_relation, slope=_NEGATIVE_SLOPE).mean(axis=(-2, -1))

            self.sow(ATTENTION, "weights", jax.lax.map(weights, jnp.arange(u * m), batch_size=_COLUMNS))
        return out.reshape(*nodes, self.features) + jnp.broadcast_to(bias, (*nodes, self.features))


class GFPush(nn.Module):
    """Generalised mixed-order propagation, then a linear map; Feng et al. 2022 (GRAND+), equation 3.

    `options.gfpush` says how far and by which weights features travel. The layer ignores relations.
    """

    options: GraphOptions
    features: int
    relations: int

    @nn.compact
    def __call__(self, graph: Graph, x: Float[Array, "B U M D"]) -> Float[Array, "B U M D2"]:
        (b, u, m, d), o = x.shape, self.options.gfpush
        adjacency = graph.adjacency().astype(x.dtype)
        weights = propagation(
            adjacency, order=o.order, alpha=o.alpha, rmax=o.rmax, top_k=o.top_k or None, scheme=o.scheme
        )
        mixed = jnp.einsum("bij,bjd->bid", weights, x.reshape(b, u * m, d))
        out = dense(self.features, precision=self.options.precision, name="out")(mixed)
        return out.reshape(b, u, m, self.features)
