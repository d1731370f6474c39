"""Augmented views: an extractor that is given its input augmented, so that the rest of jmer sees one more extractor.

The randomness of a view comes from its seed, its number and the content itself: neither reruns nor workers nor the
rest of the corpus change it, and what is augmented is cached by content like everything else.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jmer.base.types import Media, Turn
from jmer.features import augment
from jmer.features.extractor import Encoded, Extractor, Prepared

SPLIT = "train"  # the one that has views


@dataclass(frozen=True)
class _View(Extractor):
    """base: the extractor that sees the augmented input. number: of the view, from 1. seed: of all views."""

    base: Extractor
    number: int
    seed: int = 0

    kind = "view"
    version = augment.VERSION

    @property
    def lookahead(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride] (here it is an instance's)
        return self.base.lookahead

    @property
    def dim(self) -> int:
        return self.base.dim

    @property
    def sequence_dim(self) -> int:
        return self.base.sequence_dim

    @property
    def turns_before(self) -> int:
        return self.base.turns_before

    @property
    def weights(self) -> str:
        return self.base.weights

    @property
    def spec(self) -> dict[str, Any]:
        return self.base.spec | {"view": self.number, "augmentation": self._augmentation}

    @property
    def _augmentation(self) -> dict[str, Any]:
        return {"version": self.version, "seed": self.seed, **augment.PARAMETERS[self.modality]}

    def group(self, payload: Any) -> Hashable:
        return self.base.group(payload)

    def batch(self, group: Hashable) -> int:
        return self.base.batch(group)

    def encode(self, payloads: Sequence[Any], *, exact: bool = False) -> list[Encoded]:
        return self.base.encode(payloads, exact=exact)

    def _generator(self, content: bytes) -> np.random.Generator:
        digest = hashlib.sha256(f"{self.seed} {self.number} ".encode() + content).digest()
        return np.random.default_rng(int.from_bytes(digest))


@dataclass(frozen=True)
class AudioView(_View):
    """A view of the waveform."""

    modality = "audio"

    def prepare(self, raw: Media) -> Prepared:
        assert raw.wave is not None
        wave = augment.augment_wave(raw.wave, self._generator(raw.wave.tobytes()))
        return self.base.prepare(dataclasses.replace(raw, wave=wave))


@dataclass(frozen=True)
class TextView(_View):
    """A view of the utterance's own text; lexicon: the synonyms."""

    lexicon: augment.Lexicon = field(default_factory=dict, repr=False)

    modality = "text"

    def prepare(self, raw: Sequence[Turn]) -> Prepared:
        *before, (speaker, text) = raw
        text = augment.augment_text(text, self._generator(text.encode()), self.lexicon)
        return self.base.prepare([*before, Turn(speaker, text)])

    @property
    def _augmentation(self) -> dict[str, Any]:
        return super()._augmentation | {"lexicon_sha256": self._lexicon_sha256}

    @functools.cached_property
    def _lexicon_sha256(self) -> str:
        return hashlib.sha256(json.dumps(sorted(self.lexicon.items())).encode()).hexdigest()


def views_of(
    extractors: Mapping[str, Extractor], *, count: int, seed: int, lexicon: augment.Lexicon
) -> list[dict[str, Extractor]]:
    """Returns the extractors of every view, by modality; those whose view would equal the original are left out."""
    views: list[dict[str, Extractor]] = [{} for _ in range(count)]
    for number, view in enumerate(views, 1):
        if "text" in extractors:
            view["text"] = TextView(extractors["text"], number, seed, lexicon)
        if "audio" in extractors:
            view["audio"] = AudioView(extractors["audio"], number, seed)
    return views
