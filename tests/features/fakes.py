"""Extractors for tests, in a module of their own as worker processes import it."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jmer.features.extractor import Extractor, Prepared


@dataclass(frozen=True)
class Letters(Extractor):
    """Counts of letters and words; encodes up to 5 at a time."""

    modality = "text"
    kind = "letters"
    version = 1
    lookahead = 5

    @property
    def dim(self) -> int:
        return 2

    def prepare(self, raw: str) -> Prepared:
        if "LONG" in raw:
            return Prepared(payload=raw, status="degraded", reason="text cut")
        return Prepared(payload=raw)

    def encode(self, payloads: Sequence[str]) -> np.ndarray:
        assert payloads
        return np.array([[len(text), len(text.split())] for text in payloads], np.float32)


@dataclass(frozen=True)
class Loudness(Extractor):
    """RMS and length of the waveform, and whether the worker has imported jax."""

    scale: float = 1.0

    modality = "audio"
    kind = "loudness"
    version = 1

    @property
    def dim(self) -> int:
        return 3

    def prepare(self, raw: np.ndarray) -> Prepared:
        values = [self.scale * np.sqrt((raw**2).mean()), len(raw), "jax" in sys.modules]
        return Prepared(payload=np.array(values, np.float32))


@dataclass(frozen=True)
class Colour(Extractor):
    """Mean colour of 2 frames; encodes up to 3 at a time."""

    modality = "video"
    kind = "colour"
    version = 1
    lookahead = 3

    @property
    def frames_wanted(self) -> int:
        return 2

    @property
    def dim(self) -> int:
        return 3

    def prepare(self, raw: np.ndarray) -> Prepared:
        assert len(raw) == 2
        return Prepared(payload=raw.mean(axis=(0, 1, 2)))

    def encode(self, payloads: Sequence[np.ndarray]) -> np.ndarray:
        assert payloads
        return np.stack(payloads).astype(np.float32)


@dataclass(frozen=True)
class Crash(Loudness):
    """Takes its process down with it."""

    kind = "crash"

    def prepare(self, raw: np.ndarray) -> Prepared:
        os._exit(1)


@dataclass(frozen=True)
class Nan(Loudness):
    kind = "nan"

    def encode(self, payloads: Sequence[np.ndarray]) -> np.ndarray:
        return np.stack(payloads) * np.float32("nan")
