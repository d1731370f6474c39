"""Text features: one set that needs no learned weights, and any BERT-type encoder of Hugging Face's."""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jmer.errors import UserError
from jmer.features.extractor import Extractor, Prepared

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

    def prepare(self, raw: str) -> Prepared:
        return Prepared(payload=raw)

    def encode(self, payloads: Sequence[str]) -> np.ndarray:
        scores = [_sentiment().polarity_scores(text) for text in payloads]
        sentiment = np.array([[score[key] for key in _VADER] for score in scores])
        counts = np.log1p([[len(re.findall(mark, text)) for mark in _MARKS] for text in payloads])
        hashed = [hasher.transform(payloads).toarray() for hasher in _hashers()]
        return np.concatenate([sentiment, counts, *hashed], axis=1).astype(np.float32)


@functools.cache
def _sentiment() -> Any:
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
class HFText(Extractor):
    """A BERT-type encoder: the last layer's hidden states, averaged over the tokens or taken at the first.

    model: a directory in Hugging Face's layout, or an id on their hub.
    pooling: `mean` over the tokens, special ones included, or `cls`.
    max_tokens: longer texts are cut, and said to be.
    """

    model: str
    pooling: str = "mean"
    max_tokens: int = 128

    modality = "text"
    kind = "hf"
    version = 1
    lookahead = 1024  # enough to fill batches of like length

    def __post_init__(self):
        if self.pooling not in ("mean", "cls"):
            raise UserError(f"text.pooling is '{self.pooling}'; expected mean or cls")
        if self.max_tokens < 3:
            raise UserError(f"text.max_tokens is {self.max_tokens}; expected at least 3, of which 2 mark start and end")

    @functools.cached_property
    def _encoder(self) -> Any:
        from jmer.features import hf

        return hf.TextEncoder(self.model)

    @property
    def dim(self) -> int:
        return self._encoder.dim

    @property
    def weights(self) -> str:
        return self._encoder.sha256

    def prepare(self, raw: str) -> Prepared:
        tokens, total = self._encoder.tokenize(raw, limit=self.max_tokens)
        if total > len(tokens):
            return Prepared(payload=tokens, status="degraded", reason=f"text of {total} tokens cut at {len(tokens)}")
        return Prepared(payload=tokens)

    def encode(self, payloads: Sequence[np.ndarray]) -> np.ndarray:
        """payloads: `[T]` int32 token ids each."""
        return self._encoder.encode(payloads, pooling=self.pooling)
