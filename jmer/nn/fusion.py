"""Fusion of the modalities of each utterance: `[B, U, M, D], present [B, U, M] -> [B, U, D]`."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp


class GatedFusion(nn.Module):
    """A gate for every feature and modality, a softmax over the modalities that are present.

    Generalises the gated multimodal unit (Arevalo et al. 2017, equations 1 to 4) to any subset of M modalities: a
    modality's candidate is tanh(W_m h_m), its gate comes from all modalities together, absent ones as zeros.
    """

    features: int

    @nn.compact
    def __call__(self, encoded: jax.Array, present: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns the fused `[B, U, D]` and the gates `[B, U, M]`, each modality's mean share over the features.

        Gates sum to 1; where no modality is present, they and the fused features are zero.
        """
        b, u, m, d = encoded.shape
        chex.assert_shape(present, (b, u, m))
        encoded = jnp.where(present[..., None], encoded, 0)
        w = self.param("w", nn.initializers.glorot_uniform(batch_axis=0), (m, d, self.features))
        candidates = jnp.tanh(jnp.einsum("bumd,mdf->bumf", encoded, w))
        logits = nn.Dense(m * self.features, name="gate")(encoded.reshape(b, u, m * d))
        logits = logits.reshape(b, u, m, self.features)
        gates = nn.softmax(jnp.where(present[..., None], logits, jnp.finfo(logits.dtype).min), axis=2)
        gates = jnp.where(present[..., None], gates, 0)
        return (gates * candidates).sum(axis=2), gates.mean(axis=-1)
