"""An encoder with heads on the vectors of the utterances."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jmer.base.labels import SENTIMENTS
from jmer.base.masks import dropout
from jmer.encoders.bert import Bert
from jmer.encoders.layers import Sees
from jmer.encoders.wav2vec2 import Wav2Vec2
from jmer.encoders.whisper import Whisper
from jmer.tuning.rows import TokenBatch
from jmer.tuning.sounds import SoundBatch

ENCODER = "encoder"  # the name of the submodule, under which the published weights lie


class Scores(NamedTuple):
    """logits: `[B, U, C]`. sentiment: `[B, U, 3]` logits; None without that head. vectors: `[B, U, D]`, as pooled."""

    logits: Float[Array, "B U C"]
    sentiment: Float[Array, "B U 3"] | None
    vectors: Float[Array, "B U D"]


class Heads(nn.Module, kw_only=True):
    """The heads, on standardised vectors.

    classes: C.
    sentiment: whether there is a second head, for the sentiment.
    rate: of the dropout before the heads.
    layer: the hidden state that is pooled.
    """

    classes: int
    sentiment: bool
    rate: float
    layer: int

    def scores(self, vectors: Float[Array, "B U D"]) -> Scores:
        """Returns the scores of pooled vectors; the calling method is compact."""
        mean = self.variable("stats", "mean", jnp.zeros, vectors.shape[-1:])
        scale = self.variable("stats", "scale", jnp.ones, vectors.shape[-1:])
        x = dropout(self, (vectors - mean.value[None, None]) * scale.value[None, None], rate=self.rate)
        logits = nn.Dense(self.classes, name="head")(x)
        sentiment = nn.Dense(len(SENTIMENTS), name="sentiment_head")(x) if self.sentiment else None
        return Scores(logits=logits, sentiment=sentiment, vectors=vectors)


class TextClassifier(Heads, kw_only=True):
    """Token rows -> the scores of each utterance, pooled over its own tokens.

    encoder: the network.
    reach, causal: as in `Sees`.
    """

    encoder: Bert
    reach: int | None
    causal: bool

    @nn.compact
    def __call__(self, batch: TokenBatch) -> Scores:
        """Runs the encoder and its heads; in training, the random key `dropout` is given."""
        sees = Sees(segment=batch.segment, turn=batch.turn, reach=self.reach, causal=self.causal)
        kind = jnp.zeros_like(batch.ids)
        (states,) = self.encoder(batch.ids, batch.position, kind, sees, (self.layer,))
        own = jax.nn.one_hot(batch.slot, batch.utterance.shape[1], dtype=states.dtype)  # zeros for a token of none
        vectors = jnp.einsum("btu,btd->bud", own, states) / jnp.maximum(own.sum(axis=1), 1)[..., None]
        return self.scores(vectors)


class SpeechClassifier(Heads, kw_only=True):
    """Sounds, one utterance each -> its scores, pooled over all frames."""

    encoder: Whisper | Wav2Vec2

    @nn.compact
    def __call__(self, batch: SoundBatch) -> Scores:
        """Runs the encoder and its heads; in training, the random key `dropout` is given."""
        (states,), mask = self.encoder(batch.sound, batch.length, (self.layer,))
        valid = mask[..., None].astype(states.dtype)
        return self.scores(((states * valid).sum(axis=1) / valid.sum(axis=1))[:, None])
