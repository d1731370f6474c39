"""The objective: the classification loss and the auxiliary losses that the options ask for."""

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jmer.base.options import is_on
from jmer.base.types import UNLABELLED, Batch
from jmer.nn.model import Output
from jmer.training.losses import classification_loss, consistency_loss, contrastive_loss
from jmer.training.options import ObjectiveOptions
from jmer.training.sampling import class_weights, loss_weights


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A weighted sum of losses; `jmer.training.losses` explains each.

    options: which losses, and how they are weighted.
    counts: how many utterances of each of the C classes the train split has.
    specialist: the K classes of the specialist, as in `Model.specialist_classes`.
    """

    options: ObjectiveOptions
    counts: tuple[int, ...]
    specialist: tuple[int, ...] = ()

    @functools.cached_property
    def class_weights(self) -> tuple[float, ...] | None:
        """The weight of each class; None where classes are not weighted."""
        return loss_weights(np.array(self.counts), scheme=self.options.class_weights)

    @functools.cached_property
    def log_prior(self) -> Any:
        """Tau times the log of each class's share in the train split, `[C]`; None without logit adjustment."""
        if not is_on(self.options.logit_adjustment):
            return None
        # A class that does not occur counts as half an utterance, so that its prior is small but finite.
        share = np.maximum(self.counts, 0.5) / sum(self.counts)
        return self.options.logit_adjustment * np.log(share)

    @functools.cached_property
    def specialist_weights(self) -> tuple[float, ...]:
        """The weight of each class of the specialist, by the root of its count, and of all other classes."""
        rare = [self.counts[c] for c in self.specialist]
        return tuple(class_weights(np.array([*rare, sum(self.counts) - sum(rare)]), scheme="sqrt").tolist())

    def __call__(self, outputs: Output, batch: Batch) -> Float[Array, ""]:
        """Returns the loss of a batch.

        With more than one pass, the classification loss is the mean over the passes, and the consistency loss of GRAND+
        is added.

        Args:
          outputs: the leaves have a leading axis of K passes, each with its own random masks.
        """
        o = self.options.consistency
        loss = jax.vmap(lambda output: self._supervised(output, batch))(outputs).mean()
        if o.passes > 1:
            loss += o.weight * consistency_loss(
                outputs.logits, batch.mask, temperature=o.temperature, confidence=o.confidence
            )
        return loss

    def _supervised(self, output: Output, batch: Batch) -> Float[Array, ""]:
        o = self.options
        classified = functools.partial(
            classification_loss,
            class_weights=self.class_weights,
            focal_gamma=o.focal_gamma,
            label_smoothing=o.label_smoothing,
            log_prior=self.log_prior,
        )
        loss = classified(output.logits, batch.label)
        if output.sentiment is not None:
            loss += o.sentiment * classification_loss(output.sentiment, batch.sentiment)
        if output.branches is not None and output.branch_mask is not None:
            for i in range(output.branches.shape[2]):
                labels = jnp.where(output.branch_mask[:, :, i], batch.label, UNLABELLED)
                loss += o.branch_loss * classified(output.branches[:, :, i], labels)
        if output.specialist is not None:
            labels = specialist_labels(batch.label, self.specialist)
            loss += o.specialist_weight * classification_loss(
                output.specialist, labels, class_weights=self.specialist_weights
            )
        if output.embedding is not None:
            loss += o.contrastive.weight * contrastive_loss(
                output.embedding, batch.label, temperature=o.contrastive.temperature, prototypes=output.prototypes
            )
        return loss


def specialist_labels(labels: Int[Array, "*shape"], classes: tuple[int, ...]) -> Int[Array, "*shape"]:
    """Numbers the specialist's K classes 0 to K - 1 and all other classes K; an unlabelled utterance stays so."""
    among = labels[..., None] == jnp.array(classes, labels.dtype).reshape((1,) * labels.ndim + (-1,))
    numbers = jnp.where(among.any(axis=-1), among.argmax(axis=-1).astype(labels.dtype), len(classes))
    return jnp.where(labels == UNLABELLED, UNLABELLED, numbers)
