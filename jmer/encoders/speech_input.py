"""Turns a waveform into the input of a speech encoder, as published feature extractors do.

Worker processes import this file, so it does not import jax.
"""

import functools
import math

import numpy as np
from jaxtyping import Float

from jmer.base.types import SAMPLE_RATE
from jmer.media.sound import compiled_librosa

SECONDS = 30  # the longest sound that Whisper has positions for, and that jmer gives any encoder at once
HOP = 160  # samples from one frame of the spectrogram to the next; Whisper makes one frame of two
_FFT = 400


def windows(wave: Float[np.ndarray, " T"]) -> list[Float[np.ndarray, " _"]]:
    """Cuts a waveform into the fewest windows of at most 30 s. Their lengths differ by at most one sample."""
    return np.array_split(wave, max(math.ceil(len(wave) / (SECONDS * SAMPLE_RATE)), 1))


def normalised(wave: Float[np.ndarray, " T"]) -> Float[np.ndarray, " T"]:
    """Scales a waveform to mean 0 and variance 1, as Wav2Vec2FeatureExtractor does with a single wave."""
    return (wave - wave.mean()) / np.sqrt(wave.var() + 1e-7)


def whisper_frames(wave: Float[np.ndarray, " T"]) -> int:
    """Returns how many of Whisper's frames of 20 ms the waveform fills, the last perhaps in part."""
    return math.ceil(len(wave) / (2 * HOP))


def log_mel(wave: Float[np.ndarray, " T"], *, mels: int, seconds: int) -> Float[np.ndarray, "frames {mels}"]:
    """Computes Whisper's log-mel spectrogram, as WhisperFeatureExtractor does.

    wave: 16 kHz mono, at most 30 s.
    mels: number of mel bands.
    seconds: silence is appended up to this length. Whisper was published with 30. Silence is also appended until the
      number of frames is even.

    Returns: float32, one frame every 10 ms.
    """
    samples = max(2 * HOP * whisper_frames(wave), seconds * SAMPLE_RATE)
    wave = np.pad(np.pad(wave, (0, samples - len(wave))), _FFT // 2, mode="reflect")
    spectrum = compiled_librosa().stft(wave, n_fft=_FFT, hop_length=HOP, center=False)[:, :-1]
    log = np.log10(np.maximum(_mel_filters(mels) @ np.square(np.abs(spectrum)), 1e-10))
    return ((np.maximum(log, log.max() - 8) + 4) / 4).T.astype(np.float32)


@functools.cache
def _mel_filters(mels: int) -> np.ndarray:
    return compiled_librosa().filters.mel(sr=SAMPLE_RATE, n_fft=_FFT, n_mels=mels)
