"""Augmentation of features inside the compiled training step."""

import jax
import jax.numpy as jnp


def mixup(key: jax.Array, x: jax.Array, present: jax.Array, label: jax.Array, *, alpha: float) -> jax.Array:
    """Mixes the features of each utterance with those of another of the same label: `[B, U, D] -> [B, U, D]`.

    x_i becomes l x_i + (1 - l) x_j with l ~ Beta(alpha, alpha) (Zhang et al. 2018, "mixup"), l at least 1/2. Partners
    are drawn within one modality and one class, so that the label stays what it is and every modality is mixed on its
    own, also of the rare classes. Without a partner or a label, x_i stays.

    Args:
      present: `[B, U]` bool.
      label: `[B, U]` int32.
    """
    b, u, d = x.shape
    flat, labels = x.reshape(b * u, d), jnp.where(present, label, -1).reshape(b * u)
    pick, share = jax.random.split(key)
    fits = (labels[:, None] == labels[None]) & (labels >= 0)[:, None]
    # The n-th that fits; a draw an utterance, so that more padding changes none.
    chosen = jnp.floor(jax.random.uniform(pick, labels.shape) * fits.sum(axis=1, dtype=jnp.float32))
    partner = (jnp.cumsum(fits, axis=1, dtype=jnp.float32) > chosen[:, None]).argmax(axis=1)
    weight = jax.random.beta(share, alpha, alpha, labels.shape, x.dtype)
    weight = jnp.maximum(weight, 1 - weight)[:, None]
    mixed = weight * flat + (1 - weight) * flat[partner]
    return jnp.where((labels >= 0)[:, None], mixed, flat).reshape(b, u, d)


def noise(key: jax.Array, x: jax.Array, *, scale: float) -> jax.Array:
    """Adds Gaussian noise of that standard deviation; on standardised features it is a share of their own."""
    return x + scale * jax.random.normal(key, x.shape, x.dtype)
