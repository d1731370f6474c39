"""Pooling of the frames of an utterance to one vector."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jmer.base.masks import masked_softmax
from jmer.base.products import dense
from jmer.nn.options import LayerOptions


class AttentionPooling(nn.Module):
    """Weighted mean of the frames of each utterance, by attention with a learned query.

    A frame x weighs softmax(u . tanh(W x + b)), over the frames of the utterance; Yang et al. 2016, "Hierarchical
    attention networks", equations 5 to 7. An utterance without frames gets zeros.
    """

    options: LayerOptions

    @nn.compact
    def __call__(self, x: Float[Array, "B U T D"], frame_mask: Bool[Array, "B U T"]) -> Float[Array, "B U D"]:
        x = jnp.where(frame_mask[..., None], x, 0)
        hidden = nn.tanh(dense(self.options.hidden, precision=self.options.precision, name="hidden")(x))
        scores = nn.Dense(1, use_bias=False, name="query")(hidden)
        weights = masked_softmax(scores[..., 0], frame_mask, axis=-1)
        return jnp.einsum("but,butd->bud", weights, x)
