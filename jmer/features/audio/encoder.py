"""Audio features by a published speech encoder, frozen."""

import functools
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jmer.base.options import option
from jmer.base.types import SAMPLE_RATE, Media
from jmer.encoders import hub, speech_input
from jmer.encoders.opened import Opened, open_model
from jmer.features.extractor import Encoded, Prepared
from jmer.features.summary import PooledLayers
from jmer.media.sound import compiled_librosa

_LEAST = 0.1  # seconds

# The encoder's input for each part of at most 30 s, and how many of the frames that come of it are sound; None for all.
_Payload = list[tuple[np.ndarray, int | None]]


@dataclass(frozen=True, kw_only=True)
class HFAudio(PooledLayers):
    """Hidden states of wav2vec 2.0, HuBERT, WavLM or Whisper's encoder, pooled over the frames.

    Whisper was published with silence added after the sound, up to 30 s. Without the silence, extraction is many times
    as fast. Frames of added silence never enter a vector.
    """

    window: int = option(0, "Seconds to which Whisper's input is filled with silence, 30 as published; 0 adds none.",
                         at_least=0, at_most=30)  # fmt: skip

    modality = "audio"
    kind = "hf"
    version = 2
    libraries = ("av", "librosa")
    lookahead = 128

    @functools.cached_property
    def _opened(self) -> Opened:
        return open_model(self.model, field="audio.model")

    @functools.cached_property
    def _config(self) -> dict[str, Any]:
        return hub.read_json(self._opened.folder, "config.json", field="audio.model")

    @functools.cached_property
    def _preprocessor(self) -> dict[str, Any]:
        return hub.read_json(self._opened.folder, "preprocessor_config.json", field="audio.model")

    @property
    def _reads_waves(self) -> bool:
        """Whether the encoder reads the waveform itself, and not a spectrogram as Whisper does."""
        return self._config["model_type"] != "whisper"

    @property
    def _normalises(self) -> bool:
        """Whether waves are brought to mean 0 and variance 1, as transformers does unless the file says otherwise."""
        return bool(self._preprocessor.get("do_normalize", True))

    @property
    def spec(self) -> dict[str, Any]:
        """JSON as of every extractor, with one entry more for a preprocessor that does not say whether it normalises.

        Version 2 did not normalise for such a preprocessor at first. The entry keeps features of then and now apart.
        """
        if self._reads_waves and "do_normalize" not in self._preprocessor:
            return super().spec | {"normalises": True}
        return super().spec

    def __getstate__(self) -> dict[str, Any]:
        _ = self._config, self._preprocessor  # read once, here, rather than for every clip in a worker
        return super().__getstate__()

    def _load_encoder(self) -> Any:
        from jmer.encoders import speech  # imports JAX, which workers do without

        return speech.SpeechEncoder(self._opened, running=self._running)

    def load(self) -> None:
        if not self._reads_waves:
            compiled_librosa()

    def prepare(self, raw: Media) -> Prepared:
        """The payload is a `_Payload`: normalised waves, or log-mel spectrograms for Whisper."""
        assert raw.wave is not None
        if len(raw.wave) < _LEAST * SAMPLE_RATE:
            length = 1000 * len(raw.wave) / SAMPLE_RATE
            reason = f"{length:.1f} ms of sound, less than the {1000 * _LEAST:.0f} ms needed"
            return Prepared(payload=None, status="degraded", reason=reason)
        payload: _Payload = []
        for part in speech_input.windows(raw.wave):
            if not self._reads_waves:
                mel = speech_input.log_mel(part, mels=self._config["num_mel_bins"], seconds=self.window)
                payload.append((mel, speech_input.whisper_frames(part)))
            else:
                payload.append((speech_input.normalised(part) if self._normalises else part, None))
        return Prepared(payload=payload)

    def group(self, payload: _Payload) -> int:
        """Returns the padded length of the first part; the parts of one sound are of one length, to within a sample."""
        return self._encoder.padded_length(len(payload[0][0]))

    def batch(self, group: Hashable) -> int:
        return self._encoder.places(group)

    def encode(self, payloads: Sequence[_Payload], *, exact: bool = False) -> list[Encoded]:
        inputs = [x for parts in payloads for x, _ in parts]
        states = iter(self._encoder.encode(inputs, **self._wanted, exact=exact))
        results = []
        for parts in payloads:
            frames = np.concatenate([next(states)[:count] for _, count in parts])
            results.append(self.pooled(frames))
        return results
