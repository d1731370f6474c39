"""Fusion of the modalities of each utterance, before the encoder, after it, or of their logits.

`early` joins the modalities before one encoder; `gated` joins their encodings; `late` mixes the
logits that each modality's own branch gives; `hybrid` mixes those and the logits of an early branch.
"""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from jmer.base.masks import keep_mask, masked_softmax
from jmer.base.products import dense, product


class EarlyFusion(nn.Module):
    """Joins the modalities, absent ones as zeros, in one linear map: `[B, U, M, D] -> [B, U, D]`."""

    precision: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array, present: jax.Array) -> jax.Array:
        b, u, m, d = x.shape
        x = jnp.where(present[..., None], x, 0).reshape(b, u, m * d)
        return nn.relu(dense(d, precision=self.precision, name="join")(x))


class GatedFusion(nn.Module):
    """A gate for every feature and modality, a softmax over the modalities that are present.

    Generalises the gated multimodal unit (Arevalo et al. 2017, equations 1 to 4) to any subset of M modalities: a
    modality's candidate is tanh(W_m h_m), its gate comes from all modalities together, absent ones as zeros.
    """

    precision: str = "float32"

    @nn.compact
    def __call__(self, encoded: jax.Array, present: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns the fused `[B, U, D]` and the gates `[B, U, M]`, each modality's mean share over the features.

        Gates sum to 1; where no modality is present, they and the fused features are zero.
        """
        b, u, m, d = encoded.shape
        chex.assert_shape(present, (b, u, m))
        encoded = jnp.where(present[..., None], encoded, 0)
        w = self.param("w", nn.initializers.glorot_uniform(batch_axis=0), (m, d, d))
        candidates = jnp.tanh(product("mbud,mdf->mbuf", jnp.moveaxis(encoded, 2, 0), w, precision=self.precision))
        gate = dense(m * d, precision=self.precision, name="gate")
        logits = gate(encoded.reshape(b, u, m * d)).reshape(b, u, m, d)
        # Term by term: on a CPU, XLA's sum over so short an axis takes ten times as long.
        each = [jnp.where(present[:, :, i, None], logits[:, :, i], jnp.finfo(logits.dtype).min) for i in range(m)]
        top = jax.lax.stop_gradient(functools.reduce(jnp.maximum, each))
        weights = [jnp.where(present[:, :, i, None], jnp.exp(x - top), 0) for i, x in enumerate(each)]
        total = jnp.maximum(functools.reduce(jnp.add, weights), jnp.finfo(logits.dtype).tiny)
        gates = [w / total for w in weights]
        fused = functools.reduce(jnp.add, [gate * candidates[i] for i, gate in enumerate(gates)])
        return fused, jnp.stack([gate.mean(axis=-1) for gate in gates], axis=2)


class LateFusion(nn.Module):
    """Mixes what M branches say, with learned weights that are shared out among the present ones."""

    @nn.compact
    def __call__(self, present: jax.Array) -> jax.Array:
        """Returns the weights, as `present` `[B, U, M]`; they sum to 1, or are 0 where nothing is present."""
        weight = self.param("weight", nn.initializers.zeros_init(), present.shape[-1:])
        return masked_softmax(jnp.broadcast_to(weight, present.shape), present, axis=-1)


def drop_modality(key: jax.Array, present: jax.Array, *, rate: float) -> jax.Array:
    """Modality dropout in training: takes each modality of each utterance away with probability `rate`.

    Where that would take all that an utterance has, it keeps what it has (Neverova et al. 2016, "ModDrop", drops
    channels too, with which we differ there).

    Args:
      present: `[B, U, M]` bool.
    """
    kept = present & keep_mask(key, present.shape, rate=rate)
    return jnp.where(kept.any(axis=-1, keepdims=True), kept, present)
