"""Audio features that need no learned weights: MFCCs, log-mel bands and prosody."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from jmer.base.types import SAMPLE_RATE, Media
from jmer.features.extractor import Encoded, Extractor, Prepared
from jmer.features.summary import shortened
from jmer.media.sound import compiled_librosa

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
_F0_FRAMES = 4096  # frames whose F0 is computed at once: they take 40 MB, and those of ten minutes would take 1 GB
_FLOOR_DB = -100.0


@dataclass(frozen=True, kw_only=True)
class LiteAudio(Extractor):
    """Statistics over time of 20 MFCCs with deltas and double deltas and of 40 log-mel bands, and prosody.

    The vector holds the mean and the standard deviation of each of these tracks, and the figures of `PROSODY`. A
    sequence holds the tracks themselves, a frame every 10 ms, followed by F0 (log2 Hz, 0 where unvoiced), voicing (0 or
    1) and energy (dB).

    parts: the groups of features, out of `PARTS`.
    """

    modality = "audio"
    kind = "lite"
    version = 2
    libraries = ("av", "librosa")
    parts: ClassVar[tuple[str, ...]] = PARTS

    @property
    def dim(self) -> int:
        sizes = {"mfcc": 2 * 3 * MFCCS, "logmel": 2 * MELS, "prosody": len(PROSODY)}
        return sum(sizes[part] for part in self.parts)

    @property
    def frame_dim(self) -> int:
        return sum({"mfcc": 3 * MFCCS, "logmel": MELS, "prosody": 3}[part] for part in self.parts)

    def load(self) -> None:
        compiled_librosa()

    def prepare(self, raw: Media) -> Prepared:
        """The payload is the `Encoded` result; `encode` passes it on."""
        assert raw.wave is not None
        if len(raw.wave) < _FFT:
            reason = f"{1000 * len(raw.wave) / SAMPLE_RATE:.1f} ms of sound, less than one window of 32 ms"
            return Prepared(payload=None, status="degraded", reason=reason)
        vector, frames = describe(raw.wave, parts=self.parts)
        sequence = shortened(frames, self.sequence_frames) if self.sequence_frames else None
        return Prepared(payload=Encoded(vector, sequence))

    def encode(self, payloads: Sequence[Encoded], *, exact: bool = False) -> list[Encoded]:
        return list(payloads)


@dataclass(frozen=True, kw_only=True)
class MFCC(LiteAudio):
    """The MFCCs of `LiteAudio` with their deltas and double deltas, alone."""

    kind = "mfcc"
    parts = ("mfcc",)


@dataclass(frozen=True, kw_only=True)
class LogMel(LiteAudio):
    """The log-mel bands of `LiteAudio` alone."""

    kind = "logmel"
    parts = ("logmel",)


@dataclass(frozen=True, kw_only=True)
class Prosody(LiteAudio):
    """The prosody of `LiteAudio` alone: pitch, voicing, jitter, shimmer, energy, rate and pauses."""

    kind = "prosody"
    parts = ("prosody",)


def describe(
    wave: Float[np.ndarray, " T"], *, parts: Sequence[str] = PARTS
) -> tuple[Float32[np.ndarray, " D"], Float[np.ndarray, "T_frames D_frame"]]:
    """Returns the vector and the frames of a waveform, all finite.

    Args:
      wave: at `SAMPLE_RATE`, at least 32 ms long.
      parts: out of `PARTS`; each part is the same whichever others are asked for.
    """
    wave = wave - wave.mean()  # a constant offset of the microphone would count as energy, and as periodic
    tracks = _spectral(wave, parts)
    figures = [statistic for axis in (np.mean, np.std) for track in tracks for statistic in axis(track, axis=1)]
    if "prosody" in parts:
        prosody, prosodic = _prosody(wave)
        figures, tracks = [*figures, *prosody], [*tracks, prosodic]
    length = min(track.shape[1] for track in tracks)  # tracks with other windows may have one frame more
    return np.array(figures, np.float32), np.concatenate([track[:, :length] for track in tracks]).T


def _spectral(wave: Float[np.ndarray, " T"], parts: Sequence[str]) -> list[np.ndarray]:
    """Returns tracks of the spectrum: MFCCs with deltas `[20, T']` each, and log-mel bands `[40, T']`."""
    if not {"mfcc", "logmel"} & set(parts):
        return []
    power = compiled_librosa().feature.melspectrogram(
        y=wave, sr=SAMPLE_RATE, n_fft=_FFT, win_length=_WINDOW, hop_length=_HOP, n_mels=MELS, fmin=20.0
    )
    log_mel = compiled_librosa().power_to_db(power, ref=1.0, amin=10 ** (_FLOOR_DB / 10), top_db=80.0)
    tracks = []
    if "mfcc" in parts:
        mfcc = compiled_librosa().feature.mfcc(S=log_mel, n_mfcc=MFCCS)
        # The mode `nearest` also works with fewer frames than the 9 of the regression.
        tracks = [mfcc, *(compiled_librosa().feature.delta(mfcc, order=order, mode="nearest") for order in (1, 2))]
    return [*tracks, log_mel] if "logmel" in parts else tracks


def _prosody(wave: Float[np.ndarray, " T"]) -> tuple[Float[np.ndarray, " 17"], Float[np.ndarray, "3 T_frames"]]:
    """Returns the figures of `PROSODY`, and the tracks F0, voicing and energy.

    F0 is in log2 Hz and energy in dB; slopes are per second; `pause` and `longest_pause` are shares of the duration;
    jitter and shimmer are relative to the mean length and height of a cycle.
    """
    from scipy.signal import find_peaks  # takes a second to import, which reading a command's options must not

    rms = compiled_librosa().feature.rms(y=wave, frame_length=_WINDOW, hop_length=_HOP)[0]
    energy = np.maximum(20 * np.log10(np.maximum(rms, 1e-10)), _FLOOR_DB)
    # Speech lies within 30 dB of the loud parts. Below -60 dBFS nothing is speech, however quiet the whole clip is.
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


def _perturbation(
    wave: Float[np.ndarray, " T"], f0: Float[np.ndarray, " T_frames"], voiced: Bool[np.ndarray, " T_frames"]
) -> tuple[float, float]:
    """Returns jitter and shimmer, the local measures of Praat (Boersma); zeros where no voice is long enough.

    Jitter is the mean difference between the lengths of successive glottal cycles, relative to the mean length; shimmer
    is the same of their heights. A cycle runs from peak to peak; each peak is looked for where F0 predicts it.
    """
    changes: list[np.ndarray] = []  # differences of lengths and heights, [2, cycles - 1] each
    means: list[np.ndarray] = []  # lengths and heights, [2, cycles] each
    edges = np.flatnonzero(np.diff(np.pad(voiced.astype(np.int8), 1))).tolist()
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


def _peaks(
    wave: Float[np.ndarray, " T"], f0: Float[np.ndarray, " T_frames"], start: int, end: int
) -> tuple[Float[np.ndarray, " peaks"], Float[np.ndarray, " peaks"]]:
    """Returns times and heights of the wave's peaks, one in each period, within the voiced frames `start` to `end`.

    Times are in samples and not whole numbers. The wave is turned over where its troughs are deeper than its peaks are
    high.
    """
    low, high = start * _HOP, min(end * _HOP, len(wave))
    if low >= len(wave):  # the last frame is centred on the end of the wave
        return np.zeros(0), np.zeros(0)
    if wave[low:high].max(initial=0) < -wave[low:high].min(initial=0):
        wave = -wave
    times, heights = [], []
    at = low + int(np.argmax(wave[low : low + int(SAMPLE_RATE / f0[start]) + 1]))
    while 0 < at < min(high, len(wave) - 1):
        before, here, after = wave[at - 1 : at + 2]
        bend = before - 2 * here + after
        shift = 0.5 * (before - after) / bend if bend < 0 else 0.0  # the vertex of a parabola
        times.append(at + shift)
        heights.append(here - 0.25 * (before - after) * shift)
        period = SAMPLE_RATE / f0[min(at // _HOP, len(f0) - 1)]
        first = at + round(0.8 * period)
        if first >= len(wave) - 1:
            break
        at = first + int(np.argmax(wave[first : at + round(1.2 * period) + 1]))
    return np.array(times), np.array(heights)


def _f0(wave: Float[np.ndarray, " T"]) -> tuple[Float[np.ndarray, " T_frames"], Bool[np.ndarray, " T_frames"]]:
    """Returns F0 of every frame in Hz by YIN (de Cheveigne & Kawahara 2002), and whether the frame has that period."""
    wave = np.pad(wave, _YIN // 2)
    count = 1 + (len(wave) - _YIN) // _HOP
    parts = [
        _f0_of(wave[first * _HOP : (min(first + _F0_FRAMES, count) - 1) * _HOP + _YIN])
        for first in range(0, count, _F0_FRAMES)
    ]
    f0, periodic = (np.concatenate(each) for each in zip(*parts, strict=True))
    return f0, periodic


def _f0_of(wave: Float[np.ndarray, " T"]) -> tuple[Float[np.ndarray, " T_frames"], Bool[np.ndarray, " T_frames"]]:
    """As `_f0`, of the frames that lie within the wave."""
    librosa = compiled_librosa()
    f0 = librosa.yin(wave, fmin=_F0_MIN, fmax=_F0_MAX, sr=SAMPLE_RATE, frame_length=_YIN, hop_length=_HOP, center=False)
    frames = librosa.util.frame(wave, frame_length=_YIN, hop_length=_HOP).T
    lag = np.rint(SAMPLE_RATE / f0).astype(int)
    length = _YIN - int(np.ceil(SAMPLE_RATE / _F0_MIN)) - 1
    later = np.take_along_axis(frames, lag[:, None] + np.arange(length), axis=1)
    frames = frames[:, :length]
    product = np.einsum("nt,nt->n", frames, later)
    scale = np.einsum("nt,nt->n", frames, frames) * np.einsum("nt,nt->n", later, later)
    return f0, product > 0.6 * np.sqrt(scale) + 1e-10


def _spread(x: Float[np.ndarray, " K"]) -> tuple[float, float, float]:
    """Returns mean, standard deviation and the range from the 5th to the 95th percentile; zeros where K is 0."""
    if not len(x):
        return 0.0, 0.0, 0.0
    low, high = np.percentile(x, (5, 95))
    return float(x.mean()), float(x.std()), float(high - low)


def _slope(frame: Int[np.ndarray, " K"], x: Float[np.ndarray, " K"]) -> float:
    """Returns the slope, per second, of the least-squares line through `x` at these frames; 0 for fewer than three."""
    if len(x) < 3:
        return 0.0
    centred = frame - frame.mean()
    return float(centred @ x / (centred @ centred) * _FRAMES_PER_SECOND)


def _runs(mask: Bool[np.ndarray, " K"]) -> Int[np.ndarray, " runs"]:
    """Returns the lengths of the runs of True."""
    edges = np.flatnonzero(np.diff(np.pad(mask.astype(np.int8), 1)))
    return edges[1::2] - edges[::2]
