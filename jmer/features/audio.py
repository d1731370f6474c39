"""Acoustic features that need no learned weights."""

from dataclasses import dataclass

import librosa
import numpy as np
from scipy.signal import find_peaks

from jmer.features.extractor import Extractor, Prepared
from jmer.types import SAMPLE_RATE

MFCCS, MELS = 20, 40
PROSODY = (
    *("f0_mean", "f0_std", "f0_range", "f0_slope", "f0_change", "voiced"),
    *("energy_mean", "energy_std", "energy_range", "energy_slope"),
    *("peak_rate", "log_seconds", "pause", "pause_rate", "longest_pause"),
)

_HOP, _WINDOW, _FFT, _YIN = 160, 400, 512, 1024  # samples: 10 ms, 25 ms, and 64 ms for F0, which 65 Hz needs
_FRAMES_PER_SECOND = SAMPLE_RATE / _HOP
_F0_MIN, _F0_MAX = 65.0, 500.0  # Hz
_FLOOR_DB = -100.0


@dataclass(frozen=True)
class LiteAudio(Extractor):
    """Mean and standard deviation over time of 20 MFCCs, their deltas, double deltas and 40 log-mel bands; prosody."""

    modality = "audio"
    kind = "lite"
    version = 1

    @property
    def dim(self) -> int:
        return 2 * (3 * MFCCS + MELS) + len(PROSODY)

    def prepare(self, raw: np.ndarray) -> Prepared:
        """raw: `[T]` float32 at `SAMPLE_RATE`."""
        if len(raw) < _FFT:
            reason = f"{1000 * len(raw) / SAMPLE_RATE:.1f} ms of sound, less than one window of 32 ms"
            return Prepared(payload=None, status="degraded", reason=reason)
        return Prepared(payload=describe(raw))


def describe(wave: np.ndarray) -> np.ndarray:
    """Returns `[D]` float32, all finite, of a waveform `[T]` of at least one window."""
    wave = wave - wave.mean()  # a constant offset of the microphone would pass for energy and a period
    power = librosa.feature.melspectrogram(
        y=wave, sr=SAMPLE_RATE, n_fft=_FFT, win_length=_WINDOW, hop_length=_HOP, n_mels=MELS, fmin=20.0
    )
    log_mel = librosa.power_to_db(power, ref=1.0, amin=10 ** (_FLOOR_DB / 10), top_db=80.0)
    mfcc = librosa.feature.mfcc(S=log_mel, n_mfcc=MFCCS)
    # `nearest` also works where there are fewer frames than the 9 of the regression.
    deltas = [librosa.feature.delta(mfcc, order=order, mode="nearest") for order in (1, 2)]
    tracks = np.concatenate([mfcc, *deltas, log_mel])
    return np.concatenate([tracks.mean(axis=1), tracks.std(axis=1), _prosody(wave)]).astype(np.float32)


def _prosody(wave: np.ndarray) -> np.ndarray:
    """The figures of `PROSODY`: F0 in log2 Hz, energy in dB, slopes a second, pauses as shares of the time."""
    rms = librosa.feature.rms(y=wave, frame_length=_WINDOW, hop_length=_HOP)[0]
    energy = np.maximum(20 * np.log10(np.maximum(rms, 1e-10)), _FLOOR_DB)
    # Speech lies within 30 dB of the loud parts; what stays below -60 dBFS is no speech however quiet the rest.
    loud = energy > max(np.percentile(energy, 95) - 30, -60)
    f0, periodic = _f0(wave)
    voiced = loud & periodic
    pitch = np.log2(f0[voiced])
    steps = np.abs(np.diff(np.log2(f0)))[voiced[1:] & voiced[:-1]]
    seconds = len(wave) / SAMPLE_RATE
    pauses = _runs(~loud)
    peaks, _ = find_peaks(energy, height=np.percentile(energy, 95) - 20, prominence=3, distance=10)
    return np.array([
        *_spread(pitch),
        _slope(np.flatnonzero(voiced), pitch),
        steps.mean() if len(steps) else 0.0,
        voiced.mean(),
        *_spread(energy),
        _slope(np.arange(len(energy)), energy),
        len(peaks) / seconds,
        np.log(seconds),
        1 - loud.mean(),
        (pauses >= 0.2 * _FRAMES_PER_SECOND).sum() / seconds,
        pauses.max(initial=0) / len(loud),
    ])  # fmt: skip


def _f0(wave: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """F0 in Hz of every frame by YIN (de Cheveigne & Kawahara 2002), and whether the frame repeats with that period."""
    f0 = librosa.yin(wave, fmin=_F0_MIN, fmax=_F0_MAX, sr=SAMPLE_RATE, frame_length=_YIN, hop_length=_HOP)
    frames = librosa.util.frame(np.pad(wave, _YIN // 2), frame_length=_YIN, hop_length=_HOP).T
    lag = np.rint(SAMPLE_RATE / f0).astype(int)
    length = _YIN - int(np.ceil(SAMPLE_RATE / _F0_MIN)) - 1
    later = np.take_along_axis(frames, lag[:, None] + np.arange(length), axis=1)
    frames = frames[:, :length]
    product = np.einsum("nt,nt->n", frames, later)
    scale = np.einsum("nt,nt->n", frames, frames) * np.einsum("nt,nt->n", later, later)
    return f0, product > 0.6 * np.sqrt(scale) + 1e-10


def _spread(x: np.ndarray) -> tuple[float, float, float]:
    """Mean, standard deviation, and range without the outer 5 % at either end; zeros of nothing."""
    if not len(x):
        return 0.0, 0.0, 0.0
    low, high = np.percentile(x, (5, 95))
    return float(x.mean()), float(x.std()), float(high - low)


def _slope(frame: np.ndarray, x: np.ndarray) -> float:
    """Slope of the least-squares line through `x` at `frame`, a second; 0 where there is no line."""
    if len(x) < 3:
        return 0.0
    centred = frame - frame.mean()
    return float(centred @ x / (centred @ centred) * _FRAMES_PER_SECOND)


def _runs(mask: np.ndarray) -> np.ndarray:
    """Lengths of the runs of True."""
    edges = np.flatnonzero(np.diff(np.pad(mask.astype(np.int8), 1)))
    return edges[1::2] - edges[::2]
