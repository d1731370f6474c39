"""Text features: those that need no learned weights, and any BERT-type encoder of Hugging Face's."""

import functools
import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jmer.errors import UserError
from jmer.features.extractor import Encoded, Extractor, Prepared
from jmer.features.pooling import PooledLayers, shortened
from jmer.types import Turn

WORD_BINS, CHAR_BINS = 512, 512
_VADER = ("neg", "neu", "pos", "compound")
# Counted once a text: shouting, hesitation and stretched letters carry emotion that hashed n-grams blur.
_MARKS = (r"!", r"\?", r"\.\.\.|…", r",", r"[-–—]", r"\b[A-Z]{2,}\b", r"([a-zA-Z])\1\1", r"\w+")


@dataclass(frozen=True)
class LiteText(Extractor):
    """VADER's sentiment, punctuation counts, and hashed n-grams of words (1-2) and of characters within words (2-4)."""

    modality = "text"
    kind = "lite"
    version = 1
    lookahead = 256

    @property
    def dim(self) -> int:
        return len(_VADER) + len(_MARKS) + WORD_BINS + CHAR_BINS

    def prepare(self, raw: Sequence[Turn]) -> Prepared:
        return Prepared(payload=raw[-1].text)

    def batch(self, group: Hashable) -> int:
        return self.lookahead

    def encode(self, payloads: Sequence[str], *, exact: bool = False) -> list[Encoded]:
        vectors = self._describe(payloads)
        if not self.sequence_frames:
            return [Encoded(vector) for vector in vectors]
        words = [text.split() or [text] for text in payloads]
        frames = self._describe([word for each in words for word in each])
        each = np.split(frames, np.cumsum([len(w) for w in words])[:-1])
        return [Encoded(v, shortened(f, self.sequence_frames)) for v, f in zip(vectors, each, strict=True)]

    def _describe(self, texts: Sequence[str]) -> np.ndarray:
        counts = np.log1p([[len(re.findall(mark, text)) for mark in _MARKS] for text in texts])
        hashed = [hasher.transform(texts).toarray() for hasher in _hashers()]
        return np.concatenate([_sentiments(texts), counts, *hashed], axis=1).astype(np.float32)


def _sentiments(texts: Sequence[str]) -> np.ndarray:
    scores = [_analyzer().polarity_scores(text) for text in texts]
    return np.array([[score[key] for key in _VADER] for score in scores], np.float32)


@functools.cache
def _analyzer() -> Any:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()


@functools.cache
def _hashers() -> tuple[Any, ...]:
    from sklearn.feature_extraction.text import HashingVectorizer

    return (
        HashingVectorizer(n_features=WORD_BINS, ngram_range=(1, 2), token_pattern=r"(?u)\b\w[\w']*|[!?]"),
        HashingVectorizer(n_features=CHAR_BINS, analyzer="char_wb", ngram_range=(2, 4)),
    )


@dataclass(frozen=True)
class Vader(LiteText):
    """VADER's sentiment alone (Hutto & Gilbert 2014)."""

    kind = "vader"

    @property
    def dim(self) -> int:
        return len(_VADER)

    def _describe(self, texts: Sequence[str]) -> np.ndarray:
        return _sentiments(texts)


@dataclass(frozen=True)
class HFText(PooledLayers):
    """A BERT-type encoder's hidden states, pooled over the tokens.

    model: a directory in Hugging Face's layout, or an id on their hub.
    pooling: `mean`, `std` or `cls` (the first token), or several, comma-separated. Over all tokens, or with a context
      over the utterance's own.
    layers: whose hidden states; of several, comma-separated, the mean. 0 is before the first, -1 the last.
    max_tokens: longer texts are cut, and said to be.
    context: how many earlier turns the encoder reads before the utterance, as many of their last tokens as fit.
    speakers: with a context, every turn begins with its speaker's name (Kim & Vossen 2021, EmoBERTa).
    """

    model: str
    pooling: str = "mean"
    layers: str = "-1"
    max_tokens: int = 128
    context: int = 0
    speakers: bool = True

    modality = "text"
    kind = "hf"
    version = 3
    lookahead = 2048
    known = ("mean", "std", "cls")

    def __post_init__(self):
        super().__post_init__()
        if self.max_tokens < 3:
            raise UserError(f"text.max_tokens is {self.max_tokens}; expected at least 3, of which 2 mark start and end")
        if self.context < 0:
            raise UserError(f"text.context is {self.context}; expected 0 or how many earlier turns to read")

    @functools.cached_property
    def _encoder(self) -> Any:
        from jmer.features import hf

        return hf.TextEncoder(self.model)

    @property
    def turns_before(self) -> int:
        return self.context

    def prepare(self, raw: Sequence[Turn]) -> Prepared:
        named = [f"{speaker}: {text}" if self.speakers and self.context else text for speaker, text in raw]
        before = "\n".join(named[:-1])
        tokens, own, total = self._encoder.tokenize(named[-1], before=before, limit=self.max_tokens)
        if total > len(tokens):
            reason = f"text of {total} tokens cut at {len(tokens)}"
            return Prepared(payload=(tokens, own), status="degraded", reason=reason)
        return Prepared(payload=(tokens, own))

    def group(self, payload: tuple[np.ndarray, slice]) -> int:
        """The length to which its batch is padded."""
        return self._encoder.padded_length(len(payload[0]))

    def batch(self, group: Hashable) -> int:
        return self._encoder.places(group)

    def encode(self, payloads: Sequence[tuple[np.ndarray, slice]], *, exact: bool = False) -> list[Encoded]:
        """payloads: `[T]` int32 token ids each, and which of them are the utterance's."""
        states = self._encoder.encode(payloads, layers=self._layers, exact=exact)
        return [self.pooled(frames[own], cls=frames[0]) for frames, (_, own) in zip(states, payloads, strict=True)]
