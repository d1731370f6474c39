"""Losses over the labelled utterances of a batch: pure functions to a scalar, 0 where no utterance counts."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jmer.base.types import UNLABELLED


def classification_loss(
    logits: jax.Array,
    labels: jax.Array,
    *,
    class_weights: Sequence[float] | None = None,
    focal_gamma: float = 0.0,
    label_smoothing: float = 0.0,
    log_prior: Sequence[float] | None = None,
) -> jax.Array:
    """Cross-entropy, class-weighted, focal, smoothed or logit-adjusted, or all at once; the mean over utterances.

    loss_i = - sum_c q_c w_c (1 - p_c)^gamma log p_c, p = softmax(logits + log_prior), q = (1 - s) onehot(y) + s / C.
    Focal loss: Lin et al. 2017, equation 5, with the class weights as its alpha. Smoothing: Szegedy et al. 2016,
    section 7. Logit adjustment: Menon et al. 2021, equation 10; predictions then use the bare logits.

    Args:
      logits: `[..., C]`.
      labels: `[...]` int32, `UNLABELLED` in padding and where not known.
      class_weights: w, C numbers. The mean divides by the number of utterances, not by the sum of their weights as
        PyTorch does, so that a small batch of rare classes counts for what it is.
      log_prior: C numbers, tau * log of each class's share in train; 0 for no adjustment.
    """
    classes, dtype = logits.shape[-1], logits.dtype
    valid = labels != UNLABELLED
    if log_prior is not None:
        logits = logits + _row(log_prior, logits)
    log_p = jax.nn.log_softmax(logits)
    each = -log_p
    if focal_gamma:
        # The floor keeps the gradient finite where p rounds to 1 and gamma is below 1.
        each = each * jnp.maximum(-jnp.expm1(log_p), 1e-7) ** focal_gamma
    if class_weights is not None:
        each = each * _row(class_weights, logits)
    target = jax.nn.one_hot(labels, classes, dtype=dtype)
    target = (1 - label_smoothing) * target + label_smoothing / classes
    each = (target * each).sum(axis=-1)
    return jnp.where(valid, each, 0).sum() / jnp.maximum(valid.sum(dtype=dtype), 1)


def contrastive_loss(
    embedding: jax.Array, labels: jax.Array, *, temperature: float, prototypes: jax.Array | None = None
) -> jax.Array:
    """Supervised contrastive loss; Khosla et al. 2020, equation 2 (L_out).

    For each labelled utterance, over the others of its class: - log exp(z_i z_p / t) / sum_a exp(z_i z_a / t), the mean
    over p, then over the utterances that have such a p. With prototypes, one a class and learned with the model, each
    class has one more member in every batch, so that the only utterance of a rare class has something to be near to
    (Song et al. 2022, section 3.2, from whom we take the prototypes but not their queue).

    Args:
      embedding: `[..., D]` of length 1.
      labels: `[...]` int32.
      prototypes: `[C, D]` of length 1.
    """
    z, y = embedding.reshape(-1, embedding.shape[-1]), labels.reshape(-1)
    keys, key_labels = z, y
    if prototypes is not None:
        keys = jnp.concatenate([z, prototypes])
        key_labels = jnp.concatenate([y, jnp.arange(len(prototypes), dtype=y.dtype)])
    known = key_labels != UNLABELLED
    itself = jnp.eye(len(z), len(keys), dtype=jnp.bool_)
    others = known[None] & ~itself
    logits = jnp.where(others, z @ keys.T / temperature, jnp.finfo(z.dtype).min)
    log_p = jax.nn.log_softmax(logits, axis=1)
    positive = others & (y[:, None] == key_labels[None])
    count = positive.sum(axis=1, dtype=z.dtype)
    each = -jnp.where(positive, log_p, 0).sum(axis=1) / jnp.maximum(count, 1)
    anchors = (y != UNLABELLED) & (count > 0)
    return jnp.where(anchors, each, 0).sum() / jnp.maximum(anchors.sum(dtype=z.dtype), 1)


def consistency_loss(logits: jax.Array, mask: jax.Array, *, temperature: float, confidence: float) -> jax.Array:
    """Draws K augmented predictions of an utterance to their sharpened mean; GRAND+, Feng et al. 2022, equations 7, 8.

    The mean over utterances and augmentations of |p' - p_k|^2, p' ~ mean_k(p_k)^(1/T) held constant, over those where
    the mean's largest entry reaches `confidence`. Labels are not looked at: unlabelled utterances count too.

    Args:
      logits: `[K, ..., C]`.
      mask: `[...]` bool, the utterances that are not padding.
    """
    p = jax.nn.softmax(logits)
    mean = p.mean(axis=0)
    sharp = jax.lax.stop_gradient(jax.nn.softmax(jnp.log(jnp.maximum(mean, 1e-12)) / temperature))
    counts = mask & (jax.lax.stop_gradient(mean).max(axis=-1) >= confidence)
    each = optax.squared_error(p, jnp.broadcast_to(sharp, p.shape)).sum(axis=-1).mean(axis=0)
    return jnp.where(counts, each, 0).sum() / jnp.maximum(mask.sum(dtype=p.dtype), 1)


def _row(values: Sequence[float], like: jax.Array) -> jax.Array:
    """C numbers as an array that multiplies `[..., C]`."""
    return jnp.broadcast_to(np.asarray(values, like.dtype), like.shape)
