"""Text features by a published encoder, frozen."""

import functools
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jmer.base.errors import UserError
from jmer.base.types import Turn
from jmer.features.extractor import Encoded, Prepared
from jmer.features.pooling import PooledLayers


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
        from jmer.encoders import huggingface

        return huggingface.TextEncoder(self.model)

    @property
    def turns_before(self) -> int:
        return self.context

    def prepare(self, raw: Sequence[Turn]) -> Prepared:
        named = [f"{speaker}: {text}" if self.speakers and self.context else text for speaker, text in raw]
        before = "\n".join(named[:-1])
        tokens, own, total = self._encoder.tokenize(named[-1], before=before, limit=self.max_tokens)
        if own.start == own.stop:
            return Prepared(payload=None, status="degraded", reason="the text holds no token of the encoder's")
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
