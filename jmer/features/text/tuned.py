"""Text features by an encoder that `jmer.finetune` left: its weights, or adapters beside a public encoder."""

import functools
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jmer.base.types import Heard, Turn
from jmer.encoders import opened, passages
from jmer.encoders.opened import Note
from jmer.encoders.passages import Passage
from jmer.encoders.tokenizer import Tokenizer
from jmer.features.extractor import Encoded, Prepared
from jmer.features.summary import PooledLayers, pooling_option

_UTTERANCES_A_BATCH = 256  # those of one dialogue share its passage, so that they fill far fewer rows


class _Payload(NamedTuple):
    """passage: the tokens that are read. own: the positions of the utterance's own tokens."""

    passage: Passage
    own: np.ndarray


@dataclass(frozen=True, kw_only=True)
class TunedText(PooledLayers):
    """Hidden states of a fine-tuned encoder, pooled over the utterance's own tokens and the separator after them.

    The encoder reads the dialogue as it did in fine-tuning, by the note `jmer.json` in its directory. Utterances of one
    dialogue are encoded in one pass.
    """

    pooling: str = pooling_option("mean", "std")

    modality = "text"
    kind = "tuned"
    version = 1
    named_by = "a directory that jmer.finetune left"
    libraries = ("tokenizers", "transformers")
    lookahead = 2048

    @classmethod
    def reads(cls, model: str) -> bool:
        return (Path(model).expanduser() / opened.NOTE).is_file()

    def _load_encoder(self) -> Any:
        from jmer.encoders import text  # imports JAX, which workers do without

        return text.TextEncoder(self.model, running=self._running)

    @property
    def reads_dialogue(self) -> bool:
        return True

    @property
    def reads_later(self) -> bool:
        return self._note.context.context != 0 and not self._note.context.causal

    @property
    def _note(self) -> Note:
        return self._encoder.opened.note

    def prepare(self, raw: Heard) -> Prepared:
        found = _passages(raw.turns, self._note, self._encoder.tokenizer)
        passage = next(passage for passage in found if raw.own in passage.utterance)
        own = np.flatnonzero(passage.utterance == raw.own)
        if raw.own in passage.cut:
            reason = f"text cut to fit in a row of {len(passage.ids)} tokens"
            return Prepared(payload=_Payload(passage, own), status="degraded", reason=reason)
        return Prepared(payload=_Payload(passage, own))

    def group(self, payload: _Payload) -> int:
        """Returns the length to which the payload's batch is padded."""
        return self._encoder.padded_length(len(payload.passage.ids))

    def batch(self, group: Hashable) -> int:
        return _UTTERANCES_A_BATCH

    def encode(self, payloads: Sequence[_Payload], *, exact: bool = False) -> list[Encoded]:
        distinct: dict[tuple[bytes, bytes], Passage] = {}
        keys = []
        for payload in payloads:
            passage = payload.passage
            keys.append((passage.ids.tobytes(), passage.turn.tobytes()))
            distinct.setdefault(keys[-1], passage)
        states = self._encoder.encode_passages(list(distinct.values()), self._note.context, **self._wanted, exact=exact)
        of = dict(zip(distinct, states, strict=True))
        return [self.pooled(of[key][payload.own]) for key, payload in zip(keys, payloads, strict=True)]


@functools.lru_cache(maxsize=64)  # each utterance of a dialogue asks for the same
def _passages(turns: tuple[Turn, ...], note: Note, tokenizer: Tokenizer) -> list[Passage]:
    return passages.passages(turns, note.context, tokenizer)
