"""Attention between the utterances of a dialogue, within a modality and across modalities."""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jmer.base.masks import dropout, masked_softmax, so_far
from jmer.base.products import dense
from jmer.base.types import Rows
from jmer.nn.options import EncoderOptions, LayerOptions


class Pairs(NamedTuple):
    """What attention needs to know of each pair of a query and a key.

    mask: `[B, U, K]` bool, whether the query may attend to the key; K counts the keys.
    same_speaker: `[B, U, K]` bool, whether one speaker uttered both.
    """

    mask: jax.Array
    same_speaker: jax.Array


def dialogue_pairs(rows: Rows, *, causal: bool) -> Pairs:
    """Returns the pairs of the utterances of each row: all pairs within a dialogue, or those with an earlier key.

    Args:
      causal: an utterance may only attend to itself and to earlier ones.
    """
    mask, dialogue, speaker = rows
    allowed = mask[:, :, None] & mask[:, None, :] & (dialogue[:, :, None] == dialogue[:, None, :])
    if causal:
        allowed &= so_far(mask.shape[1])[None]
    return Pairs(mask=allowed, same_speaker=speaker[:, :, None] == speaker[:, None, :])


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017) with rotary positions and a relative speaker embedding.

    Queries and keys are rotated by their positions (RoFormer, Su et al. 2021, equation 16). The speaker embedding
    follows
    what Shaw et al. 2018, equation 4, does for positions: one of two learned vectors is added to a key, depending on
    whether the speaker of the key is that of the query.
    """

    options: LayerOptions

    @nn.compact
    def __call__(self, x: Float[Array, "B U D"], y: Float[Array, "B K D"], pairs: Pairs) -> Float[Array, "B U D"]:
        """Returns what each utterance of `x` gathers from the keys `y`.

        Args:
          y: one or more sequences of the row, one after another, so that K is a multiple of U.
          pairs: an utterance that may attend to nothing gathers zeros, before the last linear map.
        """
        (b, u, d), k, heads = x.shape, y.shape[1], self.options.heads
        size, linear = d // heads, functools.partial(dense, d, precision=self.options.precision)
        query = linear(name="query")(x).reshape(b, u, heads, size)
        key, value = (linear(name=name)(y).reshape(b, k, heads, size) for name in ("key", "value"))
        embedding = self.param("speaker", nn.initializers.normal(0.02), (2, heads, size))
        by_speaker = jnp.einsum("buhd,shd->bhus", query, embedding)
        by_speaker = jnp.where(pairs.same_speaker[:, None], by_speaker[..., :1], by_speaker[..., 1:])
        position = jnp.arange(u, dtype=x.dtype)
        query, key = _rotated(query, position), _rotated(key, jnp.tile(position, k // u))
        logits = (jnp.einsum("buhd,bkhd->bhuk", query, key) + by_speaker) * size**-0.5
        weights = masked_softmax(logits, pairs.mask[:, None], axis=-1)
        return linear(name="out")(jnp.einsum("bhuk,bkhd->buhd", weights, value).reshape(b, u, d))


class Block(nn.Module):
    """Attention block with normalisation before each half (Xiong et al. 2020).

    feed_forward: whether the block has its feed-forward half.
    """

    options: LayerOptions
    feed_forward: bool

    @nn.compact
    def __call__(
        self, x: Float[Array, "B U D"], y: Float[Array, "B K D"] | None, pairs: Pairs
    ) -> Float[Array, "B U D"]:
        """Lets `x` attend to `y`, or to itself where `y` is None."""
        o, d = self.options, x.shape[-1]
        query = nn.LayerNorm(name="norm")(x)
        keys = query if y is None else nn.LayerNorm(name="norm_keys")(y)
        x = x + dropout(self, Attention(options=o, name="attention")(query, keys, pairs), rate=o.dropout)
        if self.feed_forward:
            inner = nn.gelu(dense(4 * d, precision=o.precision, name="wide")(nn.LayerNorm(name="norm_wide")(x)))
            x = x + dropout(self, dense(d, precision=o.precision, name="narrow")(inner), rate=o.dropout)
        return x


class CoAttention(nn.Module):
    """Each modality attends to all other modalities over the dialogue.

    This is the co-attentional transformer layer of ViLBERT (Lu et al. 2019, section 3.1) for any number of modalities:
    queries come from the utterances of one modality, keys and values from the utterances that have another one.
    """

    options: EncoderOptions

    @nn.compact
    def __call__(
        self, x: Float[Array, "B U M D"], present: Bool[Array, "B U M"], rows: Rows
    ) -> Float[Array, "B U M D"]:
        pairs, m = dialogue_pairs(rows, causal=self.options.causal), x.shape[2]
        attended = []
        for i in range(m):
            others = [j for j in range(m) if j != i]
            to_others = Pairs(
                mask=jnp.concatenate([pairs.mask & present[:, None, :, j] for j in others], axis=2),
                same_speaker=jnp.tile(pairs.same_speaker, len(others)),
            )
            keys = jnp.concatenate([x[:, :, j] for j in others], axis=1)
            block = Block(options=self.options, feed_forward=False, name=f"block_{i}")
            attended.append(block(x[:, :, i], keys, to_others))
        return jnp.stack(attended, axis=2)


def _rotated(x: Float[Array, "B K H D"], position: Float[Array, " K"]) -> Float[Array, "B K H D"]:
    """Rotates the two halves of each head against each other, by angles that grow with the position."""
    half = x.shape[-1] // 2
    frequency = 10_000 ** (-jnp.arange(half, dtype=x.dtype) / half)
    angle = (position[:, None] * frequency[None])[None, :, None]
    a, b, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos, rest], axis=-1)
