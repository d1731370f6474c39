"""What training minimises: the classification loss and the auxiliary losses that a config asks for."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jmer.base.types import UNLABELLED, Batch
from jmer.nn.model import Output
from jmer.training.losses import classification_loss, consistency_loss, contrastive_loss


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A weighted sum of losses; each is explained in `jmer.training.losses`.

    class_weights, focal_gamma, label_smoothing, log_prior: of the classification loss.
    sentiment_weight: of the sentiment task's cross-entropy.
    specialist_weight: of the specialist's cross-entropy, class-weighted, over the `specialist` classes and all others.
    contrastive_weight, contrastive_temperature: of the contrastive loss, with the model's prototypes where it has some.
    augmentations: K forward passes of a batch, each with its own dropout and drop masks; the classification loss is
      their mean. Above 1, the consistency loss of GRAND+ with the other `consistency_` fields is added.
    """

    class_weights: tuple[float, ...] | None = None
    focal_gamma: float = 0.0
    label_smoothing: float = 0.0
    log_prior: tuple[float, ...] | None = None
    sentiment_weight: float = 0.0
    specialist: tuple[int, ...] = ()
    specialist_weight: float = 0.0
    specialist_class_weights: tuple[float, ...] | None = None
    contrastive_weight: float = 0.0
    contrastive_temperature: float = 0.1
    augmentations: int = 1
    consistency_weight: float = 0.0
    consistency_temperature: float = 0.5
    consistency_confidence: float = 0.0

    def __call__(self, outputs: Output, batch: Batch) -> jax.Array:
        """Returns the scalar loss; the leaves of `outputs` have a leading axis of K augmentations."""
        loss = jax.vmap(lambda output: self._supervised(output, batch))(outputs).mean()
        if self.augmentations > 1:
            loss += self.consistency_weight * consistency_loss(
                outputs.logits,
                batch.mask,
                temperature=self.consistency_temperature,
                confidence=self.consistency_confidence,
            )
        return loss

    def _supervised(self, output: Output, batch: Batch) -> jax.Array:
        loss = classification_loss(
            output.logits,
            batch.label,
            class_weights=self.class_weights,
            focal_gamma=self.focal_gamma,
            label_smoothing=self.label_smoothing,
            log_prior=self.log_prior,
        )
        if output.sentiment is not None:
            loss += self.sentiment_weight * classification_loss(output.sentiment, batch.sentiment)
        if output.specialist is not None:
            loss += self.specialist_weight * classification_loss(
                output.specialist,
                specialist_labels(batch.label, self.specialist),
                class_weights=self.specialist_class_weights,
            )
        if output.embedding is not None:
            loss += self.contrastive_weight * contrastive_loss(
                output.embedding,
                batch.label,
                temperature=self.contrastive_temperature,
                prototypes=output.prototypes,
            )
        return loss


def specialist_labels(labels: jax.Array, classes: tuple[int, ...]) -> jax.Array:
    """Numbers the specialist's K classes 0 to K - 1 and all others K; what is unlabelled stays so."""
    among = labels[..., None] == jnp.array(classes, labels.dtype).reshape((1,) * labels.ndim + (-1,))
    numbers = jnp.where(among.any(axis=-1), among.argmax(axis=-1).astype(labels.dtype), len(classes))
    return jnp.where(labels == UNLABELLED, UNLABELLED, numbers)
