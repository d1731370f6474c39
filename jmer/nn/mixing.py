"""Augmentation of features inside the compiled training step: mixup and noise."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from jmer.base.options import Number


def mixup(
    key: Key[Array, ""],
    x: Float[Array, "B U D"],
    present: Bool[Array, "B U"],
    label: Int[Array, "B U"],
    *,
    alpha: Number,
) -> Float[Array, "B U D"]:
    """Mixes the features of each utterance with those of another utterance of the same label.

    x_i becomes l x_i + (1 - l) x_j with l ~ Beta(alpha, alpha) (Zhang et al. 2018, "mixup") and l at least 1/2.
    Partners are drawn within one modality and one class, so that the label stays true and each modality is mixed on its
    own, also in rare classes. An utterance without a label or a partner keeps its features.

    Args:
      present: whether the utterance has the modality.
      label: `UNLABELLED` where not known.
    """
    b, u, d = x.shape
    flat, labels = x.reshape(b * u, d), jnp.where(present, label, -1).reshape(b * u)
    pick, share = jax.random.split(key)
    fits = (labels[:, None] == labels[None]) & (labels >= 0)[:, None] & ~jnp.eye(b * u, dtype=jnp.bool_)
    # Each utterance draws a number and takes the partner of that rank, so that more padding changes no draw.
    chosen = jnp.floor(jax.random.uniform(pick, labels.shape) * fits.sum(axis=1, dtype=jnp.float32))
    partner = (jnp.cumsum(fits, axis=1, dtype=jnp.float32) > chosen[:, None]).argmax(axis=1)
    weight = jax.random.beta(share, alpha, alpha, labels.shape, x.dtype)
    weight = jnp.maximum(weight, 1 - weight)[:, None]
    mixed = weight * flat + (1 - weight) * flat[partner]
    return jnp.where(fits.any(axis=1)[:, None], mixed, flat).reshape(b, u, d)


def noise(key: Key[Array, ""], x: Float[Array, "*shape"], *, scale: Number) -> Float[Array, "*shape"]:
    """Adds Gaussian noise of standard deviation `scale`; features are standardised before."""
    return x + scale * jax.random.normal(key, x.shape, x.dtype)
