"""Acoustic features that need no learned weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.signal import find_peaks

from jmer.base.types import SAMPLE_RATE, Media
from jmer.features.extractor import Encoded, Extractor, Prepared
from jmer.features.pooling import shortened
from jmer.media.sound import librosa

PARTS = ("mfcc", "logmel", "prosody")
MFCCS, MELS = 20, 40
PROSODY = (
    *("f0_mean", "f0_std", "f0_range", "f0_slope", "f0_change", "voiced", "jitter", "shimmer"),
    *("energy_mean", "energy_std", "energy_range", "energy_slope"),
    *("peak_rate", "log_seconds", "pause", "pause_rate", "longest_pause"),
)

_HOP, _WINDOW, _FFT, _YIN = 160, 400, 512, 1024  # samples: 10 ms, 25 ms, and 64 ms for F0, which 65 Hz needs
_FRAMES_PER_SECOND = SAMPLE_RATE / _HOP
_F0_MIN, _F0_MAX = 65.0, 500.0  # Hz
_FLOOR_DB = -100.0


@dataclass(frozen=True)
class LiteAudio(Extractor):
    """Mean and standard deviation over time of 20 MFCCs, their deltas, double deltas and 40 log-mel bands; prosody.

    A sequence has those tracks frame by frame, every 10 ms, and of prosody F0 (log2 Hz, 0 where unvoiced), voicing and
    energy (dB).
    """

    modality = "audio"
    kind = "lite"
    version = 2
    parts: ClassVar[tuple[str, ...]] = PARTS

    @property
    def dim(self) -> int:
        sizes = {"mfcc": 2 * 3 * MFCCS, "logmel": 2 * MELS, "prosody": len(PROSODY)}
        return sum(sizes[part] for part in self.parts)

    @property
    def frame_dim(self) -> int:
        return sum({"mfcc": 3 * MFCCS, "logmel": MELS, "prosody": 3}[part] for part in self.parts)

    def prepare(self, raw: Media) -> Prepared:
        assert raw.wave is not None
        if len(raw.wave) < _FFT:
            reason = f"{1000 * len(raw.wave) / SAMPLE_RATE:.1f} ms of sound, less than one window of 32 ms"
            return Prepared(payload=None, status="degraded", reason=reason)
        vector, frames = describe(raw.wave, parts=self.parts)
        sequence = shortened(frames, self.sequence_frames) if self.sequence_frames else None
        return Prepared(payload=Encoded(vector, sequence))

    def encode(self, payloads: Sequence[Encoded], *, exact: bool = False) -> list[Encoded]:
        return list(payloads)


@dataclass(frozen=True)
class MFCC(LiteAudio):
    """MFCCs with their deltas and double deltas alone."""

    kind = "mfcc"
    parts = ("mfcc",)


@dataclass(frozen=True)
class LogMel(LiteAudio):
    """The log-mel spectrogram alone."""

    kind = "logmel"
    parts = ("logmel",)


@dataclass(frozen=True)
class Prosody(LiteAudio):
    """Prosody alone: pitch, voicing, jitter, shimmer, energy, rate and pauses."""

    kind = "prosody"
    parts = ("prosody",)


def describe(wave: np.ndarray, *, parts: Sequence[str] = PARTS) -> tuple[np.ndarray, np.ndarray]:
    """Returns the vector `[D]` float32 and the frames `[T, D']`, all finite, of a waveform of at least one window."""
    wave = wave - wave.mean()  # a constant offset of the microphone would pass for energy and a period
    tracks = _spectral(wave, parts)
    figures = [statistic for axis in (np.mean, np.std) for track in tracks for statistic in axis(track, axis=1)]
    if "prosody" in parts:
        prosody, prosodic = _prosody(wave)
        figures, tracks = [*figures, *prosody], [*tracks, prosodic]
    length = min(track.shape[1] for track in tracks)  # windows of other lengths end otherwise
    return np.array(figures, np.float32), np.concatenate([track[:, :length] for track in tracks]).T


def _spectral(wave: np.ndarray, parts: Sequence[str]) -> list[np.ndarray]:
    """Tracks `[D', T]` of the spectrum."""
    if not {"mfcc", "logmel"} & set(parts):
        return []
    power = librosa().feature.melspectrogram(
        y=wave, sr=SAMPLE_RATE, n_fft=_FFT, win_length=_WINDOW, hop_length=_HOP, n_mels=MELS, fmin=20.0
    )
    log_mel = librosa().power_to_db(power, ref=1.0, amin=10 ** (_FLOOR_DB / 10), top_db=80.0)
    tracks = []
    if "mfcc" in parts:
        mfcc = librosa().feature.mfcc(S=log_mel, n_mfcc=MFCCS)
        # `nearest` also works where there are fewer frames than the 9 of the regression.
        tracks = [mfcc, *(librosa().feature.delta(mfcc, order=order, mode="nearest") for order in (1, 2))]
    return [*tracks, log_mel] if "logmel" in parts else tracks


def _prosody(wave: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The figures of `PROSODY`, and the tracks F0, voicing and energy `[3, T]`.

    F0 is in log2 Hz, energy in dB, slopes a second, pauses are shares of the time, jitter and shimmer of the mean.
    """
    rms = librosa().feature.rms(y=wave, frame_length=_WINDOW, hop_length=_HOP)[0]
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
    figures = np.array([
        *_spread(pitch),
        _slope(np.flatnonzero(voiced), pitch),
        steps.mean() if len(steps) else 0.0,
        voiced.mean(),
        *_perturbation(wave, f0, voiced),
        *_spread(energy),
        _slope(np.arange(len(energy)), energy),
        len(peaks) / seconds,
        np.log(seconds),
        1 - loud.mean(),
        (pauses >= 0.2 * _FRAMES_PER_SECOND).sum() / seconds,
        pauses.max(initial=0) / len(loud),
    ])  # fmt: skip
    return figures, np.stack([np.where(voiced, np.log2(f0), 0), voiced, energy])


