"""An encoder of text with heads on the pooled vectors of the utterances."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jmer.base.masks import dropout
from jmer.encoders.bert import Bert
from jmer.encoders.layers import Sees
from jmer.tuning.rows import TokenBatch

ENCODER = "encoder"  # the name of the submodule, under which the published weights lie


class Scores(NamedTuple):
    """logits: `[B, U, C]`. sentiment: `[B, U, 3]` logits; None without that head. vectors: `[B, U, D]`, as pooled."""

    logits: Float[Array, "B U C"]
    sentiment: Float[Array, "B U 3"] | None
    vectors: Float[Array, "B U D"]


class Classifier(nn.Module, kw_only=True):
    """Token rows -> the logits of each utterance.

    encoder: the network.
    classes: C.
    sentiment: whether there is a second head, for the sentiment.
    rate: of the dropout before the heads.
    reach, causal: as in `Sees`.
    """

    encoder: Bert
    classes: int
    sentiment: bool
    rate: float
    reach: int | None
    causal: bool

    @nn.compact
    def __call__(self, batch: TokenBatch) -> Scores:
        """Runs the encoder and its heads; in training, the random key `dropout` is given."""
        sees = Sees(segment=batch.segment, turn=batch.turn, reach=self.reach, causal=self.causal)
        kind = jnp.zeros_like(batch.ids)
        last = self.encoder.config.num_hidden_layers
        (states,) = self.encoder(batch.ids, batch.position, kind, sees, (last,))
        own = jax.nn.one_hot(batch.slot, batch.utterance.shape[1], dtype=states.dtype)  # zeros for a token of none
        vectors = jnp.einsum("btu,btd->bud", own, states) / jnp.maximum(own.sum(axis=1), 1)[..., None]
        x = dropout(self, vectors, rate=self.rate)
        logits = nn.Dense(self.classes, name="head")(x)
        sentiment = nn.Dense(3, name="sentiment_head")(x) if self.sentiment else None
        return Scores(logits=logits, sentiment=sentiment, vectors=vectors)
