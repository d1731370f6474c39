"""Speech by a published encoder, frozen."""

import functools
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jmer.base.errors import UserError
from jmer.base.types import SAMPLE_RATE, Media
from jmer.encoders import hub, speech_input
from jmer.features.extractor import Encoded, Prepared
from jmer.features.pooling import PooledLayers

_LEAST = 0.1  # seconds


@dataclass(frozen=True)
class HFAudio(PooledLayers):
    """wav2vec 2.0, HuBERT, WavLM or Whisper's encoder: hidden states, pooled over the frames.

    model: a directory in Hugging Face's layout, or an id on their hub.
    pooling: `mean`, `std`, or both, comma-separated.
    layers: whose hidden states; of several, comma-separated, the mean. 0 is before the first, -1 the last.
    window: how many seconds Whisper is given, silence after the sound included: 30 as published, 0 for no silence,
      which is many times as quick. What it makes of the silence never enters a vector.
    """

    model: str
    pooling: str = "mean"
    layers: str = "-1"
    window: int = 30

    modality = "audio"
    kind = "hf"
    version = 2
    lookahead = 128

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.window <= 30:
            raise UserError(f"audio.window is {self.window}; expected 0 to 30 seconds")

    @functools.cached_property
    def _folder(self) -> Path:
        return hub.resolve(self.model, field="audio.model")

    @functools.cached_property
    def _config(self) -> dict[str, Any]:
        return hub.read_json(self._folder, "config.json", field="audio.model")

    @functools.cached_property
    def _normalise(self) -> bool:
        """Whether waves are made loud alike, as the encoder was trained."""
        return bool(hub.read_json(self._folder, "preprocessor_config.json", field="audio.model").get("do_normalize"))

    def __getstate__(self) -> dict[str, Any]:
        _ = self._config, self._normalise  # read once, here, and not again for every clip in a worker
        return super().__getstate__()

    @functools.cached_property
    def _encoder(self) -> Any:
        from jmer.encoders import speech  # imports jax, which workers do without

        return speech.SpeechEncoder(self._folder)

    def prepare(self, raw: Media) -> Prepared:
        """The payload is what the encoder takes of each 30 s, and how many of the frames that it makes are sound."""
        assert raw.wave is not None
        if len(raw.wave) < _LEAST * SAMPLE_RATE:
            reason = (
                f"{1000 * len(raw.wave) / SAMPLE_RATE:.1f} ms of sound, less than the {1000 * _LEAST:.0f} ms needed"
            )
            return Prepared(payload=None, status="degraded", reason=reason)
        payload: list[tuple[np.ndarray, int | None]] = []
        for part in speech_input.windows(raw.wave):
            if self._config["model_type"] == "whisper":
                mel = speech_input.log_mel(part, mels=self._config["num_mel_bins"], seconds=self.window)
                payload.append((mel, speech_input.whisper_frames(part)))
            else:
                payload.append((speech_input.normalised(part) if self._normalise else part, None))
        return Prepared(payload=payload)

    def group(self, payload: list[tuple[np.ndarray, int | None]]) -> int:
        """The length to which its batch is padded, that of its first window; those of one sound are alike."""
        return self._encoder.padded_length(len(payload[0][0]))

    def batch(self, group: Hashable) -> int:
        return self._encoder.places(group)

    def encode(self, payloads: Sequence[list[tuple[np.ndarray, int | None]]], *, exact: bool = False) -> list[Encoded]:
        inputs = [x for parts in payloads for x, _ in parts]
        states = iter(self._encoder.encode(inputs, layers=self._layers, exact=exact))
        results = []
        for parts in payloads:
            frames = np.concatenate([next(states)[:count] for _, count in parts])
            results.append(self.pooled(frames))
        return results
