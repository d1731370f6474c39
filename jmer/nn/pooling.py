"""From the frames of an utterance to one vector."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from jmer.base.masks import masked_softmax
from jmer.base.products import dense


class AttentionPooling(nn.Module):
    """Weighted mean of the frames of each utterance, by attention with a learned query: `[B, U, T, D] -> [B, U, D]`.

    Yang et al. 2016, "Hierarchical attention networks", equations 5 to 7: a frame x weighs softmax(u . tanh(W x + b)).
    An utterance without frames gets zeros.

    hidden: width of W.
    """

    hidden: int
    precision: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        """`mask`: `[B, U, T]` bool."""
        chex.assert_shape(mask, x.shape[:-1])
        x = jnp.where(mask[..., None], x, 0)
        hidden = nn.tanh(dense(self.hidden, precision=self.precision, name="hidden")(x))
        scores = nn.Dense(1, use_bias=False, name="query")(hidden)
        weights = masked_softmax(scores[..., 0], mask, axis=-1)
        return jnp.einsum("but,butd->bud", weights, x)
