"""Collects the sound and the frames of a clip while it is decoded."""

import av
import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from jmer.base.types import SAMPLE_RATE


class Sound:
    """Collects an audio track as 16 kHz mono.

    start: the time of the first sample, in seconds on the file's clock; None if the file does not give it.
    """

    def __init__(self) -> None:
        self.start: float | None = None
        self._resampler = None
        self._setup: tuple = ()
        self._chunks: list[np.ndarray] = []

    def add(self, frame: av.AudioFrame) -> None:
        setup = (frame.format.name, frame.layout.name, frame.sample_rate)
        if not self._setup:
            self.start = frame.time
        if setup != self._setup or self._resampler is None:  # the format may change within a track
            self._flush()
            # The format is integer, because for floats FFmpeg adds the channels without scaling. Stereo would then
            # be 1.4 times as loud as mono, and clip.
            self._resampler = av.AudioResampler(format="s32", layout="mono", rate=SAMPLE_RATE)
            self._setup = setup
        self._resample(frame)

    def wave(self) -> Float32[np.ndarray, " T"] | None:
        """Returns the track with values in [-1, 1]; None if there was no sound."""
        self._flush()
        return self.drained()

    def drained(self) -> Float32[np.ndarray, " T"] | None:
        """Returns what has been collected, and forgets it; None if there was nothing."""
        chunks, self._chunks = self._chunks, []
        return np.concatenate(chunks) if chunks else None

    def _flush(self) -> None:
        if self._resampler is not None:
            self._resample(None)
            self._resampler = None

    def _resample(self, frame: av.AudioFrame | None) -> None:
        assert self._resampler is not None
        for out in self._resampler.resample(frame):
            if out.samples:
                self._chunks.append((out.to_ndarray()[0] / 2.0**31).astype(np.float32))


class FramePicker:
    """Is shown the frames of a video track, and keeps those on show at `count` evenly spaced times.

    times: when each kept frame appeared, in seconds on the file's clock.
    """

    def __init__(self, *, count: int, start: float, end: float) -> None:
        """start, end: of the part of the track that is divided into `count` equal parts; the middle of each is a time
        at which a frame is wanted.
        """
        share = (end - start) / max(count, 1)
        self._wanted = [start + (index + 0.5) * share for index in range(count)]
        self._latest: av.VideoFrame | None = None
        self._latest_time = 0.0
        self.times: list[float] = []
        self._picked: list[np.ndarray] = []

    def add(self, frame: av.VideoFrame, time: float) -> None:
        """Takes the next frame, and the time at which it appears."""
        self._pick(before=time - 1e-4)  # a frame that appears at a wanted time, up to rounding, is taken for that time
        self._latest, self._latest_time = frame, time

    def frames(self) -> UInt8[np.ndarray, "F height width 3"] | None:
        """Returns `count` RGB frames; None if the track had none."""
        self._pick(before=np.inf)
        return np.stack(self._picked) if self._picked else None

    def _pick(self, *, before: float) -> None:
        """Keeps the latest frame once for every wanted time before `before`, when the next frame appears."""
        due = sum(time < before for time in self._wanted[len(self._picked) :])
        if self._latest is not None and due:
            self._picked += [self._rgb(self._latest)] * due
            self.times += [self._latest_time] * due

    def _rgb(self, frame: av.VideoFrame) -> UInt8[np.ndarray, "height width 3"]:
        """Converts a frame to RGB, upright and in the size of the first frame that was kept."""
        pixels = np.rot90(
            frame.to_ndarray(format="rgb24"), round(frame.rotation / 90)
        )  # phones store pictures sideways
        if self._picked and pixels.shape != self._picked[0].shape:  # the size may change within a track
            height, width = self._picked[0].shape[:2]
            pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
        return pixels
