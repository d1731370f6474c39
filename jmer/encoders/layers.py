"""Blocks that several encoders share. Submodules carry the names that PyTorch checkpoints give them."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

# Flax's own default computes the variance as E[x^2] - E[x]^2, which loses digits.
LayerNorm = functools.partial(nn.LayerNorm, use_fast_variance=False)


def frame_mask(x: Float[Array, "B T D"], length: Int[Array, " B"]) -> Bool[Array, "B T"]:
    """Marks the first `length` frames of each row. At least one frame of a row is valid, so that means are finite."""
    return jnp.arange(x.shape[1])[None] < jnp.maximum(length, 1)[:, None]


class Attention(nn.Module, kw_only=True):
    """Multi-head self-attention over the frames of a sound (Vaswani et al. 2017).

    heads: number of heads.
    key_bias: whether the projection of the keys has a bias; Whisper's has none.
    gated: each frame scales `bias` by a gate that it computes itself (WavLM, Chen et al. 2022, section 3.1).
    """

    heads: int
    key_bias: bool = True
    gated: bool = False

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T D"],
        *,
        mask: Bool[Array, "B T"],
        bias: Float[Array, "H T T"] | None = None,
    ) -> Float[Array, "B T D"]:
        """Attends from every frame to the valid ones.

        bias: added to the attention logits when `gated`, and unused otherwise.
        """
        size = x.shape[-1] // self.heads

        def project(name: str, *, use_bias: bool = True) -> jax.Array:
            return nn.Dense(x.shape[-1], use_bias=use_bias, name=name)(x).reshape(*x.shape[:2], self.heads, size)

        query, key, value = project("q_proj"), project("k_proj", use_bias=self.key_bias), project("v_proj")
        added = jnp.where(mask, 0.0, -jnp.inf)[:, None, None, :]
        if self.gated:
            assert bias is not None
            gate = nn.Dense(8, name="gru_rel_pos_linear")(x.reshape(*x.shape[:2], self.heads, size))
            gate = jax.nn.sigmoid(gate.reshape(*gate.shape[:-1], 2, 4).sum(axis=-1))  # [B, T, H, 2]
            constant = self.param("gru_rel_pos_const", nn.initializers.ones, (1, self.heads, 1, 1))
            share = gate[..., 0] * (gate[..., 1] * constant[:, :, 0, 0][:, None] - 1) + 2
            added = added + jnp.einsum("bqh,hqk->bhqk", share, bias)
        logits = jnp.einsum("bqhd,bkhd->bhqk", query * size**-0.5, key) + added
        out = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(logits), value)
        return nn.Dense(x.shape[-1], name="out_proj")(out.reshape(x.shape))
