"""Extractors for tests, in a module of their own because worker processes import it."""

import os
import sys
import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from jmer.base.errors import UserError
from jmer.base.types import SAMPLE_RATE, Media, Turn
from jmer.features import leash
from jmer.features.extractor import Encoded, Extractor, Prepared
from jmer.features.summary import shortened


@dataclass(frozen=True, kw_only=True)
class Letters(Extractor):
    """Counts of letters and words, 5 texts at a time.

    before: how many earlier turns are counted too.
    """

    before: int = 0

    modality = "text"
    kind = "letters"
    version = 1
    lookahead = 5

    @property
    def dim(self) -> int:
        return 2

    @property
    def turns_before(self) -> int:
        return self.before

    def batch(self, group: Hashable) -> int:
        return 5

    def prepare(self, raw: Sequence[Turn]) -> Prepared:
        text = " ".join(turn.text for turn in raw)
        if "LONG" in text:
            return Prepared(payload=text, status="degraded", reason="text cut")
        return Prepared(payload=text)

    def encode(self, payloads: Sequence[str], *, exact: bool = False) -> list[Encoded]:
        assert payloads
        frames = [np.array([[len(word), 1] for word in text.split()], np.float32) for text in payloads]
        limit = self.sequence_frames
        return [
            Encoded(np.array([len(text), len(words)], np.float32), shortened(words, limit) if limit else None)
            for text, words in zip(payloads, frames, strict=True)
        ]


@dataclass(frozen=True, kw_only=True)
class Loudness(Extractor):
    """RMS and length of the waveform, and whether the worker has imported jax."""

    scale: float = 1.0

    modality = "audio"
    kind = "loudness"
    version = 1

    @property
    def dim(self) -> int:
        return 3

    def prepare(self, raw: Media) -> Prepared:
        assert raw.wave is not None
        values = [self.scale * np.sqrt((raw.wave**2).mean()), len(raw.wave), "jax" in sys.modules]
        return Prepared(payload=np.array(values, np.float32))

    def encode(self, payloads: Sequence[np.ndarray], *, exact: bool = False) -> list[Encoded]:
        return [Encoded(payload) for payload in payloads]


@dataclass(frozen=True, kw_only=True)
class Colour(Extractor):
    """Mean colour of 2 frames; encodes 3 at a time."""

    modality = "video"
    kind = "colour"
    version = 1
    lookahead = 3

    def frames_wanted(self, seconds: float) -> int:
        return 2

    def batch(self, group: Hashable) -> int:
        return 3

    @property
    def dim(self) -> int:
        return 3

    def prepare(self, raw: Media) -> Prepared:
        assert raw.frames is not None
        assert len(raw.frames) == 2
        return Prepared(payload=raw.frames.mean(axis=(0, 1, 2)))

    def encode(self, payloads: Sequence[np.ndarray], *, exact: bool = False) -> list[Encoded]:
        assert payloads
        return [Encoded(payload.astype(np.float32)) for payload in payloads]


@dataclass(frozen=True, kw_only=True)
class Faulty(Loudness):
    """Is at fault with some clips, as a decoder may be.

    faults: the seconds that a clip lasts -> `crash`, `hang`, `memory`, or `UserError` or the text of another error.
    """

    faults: Mapping[float, str] = field(default_factory=dict)

    kind = "faulty"

    def prepare(self, raw: Media) -> Prepared:
        assert raw.wave is not None
        match self.faults.get(round(len(raw.wave) / SAMPLE_RATE, 1), ""):
            case "":
                return super().prepare(raw)
            case "crash":
                os._exit(1)
            case "hang":
                leash.allow(0.5)  # a test does not wait for half a minute
                time.sleep(1e6)
            case "memory":
                np.empty(2 * leash.MEMORY, np.uint8)
            case "UserError":
                raise UserError("no file")
            case text:
                raise ValueError(text)
        raise AssertionError("nothing was at fault")


@dataclass(frozen=True, kw_only=True)
class Nan(Loudness):
    """Gives features that are not finite."""

    kind = "nan"

    def encode(self, payloads: Sequence[np.ndarray], *, exact: bool = False) -> list[Encoded]:
        return [Encoded(payload * np.float32("nan")) for payload in payloads]
