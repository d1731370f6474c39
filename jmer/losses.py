"""Losses over the labelled utterances of a batch: pure functions to a scalar."""

import jax
import jax.numpy as jnp
import optax

from jmer.types import UNLABELLED


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean cross-entropy over the utterances that have a label; 0 where none has.

    Args:
      logits: `[B, U, C]`.
      labels: `[B, U]` int32, `UNLABELLED` in padding and where not known.
    """
    valid = labels != UNLABELLED
    each = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(valid, labels, 0))
    return jnp.where(valid, each, 0).sum() / jnp.maximum(valid.sum(dtype=logits.dtype), 1)
