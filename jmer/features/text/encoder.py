"""Text features by a published encoder, frozen."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jmer.base.errors import UserError
from jmer.base.options import option
from jmer.base.types import Turn
from jmer.features.extractor import Encoded, Prepared
from jmer.features.summary import PooledLayers, pooling_option


@dataclass(frozen=True, kw_only=True)
class HFText(PooledLayers):
    """Hidden states of a BERT-type encoder, pooled over the tokens; with a context, over the utterance's own tokens.

    The encoder may read earlier turns before the utterance, each after its speaker's name (Kim & Vossen 2021,
    "EmoBERTa"). Of the context, as many of the last tokens are read as fit.
    """

    pooling: str = pooling_option("mean", "std", "cls")
    max_tokens: int = option(128, "Tokens after which a text is cut; two of them mark start and end.", at_least=3)
    context: int = option(0, "Earlier turns that an encoder of text reads before the utterance.", at_least=0)
    speakers: bool = option(True, "With a context, each turn begins with its speaker's name.")

    modality = "text"
    kind = "hf"
    version = 3
    libraries = ("tokenizers", "transformers")
    lookahead = 2048

    def _load_encoder(self) -> Any:
        from jmer.encoders import text

        encoder = text.TextEncoder(self.model, running=self._running)
        if encoder.opened.note is not None:  # from the hub; a directory goes to TunedText
            raise UserError(
                f"config.text.model: {self.model} was fine-tuned by jmer on dialogues; give the directory "
                f"{encoder.opened.directory}, so that its own context is read"
            )
        return encoder

    @property
    def turns_before(self) -> int:
        return self.context

    def prepare(self, raw: Sequence[Turn]) -> Prepared:
        """The payload is the token ids, `[T]` int32, and the slice of them that is the utterance itself."""
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
        """Returns the length to which the payload's batch is padded."""
        return self._encoder.padded_length(len(payload[0]))

    def batch(self, group: Hashable) -> int:
        return self._encoder.places(group)

    def encode(self, payloads: Sequence[tuple[np.ndarray, slice]], *, exact: bool = False) -> list[Encoded]:
        states = self._encoder.encode(payloads, **self._wanted, exact=exact)
        return [self.pooled(frames[own], cls=frames[0]) for frames, (_, own) in zip(states, payloads, strict=True)]
