"""Collects the sound and the frames of a clip while it is decoded."""

import av
import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from jmer.base.types import SAMPLE_RATE
from jmer.media import guards

_FLOATS = ("flt", "fltp", "dbl", "dblp")  # FFmpeg's formats of samples that may be no numbers, or of any size

SILENCED = "pieces of sound are silenced: their samples are not numbers, or far beyond full scale"


class Sound:
    """Collects an audio track as 16 kHz mono.

    start: the time of the first sample, in seconds on the file's clock; None if the file does not give it.
    pieces: how many frames of sound came.
    silenced: how many of them held samples that no sound has. They became silence.
    seconds: how long the frames last together.
    """

    def __init__(self) -> None:
        self.start: float | None = None
        self.pieces = self.silenced = 0
        self.seconds = 0.0
        self._resampler = None
        self._setup: tuple = ()
        self._chunks: list[np.ndarray] = []

    def add(self, frame: av.AudioFrame) -> None:
        """Takes the next frame. Raises MediaError if its rate is out of bounds."""
        guards.check_rate(frame.sample_rate)
        self.pieces += 1
        self.seconds += frame.samples / max(frame.sample_rate, 1)
        if frame.format.name in _FLOATS and not np.abs(frame.to_ndarray()).max(initial=0) <= guards.LOUDEST:
            self.silenced += 1
            for plane in frame.planes:
                plane.update(bytes(plane.buffer_size))
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
        """Returns the track with values in [-1, 1]; None if there was no sound, empty if all of it was silenced."""
        self._flush()
        wave = self.drained()
        return wave[:0] if wave is not None and self.silenced == self.pieces else wave

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

    Frames that would take more than `guards.MOST_FRAME_BYTES` together are scaled down.

    times: when each kept frame appeared, in seconds on the file's clock.
    damage: a phrase on frames that are kept at less than half their size; empty otherwise.
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
        self.damage = ""
        self._picked: np.ndarray | None = None  # `[count, height, width, 3]`, of which as many as `times` are filled

    def add(self, frame: av.VideoFrame, time: float) -> None:
        """Takes the next frame, and the time at which it appears. Raises MediaError if the frame is too large."""
        guards.check_picture(frame.width, frame.height)
        self._pick(before=time - 1e-4)  # a frame that appears at a wanted time, up to rounding, is taken for that time
        self._latest, self._latest_time = frame, time

    def frames(self) -> UInt8[np.ndarray, "F height width 3"] | None:
        """Returns `count` RGB frames; None if the track had none."""
        self._pick(before=np.inf)
        return self._picked

    def _pick(self, *, before: float) -> None:
        """Keeps the latest frame once for every wanted time before `before`, when the next frame appears."""
        first = len(self.times)
        due = sum(time < before for time in self._wanted[first:])
        if self._latest is not None and due:
            pixels = self._rgb(self._latest)
            if self._picked is None:
                self._picked = np.empty((len(self._wanted), *pixels.shape), np.uint8)
            self._picked[first : first + due] = pixels
            self.times += [self._latest_time] * due

    def _rgb(self, frame: av.VideoFrame) -> UInt8[np.ndarray, "height width 3"]:
        """Converts a frame to RGB, upright and in the size of the first frame that was kept."""
        pixels = np.rot90(
            frame.to_ndarray(format="rgb24"), round(frame.rotation / 90)
        )  # phones store pictures sideways
        height, width = pixels.shape[:2] if self._picked is None else self._picked.shape[1:3]
        if self._picked is None:
            scale = (guards.MOST_FRAME_BYTES / (len(self._wanted) * pixels.size)) ** 0.5
            if scale < 1:
                whole = f"{width} x {height}"
                height, width = (max(1, int(side * scale)) for side in (height, width))
                if scale < 0.5:
                    self.damage = f"{len(self._wanted)} frames of {whole} pixels are kept as {width} x {height}"
        if pixels.shape[:2] != (height, width):  # the size may also change within a track
            pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
        return pixels
