"""Text features that need no learned weights."""

import functools
import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32

from jmer.base.types import Turn
from jmer.features.extractor import Encoded, Extractor, Prepared
from jmer.features.summary import shortened

WORD_BINS, CHAR_BINS = 512, 512
_VADER = ("neg", "neu", "pos", "compound")
# Counts of these in the whole text: shouting, hesitation and stretched letters carry emotion that n-grams blur.
_MARKS = (r"!", r"\?", r"\.\.\.|…", r",", r"[-–—]", r"\b[A-Z]{2,}\b", r"([a-zA-Z])\1\1", r"\w+")


@dataclass(frozen=True, kw_only=True)
class LiteText(Extractor):
    """VADER's sentiment (Hutto & Gilbert 2014), counts of marks, and hashed n-grams.

    The n-grams are of 1 to 2 words, and of 2 to 4 characters within words. A sequence has a frame for each word.
    """

    modality = "text"
    kind = "lite"
    version = 1
    libraries = ("scikit-learn", "vaderSentiment")
    lookahead = 256

    @property
    def dim(self) -> int:
        return len(_VADER) + len(_MARKS) + WORD_BINS + CHAR_BINS

    def prepare(self, raw: Sequence[Turn]) -> Prepared:
        """The payload is the text; `encode` does all the work, many texts at once."""
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

    def _describe(self, texts: Sequence[str]) -> Float32[np.ndarray, "N D"]:
        counts = np.log1p([[len(re.findall(mark, text)) for mark in _MARKS] for text in texts])
        hashed = [hasher.transform(texts).toarray() for hasher in _hashers()]
        return np.concatenate([_sentiments(texts), counts, *hashed], axis=1).astype(np.float32)


def _sentiments(texts: Sequence[str]) -> Float32[np.ndarray, "N 4"]:
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


@dataclass(frozen=True, kw_only=True)
class Vader(LiteText):
    """VADER's sentiment alone (Hutto & Gilbert 2014)."""

    kind = "vader"
    libraries = ("vaderSentiment",)

    @property
    def dim(self) -> int:
        return len(_VADER)

    def _describe(self, texts: Sequence[str]) -> Float32[np.ndarray, "N D"]:
        return _sentiments(texts)
