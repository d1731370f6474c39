"""Encoders over the utterances of dialogues: `x [B, U, D], mask, dialogue, speaker [B, U] -> [B, U, D]`.

None looks across dialogues, what stands in padding reaches nothing, and only equality of speakers is looked at, so that
renaming them changes nothing. A causal encoder lets an utterance see itself and those before it.
"""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from jmer.base.masks import Draws, dropout, masked_softmax
from jmer.base.products import dense
from jmer.nn.recurrent import GRU


class Encoder(nn.Module):
    """The encoder slot of the model.

    kind: `none`; `gru`, forward; `bigru`; `bigru_attention`, self-attention over the BiGRU's states; `transformer`.
    """

    kind: str
    heads: int
    layers: int
    causal: bool
    dropout: float
    precision: str = "float32"

    @nn.compact
    def __call__(
        self, x: jax.Array, mask: jax.Array, dialogue: jax.Array, speaker: jax.Array, draws: Draws | None
    ) -> jax.Array:
        d = x.shape[-1]
        if self.kind == "gru":
            x = x + GRU(d, bidirectional=False, precision=self.precision, name="gru")(x, mask, dialogue)
        elif self.kind in ("bigru", "bigru_attention"):
            x = x + GRU(d // 2, bidirectional=True, precision=self.precision, name="gru")(x, mask, dialogue)
        elif self.kind not in ("none", "transformer"):
            raise ValueError(f"encoder '{self.kind}'; expected none, gru, bigru, bigru_attention or transformer")
        if self.kind in ("bigru_attention", "transformer"):
            pairs = dialogue_pairs(mask, dialogue, speaker, causal=self.causal)
            for i in range(self.layers if self.kind == "transformer" else 1):
                wide = self.kind == "transformer"
                block = Block(self.heads, wide, self.dropout, self.precision, name=f"block_{i}")
                x = block(x, None, *pairs, draws)
        return nn.LayerNorm(name="norm")(jnp.where(mask[..., None], x, 0))


def dialogue_pairs(
    mask: jax.Array, dialogue: jax.Array, speaker: jax.Array, *, causal: bool
) -> tuple[jax.Array, jax.Array]:
    """Returns which utterance may attend to which, and which pairs have one speaker: two `[B, U, U]` bool."""
    allowed = mask[:, :, None] & mask[:, None, :] & (dialogue[:, :, None] == dialogue[:, None, :])
    if causal:
        allowed &= jnp.tril(jnp.ones(allowed.shape[1:], jnp.bool_))[None]
    return allowed, speaker[:, :, None] == speaker[:, None, :]


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017) with rotary positions and a relative speaker embedding.

    Positions are turned into queries and keys (RoFormer, Su et al. 2021, equation 16). Speakers come in as Shaw et al.
    2018, equation 4, does it for positions: to a key is added one of two learned vectors, as the key's speaker is the
    query's or another.
    """

    heads: int
    precision: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array, y: jax.Array, allowed: jax.Array, same: jax.Array) -> jax.Array:
        """`x [B, U, D]` attends to `y [B, K, D]`.

        Args:
          y: one or more sequences of the dialogue, one after another; so K is a multiple of U.
          allowed: `[B, U, K]` bool; an utterance that may attend to nothing gets zeros, before the last linear map.
          same: `[B, U, K]` bool, the two have one speaker.
        """
        (b, u, d), k = x.shape, y.shape[1]
        chex.assert_shape((allowed, same), (b, u, k))
        size, linear = d // self.heads, functools.partial(dense, d, precision=self.precision)
        query = linear(name="query")(x).reshape(b, u, self.heads, size)
        key, value = (linear(name=name)(y).reshape(b, k, self.heads, size) for name in ("key", "value"))
        embedding = self.param("speaker", nn.initializers.normal(0.02), (2, self.heads, size))
        by_speaker = jnp.einsum("buhd,shd->bhus", query, embedding)
        by_speaker = jnp.where(same[:, None], by_speaker[..., :1], by_speaker[..., 1:])
        position = jnp.arange(u, dtype=x.dtype)
        query, key = _rotate(query, position), _rotate(key, jnp.tile(position, k // u))
        logits = (jnp.einsum("buhd,bkhd->bhuk", query, key) + by_speaker) * size**-0.5
        weights = masked_softmax(logits, allowed[:, None], axis=-1)
        return linear(name="out")(jnp.einsum("bhuk,bkhd->buhd", weights, value).reshape(b, u, d))


class Block(nn.Module):
    """Pre-norm attention block, with or without its feed-forward half: `[B, U, D] -> [B, U, D]`; Xiong et al. 2020.

    x attends to y, or to itself where y is None.
    """

    heads: int
    feed_forward: bool
    dropout: float
    precision: str = "float32"

    @nn.compact
    def __call__(
        self, x: jax.Array, y: jax.Array | None, allowed: jax.Array, same: jax.Array, draws: Draws | None
    ) -> jax.Array:
        query = nn.LayerNorm(name="norm")(x)
        keys = query if y is None else nn.LayerNorm(name="norm_keys")(y)
        attended = Attention(self.heads, self.precision, name="attention")(query, keys, allowed, same)
        x = x + dropout(attended, draws, rate=self.dropout)
        if self.feed_forward:
            d = x.shape[-1]
            inner = nn.gelu(dense(4 * d, precision=self.precision, name="wide")(nn.LayerNorm(name="norm_wide")(x)))
            x = x + dropout(dense(d, precision=self.precision, name="narrow")(inner), draws, rate=self.dropout)
        return x


class CoAttention(nn.Module):
    """Each modality attends to all the others over the dialogue: `[B, U, M, D] -> [B, U, M, D]`.

    The co-attentional transformer layer of ViLBERT (Lu et al. 2019, section 3.1), for any number of modalities: an
    utterance of one modality asks, the utterances that have another modality answer.
    """

    heads: int
    causal: bool
    dropout: float
    precision: str = "float32"

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        present: jax.Array,
        mask: jax.Array,
        dialogue: jax.Array,
        speaker: jax.Array,
        draws: Draws | None,
    ) -> jax.Array:
        m = x.shape[2]
        allowed, same = dialogue_pairs(mask, dialogue, speaker, causal=self.causal)
        out = []
        for i in range(m):
            others = [j for j in range(m) if j != i]
            may = jnp.concatenate([allowed & present[:, None, :, j] for j in others], axis=2)
            keys = jnp.concatenate([x[:, :, j] for j in others], axis=1)
            block = Block(self.heads, False, self.dropout, self.precision, name=f"block_{i}")
            out.append(block(x[:, :, i], keys, may, jnp.tile(same, len(others)), draws))
        return jnp.stack(out, axis=2)


def _rotate(x: jax.Array, position: jax.Array) -> jax.Array:
    """Rotary positions: turns the two halves of each head's `[..., K, H, D]` against each other."""
    half = x.shape[-1] // 2
    frequency = 10_000 ** (-jnp.arange(half, dtype=x.dtype) / half)
    angle = (position[:, None] * frequency[None])[None, :, None]
    a, b, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos, rest], axis=-1)
