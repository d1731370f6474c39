"""An encoder with heads on the vectors of the utterances."""

from collections.abc import Sequence
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
    linear: whether a linear term of the logits reads all hidden states up to that one.
    """

    classes: int
    sentiment: bool
    rate: float
    layer: int
    linear: bool

    @property
    def layers(self) -> tuple[int, ...]:
        """The hidden states that are read; the last is the one of the head."""
        return tuple(range(self.layer + 1)) if self.linear else (self.layer,)

    def scores(self, means: Sequence[Float[Array, "B U D"]]) -> Scores:
        """Returns the scores, given the means of the hidden states `layers`; the calling method is compact."""
        vectors = means[-1]
        mean = self.variable("stats", "mean", jnp.zeros, vectors.shape[-1:])
        scale = self.variable("stats", "scale", jnp.ones, vectors.shape[-1:])
        x = dropout(self, (vectors - mean.value[None, None]) * scale.value[None, None], rate=self.rate)
        logits = nn.Dense(self.classes, name="head")(x)
        if self.linear:
            joined = dropout(self, jnp.concatenate(means, axis=-1), rate=self.rate)
            zeros = nn.initializers.zeros
            logits += nn.Dense(self.classes, use_bias=False, kernel_init=zeros, name="linear_head")(joined)
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
        states = self.encoder(batch.ids, batch.position, kind, sees, self.layers)
        own = jax.nn.one_hot(batch.slot, batch.utterance.shape[1], dtype=states[0].dtype)  # zeros for a token of none
        count = jnp.maximum(own.sum(axis=1), 1)[..., None]
        return self.scores([jnp.einsum("btu,btd->bud", own, x) / count for x in states])


class SpeechClassifier(Heads, kw_only=True):
    """Sounds, one utterance each -> its scores, pooled over all frames."""

    encoder: Whisper | Wav2Vec2

    @nn.compact
    def __call__(self, batch: SoundBatch) -> Scores:
        """Runs the encoder and its heads; in training, the random key `dropout` is given."""
        states, mask = self.encoder(batch.sound, batch.length, self.layers)
        valid = mask[..., None].astype(states[0].dtype)
        return self.scores([((x * valid).sum(axis=1) / valid.sum(axis=1))[:, None] for x in states])
