"""Losses over the labelled utterances of a batch: pure functions that return a scalar, 0 where no utterance counts."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from jmer.base.options import Number, is_on
from jmer.base.types import UNLABELLED


def classification_loss(
    logits: Float[Array, "*shape C"],
    labels: Int[Array, "*shape"],
    *,
    class_weights: Sequence[float] | None = None,
    focal_gamma: Number = 0.0,
    label_smoothing: Number = 0.0,
    log_prior: Sequence[float] | ArrayLike | None = None,
) -> Float[Array, ""]:
    """Returns the mean cross-entropy: class-weighted, focal, smoothed or logit-adjusted, or all at once.

    loss_i = - sum_c q_c w_c (1 - p_c)^gamma log p_c, p = softmax(logits + log_prior), q = (1 - s) onehot(y) + s / C.
    Focal loss: Lin et al. 2017, equation 5, with the class weights as its alpha. Smoothing: Szegedy et al. 2016,
    section 7. Logit adjustment: Menon et al. 2021, equation 10; predictions then use the bare logits.

    Args:
      labels: `UNLABELLED` in the padding and where not known.
      class_weights: w, C numbers. The mean divides by the number of utterances, not by the sum of their weights as
        PyTorch does, so that a batch of rare classes keeps its weight.
      log_prior: C numbers, tau * log of each class's share in the train split.
    """
    classes, dtype = logits.shape[-1], logits.dtype
    valid = labels != UNLABELLED
    if log_prior is not None:
        logits = logits + _row(log_prior, logits)
    log_p = jax.nn.log_softmax(logits)
    each = -log_p
    if is_on(focal_gamma):
        # The floor keeps the gradient finite where p rounds to 1 and gamma is below 1.
        each = each * jnp.maximum(-jnp.expm1(log_p), 1e-7) ** focal_gamma
    if class_weights is not None:
        each = each * _row(class_weights, logits)
    target = jax.nn.one_hot(labels, classes, dtype=dtype)
    smoothing = jnp.asarray(label_smoothing, dtype)
    target = (1 - smoothing) * target + smoothing / classes
    each = (target * each).sum(axis=-1)
    return jnp.where(valid, each, 0).sum() / jnp.maximum(valid.sum(dtype=dtype), 1)


def contrastive_loss(
    embedding: Float[Array, "*shape D"],
    labels: Int[Array, "*shape"],
    *,
    temperature: Number,
    prototypes: Float[Array, "C D"] | None = None,
) -> Float[Array, ""]:
    """Returns the supervised contrastive loss; Khosla et al. 2020, equation 2 (L_out).

    Utterance i is drawn to each other utterance p of its class: - log exp(z_i z_p / t) / sum_a exp(z_i z_a / t). The
    loss is the mean over p, and then over the utterances that have such a p. Prototypes, one for each class and learned
    with the model, add one member to each class of every batch, so that the only utterance of a rare class has a p too
    (Song et al. 2022, section 3.2; jmer takes their prototypes but not their queue).

    Args:
      embedding, prototypes: of length 1.
      labels: `UNLABELLED` in the padding and where not known.
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


def consistency_loss(
    logits: Float[Array, "K *shape C"], mask: Bool[Array, "*shape"], *, temperature: Number, confidence: Number
) -> Float[Array, ""]:
    """Draws the predictions of K passes to their sharpened mean; GRAND+, Feng et al. 2022, equations 7 and 8.

    The loss is the mean over utterances and passes of |p' - p_k|^2, where p' ~ mean_k(p_k)^(1/T) is held constant. An
    utterance counts if the largest entry of the mean reaches `confidence`. Labels do not matter, so that unlabelled
    utterances count too.
    """
    p = jax.nn.softmax(logits)
    mean = p.mean(axis=0)
    sharp = jax.lax.stop_gradient(jax.nn.softmax(jnp.log(jnp.maximum(mean, 1e-12)) / temperature))
    counts = mask & (jax.lax.stop_gradient(mean).max(axis=-1) >= confidence)
    each = optax.squared_error(p, jnp.broadcast_to(sharp, p.shape)).sum(axis=-1).mean(axis=0)
    return jnp.where(counts, each, 0).sum() / jnp.maximum(mask.sum(dtype=p.dtype), 1)


def _row(values: Sequence[float] | ArrayLike, like: jax.Array) -> jax.Array:
    """Returns C numbers as an array of the shape `[..., C]` of `like`."""
    return jnp.broadcast_to(jnp.asarray(values, like.dtype), like.shape)
