"""What speech encoders take, made of a waveform as published feature extractors make it. No jax: workers run it."""

import functools
import math

import numpy as np

from jmer.base.types import SAMPLE_RATE
from jmer.media.sound import compiled_librosa

SECONDS = 30  # what Whisper has positions for, and the most that an encoder is given at once
HOP = 160  # samples from frame to frame of the spectrogram, of which two are one of Whisper's
_FFT = 400


def windows(wave: np.ndarray) -> list[np.ndarray]:
    """Cuts a waveform `[T]` into as few parts of at most 30 s as will do, of equal length to within a sample."""
    return np.array_split(wave, max(math.ceil(len(wave) / (SECONDS * SAMPLE_RATE)), 1))


def normalised(wave: np.ndarray) -> np.ndarray:
    """`[T]` float32 -> the same with mean 0 and variance 1, as Wav2Vec2FeatureExtractor makes it of a wave alone."""
    return (wave - wave.mean()) / np.sqrt(wave.var() + 1e-7)


def whisper_frames(wave: np.ndarray) -> int:
    """How many of Whisper's frames, of 20 ms, a waveform reaches into."""
    return math.ceil(len(wave) / (2 * HOP))


def log_mel(wave: np.ndarray, *, mels: int, seconds: int) -> np.ndarray:
    """`[T]` float32, at most 30 s -> `[frames, mels]` float32, as WhisperFeatureExtractor makes it.

    Args:
      seconds: silence is added up to this length, 30 as published; it is always added up to a whole pair of frames.
    """
    samples = max(2 * HOP * whisper_frames(wave), seconds * SAMPLE_RATE)
    wave = np.pad(np.pad(wave, (0, samples - len(wave))), _FFT // 2, mode="reflect")
    spectrum = compiled_librosa().stft(wave, n_fft=_FFT, hop_length=HOP, center=False)[:, :-1]
    log = np.log10(np.maximum(_mel_filters(mels) @ np.square(np.abs(spectrum)), 1e-10))
    return ((np.maximum(log, log.max() - 8) + 4) / 4).T.astype(np.float32)


@functools.cache
def _mel_filters(mels: int) -> np.ndarray:
    return compiled_librosa().filters.mel(sr=SAMPLE_RATE, n_fft=_FFT, n_mels=mels)
