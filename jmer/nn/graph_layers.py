"""Message passing layers over a `jmer.graph.Graph`, in whatever form: `[B, U, M, D] -> [B, U, M, D']`.

Edges that its mask leaves out carry nothing.
"""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from jmer.base.products import dense, product
from jmer.graph import Graph, propagation


class _Relational(nn.Module):
    """What the relational layers share: a weight matrix a relation, and the messages made with them.

    num_bases: the matrices are mixtures of so many bases (Schlichtkrull et al. 2018, equation 3); 0: free matrices.
    """

    features: int
    num_relations: int
    num_bases: int = 0
    precision: str = "float32"

    def weights(self, d: int) -> jax.Array:
        """`[R, D, features]`."""
        init = nn.initializers.glorot_uniform(batch_axis=0)
        if not self.num_bases:
            return self.param("w", init, (self.num_relations, d, self.features))
        bases = self.param("bases", init, (self.num_bases, d, self.features))
        mixture = self.param("coefficients", nn.initializers.glorot_uniform(), (self.num_relations, self.num_bases))
        return jnp.einsum("rk,kdf->rdf", mixture, bases)

    def messages(self, graph: Graph, x: jax.Array, w: jax.Array) -> jax.Array:
        """sum_r mean_{j in N_r(i)} W_r x_j."""
        # Aggregate first: R sums of D features cost less than a product for each edge.
        mean = graph.mean(x, self.num_relations)
        mean, w = mean.reshape(*x.shape[:-1], -1), w.reshape(-1, self.features)
        return product("bumk,kf->bumf", mean, w, precision=self.precision)


class RGCN(_Relational):
    """Relational graph convolution, mean over each relation's neighbours; Schlichtkrull et al. 2018, equation 2.

    out_i = W_0 x_i + sum_r mean_{j in N_r(i)} W_r x_j + b
    """

    @nn.compact
    def __call__(self, graph: Graph, x: jax.Array) -> jax.Array:
        return dense(self.features, precision=self.precision, name="root")(x) + self.messages(
            graph, x, self.weights(x.shape[-1])
        )


class GRNN(_Relational):
    """Gated graph network: each node takes relational messages into a GRU; Li et al. 2016, equations 1 to 6.

    updates: rounds of messages, with the same weights.
    """

    updates: int = 2

    @nn.compact
    def __call__(self, graph: Graph, x: jax.Array) -> jax.Array:
        chex.assert_axis_dimension(x, -1, self.features)  # the node is the state
        w, cell = self.weights(self.features), nn.GRUCell(self.features, name="cell")
        for _ in range(self.updates):
            x, _ = cell(x, self.messages(graph, x, w))
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
    precision: str = "float32"
    negative_slope: float = 0.2

    @nn.compact
    def __call__(self, graph: Graph, x: jax.Array) -> jax.Array:
        *nodes, _ = x.shape
        per_head = self.features // self.heads
        project = dense(self.features, use_bias=False, precision=self.precision, name="project")
        projected = project(x).reshape(*nodes, self.heads, per_head)
        a_send = self.param("a_send", nn.initializers.glorot_uniform(), (self.heads, per_head))
        a_receive = self.param("a_receive", nn.initializers.glorot_uniform(), (self.heads, per_head))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        by_relation = jnp.zeros((1, self.heads), x.dtype)
        if self.num_relations:
            by_relation = self.param("a_relation", nn.initializers.zeros_init(), (self.num_relations + 1, self.heads))
        sent, received = (jnp.einsum("bumhd,hd->bumh", projected, a) for a in (a_send, a_receive))
        out = graph.attend(projected, sent, received, by_relation, slope=self.negative_slope)
        return out.reshape(*nodes, self.features) + jnp.broadcast_to(bias, (*nodes, self.features))


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
    precision: str = "float32"

    @nn.compact
    def __call__(self, graph: Graph, x: jax.Array) -> jax.Array:
        b, u, m, d = x.shape
        weights = propagation(
            graph.adjacency().astype(x.dtype), order=self.order, alpha=self.alpha, rmax=self.rmax,
            top_k=self.top_k or None, scheme=self.scheme,
        )  # fmt: skip
        mixed = jnp.einsum("bij,bjd->bid", weights, x.reshape(b, u * m, d))
        return dense(self.features, precision=self.precision, name="out")(mixed).reshape(b, u, m, self.features)
