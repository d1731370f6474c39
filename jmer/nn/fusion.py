"""Fusion of the modalities of each utterance.

`early` fusion joins the modalities before one encoder. `gated` fusion joins their encodings. `late` fusion mixes the
logits of a branch for each modality. `hybrid` fusion mixes those logits and the logits of an early branch.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from jmer.base.masks import keep_mask, masked_softmax
from jmer.base.options import Number
from jmer.base.products import dense, product
from jmer.nn.options import FusionOptions


class EarlyFusion(nn.Module):
    """Joins the modalities of an utterance, absent ones as zeros, in one linear map."""

    options: FusionOptions

    @nn.compact
    def __call__(self, x: Float[Array, "B U M D"], present: Bool[Array, "B U M"]) -> Float[Array, "B U D"]:
        b, u, m, d = x.shape
        joined = jnp.where(present[..., None], x, 0).reshape(b, u, m * d)
        return nn.relu(dense(d, precision=self.options.precision, name="join")(joined))


class GatedFusion(nn.Module):
    """Weighs the modalities by a gate for every feature, a softmax over the modalities that are present.

    This generalises the gated multimodal unit (Arevalo et al. 2017, equations 1 to 4) to any subset of M modalities:
    the candidate of modality m is tanh(W_m h_m), and its gate depends on all modalities together, absent ones as zeros.
    """

    options: FusionOptions

    @nn.compact
    def __call__(
        self, encoded: Float[Array, "B U M D"], present: Bool[Array, "B U M"]
    ) -> tuple[Float[Array, "B U D"], Float[Array, "B U M"]]:
        """Returns the fused features, and the gates: each modality's mean share over the features.

        The gates of an utterance sum to 1. Where no modality is present, the gates and the fused features are zero.
        """
        precision, (b, u, m, d) = self.options.precision, encoded.shape
        encoded = jnp.where(present[..., None], encoded, 0)
        w = self.param("w", nn.initializers.glorot_uniform(batch_axis=0), (m, d, d))
        candidates = jnp.tanh(product("mbud,mdf->mbuf", jnp.moveaxis(encoded, 2, 0), w, precision=precision))
        gate = dense(m * d, precision=precision, name="gate")
        logits = gate(encoded.reshape(b, u, m * d)).reshape(b, u, m, d)
        # The sums over modalities are written term by term, since XLA takes ten times as long on a CPU to sum over so
        # short an axis.
        each = [jnp.where(present[:, :, i, None], logits[:, :, i], jnp.finfo(logits.dtype).min) for i in range(m)]
        top = jax.lax.stop_gradient(functools.reduce(jnp.maximum, each))
        weights = [jnp.where(present[:, :, i, None], jnp.exp(x - top), 0) for i, x in enumerate(each)]
        total = jnp.maximum(functools.reduce(jnp.add, weights), jnp.finfo(logits.dtype).tiny)
        gates = [w / total for w in weights]
        fused = functools.reduce(jnp.add, [gate * candidates[i] for i, gate in enumerate(gates)])
        return fused, jnp.stack([gate.mean(axis=-1) for gate in gates], axis=2)


class LateFusion(nn.Module):
    """Weighs M branches by learned weights, which the present branches of an utterance share out among themselves."""

    @nn.compact
    def __call__(self, present: Bool[Array, "B U M"]) -> Float[Array, "B U M"]:
        """Returns the weights, which sum to 1; all are 0 where no branch is present."""
        weight = self.param("weight", nn.initializers.zeros_init(), present.shape[-1:])
        return masked_softmax(jnp.broadcast_to(weight, present.shape), present, axis=-1)


def drop_modality(key: Key[Array, ""], present: Bool[Array, "B U M"], *, rate: Number) -> Bool[Array, "B U M"]:
    """Returns which modalities training keeps, when it hides each one of each utterance with probability `rate`.

    If all modalities of an utterance would be hidden, none is. (Neverova et al. 2016, "ModDrop", also drops channels;
    jmer does not.)
    """
    kept = present & keep_mask(key, present.shape, rate=rate)
    return jnp.where(kept.any(axis=-1, keepdims=True), kept, present)