def _perturbation(wave: np.ndarray, f0: np.ndarray, voiced: np.ndarray) -> tuple[float, float]:
    """Jitter and shimmer: mean difference of one glottal cycle's length, and height, from the next, over the means.

    Cycles are found from peak to peak, each looked for where F0 puts it (the local measures of Boersma's Praat).
    """
    changes: list[np.ndarray] = []  # of length and height, [2, cycles]
    means: list[np.ndarray] = []
    edges = np.flatnonzero(np.diff(np.pad(voiced.astype(np.int8), 1)))
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        times, heights = _peaks(wave, f0, start, end)
        if len(times) > 3:
            cycles = np.stack([np.diff(times), heights[1:]])
            changes.append(np.abs(np.diff(cycles)))
            means.append(cycles)
    if not changes:
        return 0.0, 0.0
    jitter, shimmer = np.concatenate(changes, axis=1).mean(axis=1) / np.concatenate(means, axis=1).mean(axis=1)
    return float(jitter), float(shimmer)


def _peaks(wave: np.ndarray, f0: np.ndarray, start: int, end: int) -> tuple[np.ndarray, np.ndarray]:
    """Times (in samples, between them too) and heights of the peaks, a period apart, of the voiced frames from `start`.

    Of the two signs of the wave, the one with the higher peaks is followed.
    """
    low, high = start * _HOP, min(end * _HOP, len(wave))
    if wave[low:high].max(initial=0) < -wave[low:high].min(initial=0):
        wave = -wave
    times, heights = [], []
    at = low + int(np.argmax(wave[low : low + int(SAMPLE_RATE / f0[start]) + 1]))
    while 0 < at < min(high, len(wave) - 1):
        before, here, after = wave[at - 1 : at + 2]
        bend = before - 2 * here + after
        shift = 0.5 * (before - after) / bend if bend < 0 else 0.0  # vertex of the parabola through the three
        times.append(at + shift)
        heights.append(here - 0.25 * (before - after) * shift)
        period = SAMPLE_RATE / f0[min(at // _HOP, len(f0) - 1)]
        first = at + round(0.8 * period)
        if first >= len(wave) - 1:
            break
        at = first + int(np.argmax(wave[first : at + round(1.2 * period) + 1]))
    return np.array(times), np.array(heights)


def _f0(wave: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """F0 in Hz of every frame by YIN (de Cheveigne & Kawahara 2002), and whether the frame repeats with that period."""
    f0 = librosa().yin(wave, fmin=_F0_MIN, fmax=_F0_MAX, sr=SAMPLE_RATE, frame_length=_YIN, hop_length=_HOP)
    frames = librosa().util.frame(np.pad(wave, _YIN // 2), frame_length=_YIN, hop_length=_HOP).T
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
