"""Augmented views: an extractor that perturbs its input and hands it to another extractor.

The randomness of a view comes from its seed, its number and the content of the input. Reruns, workers and the rest of
the corpus do not change it, so that the features of a view are cached by content like all others.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jmer.base.types import Heard, Media, Turn
from jmer.features import perturb
from jmer.features.extractor import Encoded, Extractor, Prepared
from jmer.media.sound import compiled_librosa

SPLIT = "train"  # the only split that has views


@dataclass(frozen=True, kw_only=True)
class _View(Extractor):
    """An extractor of augmented input.

    base: the extractor that reads the augmented input.
    number: of the view, from 1.
    seed: of all views.
    """

    base: Extractor
    number: int
    seed: int = 0

    kind = "view"
    version = perturb.VERSION

    # Class variables elsewhere; of a view, they depend on its base.
    @property
    def lookahead(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.base.lookahead

    @property
    def libraries(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return (*self.base.libraries, "numpy")  # a generator may draw other numbers in another release

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
    def reads_dialogue(self) -> bool:
        return self.base.reads_dialogue

    @property
    def weights(self) -> str:
        return self.base.weights

    @property
    def spec(self) -> dict[str, Any]:
        return self.base.spec | self._view

    @property
    def identity(self) -> dict[str, Any]:
        return self.base.identity | self._view

    @property
    def _view(self) -> dict[str, Any]:
        return {"view": self.number, "augmentation": self._augmentation}

    @property
    def _augmentation(self) -> dict[str, Any]:
        return {"version": self.version, "seed": self.seed, **perturb.PARAMETERS[self.modality]}

    def group(self, payload: Any) -> Hashable:
        return self.base.group(payload)

    def batch(self, group: Hashable) -> int:
        return self.base.batch(group)

    def encode(self, payloads: Sequence[Any], *, exact: bool = False) -> list[Encoded]:
        return self.base.encode(payloads, exact=exact)

    def _generator(self, content: bytes) -> np.random.Generator:
        digest = hashlib.sha256(f"{self.seed} {self.number} ".encode() + content).digest()
        return np.random.default_rng(int.from_bytes(digest))


@dataclass(frozen=True, kw_only=True)
class AudioView(_View):
    """A view of the waveform."""

    modality = "audio"

    @property
    def libraries(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return (*super().libraries, "librosa")

    def load(self) -> None:
        compiled_librosa()
        self.base.load()

    def prepare(self, raw: Media) -> Prepared:
        assert raw.wave is not None
        wave = perturb.perturb_wave(raw.wave, self._generator(raw.wave.tobytes()))
        return self.base.prepare(dataclasses.replace(raw, wave=wave))


@dataclass(frozen=True, kw_only=True)
class TextView(_View):
    """A view of the utterance's own text; earlier turns stay as they are.

    lexicon: a word -> its synonyms.
    """

    lexicon: perturb.Lexicon = field(default_factory=dict, repr=False)

    modality = "text"

    def prepare(self, raw: Sequence[Turn] | Heard) -> Prepared:
        turns, own = (list(raw.turns), raw.own) if isinstance(raw, Heard) else (list(raw), len(raw) - 1)
        speaker, text = turns[own]
        turns[own] = Turn(speaker, perturb.perturb_text(text, self._generator(text.encode()), self.lexicon))
        return self.base.prepare(Heard(tuple(turns), own) if isinstance(raw, Heard) else turns)

    @property
    def _augmentation(self) -> dict[str, Any]:
        return super()._augmentation | {"lexicon_sha256": self._lexicon_sha256}

    @functools.cached_property
    def _lexicon_sha256(self) -> str:
        return hashlib.sha256(json.dumps(sorted(self.lexicon.items())).encode()).hexdigest()


def views_of(
    extractors: Mapping[str, Extractor], *, count: int, seed: int, lexicon: perturb.Lexicon
) -> list[dict[str, Extractor]]:
    """Returns the extractors of each view by modality. Video is never perturbed, so that it has no views."""
    views: list[dict[str, Extractor]] = [{} for _ in range(count)]
    for number, view in enumerate(views, 1):
        if "text" in extractors:
            view["text"] = TextView(base=extractors["text"], number=number, seed=seed, lexicon=lexicon)
        if "audio" in extractors:
            view["audio"] = AudioView(base=extractors["audio"], number=number, seed=seed)
    return views
