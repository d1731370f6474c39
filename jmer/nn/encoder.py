"""The encoder slot of the model: how an utterance takes in its dialogue.

No encoder looks across dialogues, nothing in the padding reaches an utterance, and encoders only compare speakers for
equality, so that renaming speakers changes nothing. A causal encoder lets an utterance see itself and earlier ones.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jmer.base.types import Rows
from jmer.nn.attention import Block, dialogue_pairs
from jmer.nn.options import EncoderOptions
from jmer.nn.recurrent import GRU


class Encoder(nn.Module):
    """Encodes the utterances of one branch.

    `options.encoder` chooses: `none`; `gru`, forward in time; `bigru`, in both directions; `bigru_attention`,
    self-attention over the states of a BiGRU; `transformer`, of `options.encoder_layers` blocks.
    """

    options: EncoderOptions

    @nn.compact
    def __call__(self, x: Float[Array, "B U D"], rows: Rows) -> Float[Array, "B U D"]:
        o = self.options
        if o.encoder in ("gru", "bigru", "bigru_attention"):
            both = o.encoder != "gru"
            hidden = x.shape[-1] // 2 if both else x.shape[-1]
            x = x + GRU(hidden=hidden, bidirectional=both, precision=o.precision, name="gru")(x, rows)
        if blocks := {"bigru_attention": 1, "transformer": o.encoder_layers}.get(o.encoder, 0):
            pairs = dialogue_pairs(rows, causal=o.causal)
            for i in range(blocks):
                block = Block(options=o, feed_forward=o.encoder == "transformer", name=f"block_{i}")
                x = block(x, None, pairs)
        return nn.LayerNorm(name="norm")(jnp.where(rows.mask[..., None], x, 0))
