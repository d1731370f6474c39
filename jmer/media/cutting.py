"""Cuts a recording into its utterances while it is decoded once, from its start to its end."""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.error import FFmpegError
from jaxtyping import Float32

from jmer.base.types import SAMPLE_RATE, Media, Utterance
from jmer.media.collecting import SILENCED, FramePicker, Sound
from jmer.media.container import Scan, is_sound_only, open_clip, packets_of, scan_of, streams_of
from jmer.media.guards import MOST_SECONDS, MediaError

_TOLERANCE = 0.1  # seconds by which times in a file may be wrong without being damage
_LAG = 30.0  # seconds after which a track that gives nothing more is not waited for


class Part(NamedTuple):
    """A part of a recording, in seconds from its start; `end` is greater than `start`."""

    start: float
    end: float


def part_of(utterance: Utterance) -> Part | None:
    """Returns the part of its clip that an utterance is; None where it is the whole clip."""
    if utterance.start is None or utterance.end is None:
        return None
    return Part(utterance.start, utterance.end)


def cut(
    path: Path,
    parts: Sequence[Part],
    *,
    frames: Callable[[float], int],
    scanned: Callable[[float], object] = lambda seconds: None,
) -> Iterator[tuple[int, Media | MediaError]]:
    """Yields the number of each part and what was decoded of it, as soon as the recording has been read beyond it.

    Parts may overlap, and come in any order. Only those that have begun are held in memory. A part of which nothing can
    be decoded comes as the error that says why.

    Args:
      frames: gives the number of frames for the seconds of a part, as in `jmer.media.decoding.decode`. If it gives 0
        for every part, the video track is not decoded.
      scanned: is told the duration of the recording in seconds before anything is decoded.

    Raises:
      MediaError: the file cannot be opened.
    """
    with open_clip(path) as container:
        scan = scan_of(container, streams_of(container))
    scanned(scan.seconds)
    cuts = (_Cut(number, part, scan, frames) for number, part in enumerate(parts))
    waiting = deque(sorted(cuts, key=lambda cut: cut.start))  # the only ones that hold the cuts, and so their frames
    pictures = any(cut.count for cut in waiting)
    begun: list[_Cut] = []
    with open_clip(path) as container:
        sound_only = is_sound_only(container)
        streams = [s for s in streams_of(container) if s.type == "audio" or pictures]
        reader = _Reader(scan, {stream.type for stream in streams})
        try:
            for packet in packets_of(container, streams):
                for frame, time in reader.frames(packet):
                    while waiting and waiting[0].start <= time:
                        begun.append(waiting.popleft())
                        begun[-1].begin(reader)
                    reader.take(frame, time, begun)
                over = [cut for cut in begun if cut.end <= reader.front]
                for cut in over:
                    begun.remove(cut)
                    yield cut.number, cut.result(reader, sound_only=sound_only)
                first = [waiting[0].start] if waiting else []  # they wait in the order of their starts
                reader.forget(before=min([*first, *(cut.start for cut in begun)], default=np.inf))
            reader.finish()
        except MediaError as error:
            yield from ((cut.number, error) for cut in (*begun, *waiting))
            return
    yield from ((cut.number, cut.result(reader, sound_only=sound_only)) for cut in (*begun, *waiting))


class _Reader:
    """Decodes packets, and holds the sound that parts still need.

    kinds: the tracks that are decoded, out of `audio` and `video`.
    bad: how many packets and frames were damaged so far.
    pieces: how many frames of sound came so far.
    latest: the last video frame and its time.
    """

    def __init__(self, scan: Scan, kinds: set[str]) -> None:
        self.kinds = kinds
        self.bad: Counter[str] = Counter()
        self.pieces = 0
        self.latest: tuple[av.VideoFrame, float] | None = None
        self._clock = scan.clock()
        self._zero = scan.start
        self._sound = Sound()
        self._held: deque[tuple[int, np.ndarray]] = deque()  # the number of the first sample, samples
        self._samples = 0  # since the start of the recording
        self._reached = dict.fromkeys(kinds, scan.start)

    @property
    def front(self) -> float:
        """The time up to which every track that goes on has been decoded, on the file's clock."""
        times = self._reached.values()
        return max(min(times), max(times) - _LAG) if times else np.inf

    def frames(self, packet: av.Packet) -> Iterator[tuple[av.VideoFrame | av.AudioFrame, float]]:
        """Yields the frames of a packet with their times on the file's clock."""
        try:
            decoded = packet.decode()
        except FFmpegError:
            self.bad["packets could not be decoded"] += 1
            return
        for frame in decoded:
            if isinstance(frame, av.VideoFrame):
                self.bad["video frames are damaged"] += frame.is_corrupt
                yield frame, self._clock(frame)
            elif isinstance(frame, av.AudioFrame):
                yield frame, self._sound_end if frame.time is None else frame.time

    def take(self, frame: av.VideoFrame | av.AudioFrame, time: float, begun: "Sequence[_Cut]") -> None:
        """Gives a frame to the parts that have begun."""
        if isinstance(frame, av.VideoFrame):
            for cut in begun:
                cut.picker.add(frame, time)
            self.latest = frame, time
            self._reached["video"] = time
            return
        gap = round((time - self._sound_end) * SAMPLE_RATE)
        if gap > (_TOLERANCE * SAMPLE_RATE if self._samples else 0):  # the track has a hole, or begins late
            if gap > MOST_SECONDS * SAMPLE_RATE:
                raise MediaError(f"has a hole of {gap / SAMPLE_RATE:.0f} s in its sound")
            self._hold(self._sound.wave())
            self._hold(np.zeros(gap, np.float32))
        self._sound.add(frame)
        self.pieces, self.bad[SILENCED] = self._sound.pieces, self._sound.silenced
        self._hold(self._sound.drained())
        self._reached["audio"] = self._sound_end

    def finish(self) -> None:
        """Takes the sound that the resampler still holds."""
        self._hold(self._sound.wave())

    def forget(self, *, before: float) -> None:
        """Drops the sound before a time on the file's clock."""
        while self._held and self._time(self._held[0][0] + len(self._held[0][1])) <= before:
            self._held.popleft()

    def sound(self, start: float, end: float) -> tuple[Float32[np.ndarray, " T"] | None, float]:
        """Returns the sound between two times on the file's clock, and when it begins; None where there is none."""
        first, last = (round((time - self._zero) * SAMPLE_RATE) for time in (start, end))
        pieces = [(max(at, first), x[max(first - at, 0) : max(last - at, 0)]) for at, x in self._held]
        pieces = [(at, x) for at, x in pieces if len(x)]
        return (np.concatenate([x for _, x in pieces]), self._time(pieces[0][0])) if pieces else (None, start)

    @property
    def _sound_end(self) -> float:
        return self._time(self._samples)

    def _time(self, sample: int) -> float:
        return self._zero + sample / SAMPLE_RATE

    def _hold(self, samples: np.ndarray | None) -> None:
        if samples is not None:
            self._held.append((self._samples, samples))
            self._samples += len(samples)


class _Cut:
    """A part that is being decoded. Its times are on the file's clock.

    count: the number of frames that are wanted.
    """

    def __init__(self, number: int, part: Part, scan: Scan, frames: Callable[[float], int]) -> None:
        self.number, self.scan = number, scan
        self.start, self.end = scan.start + part.start, scan.start + part.end
        self._last = min(self.end, scan.start + scan.seconds)
        self.count = frames(self._last - self.start) if self.start < self._last else 0
        self.picker = FramePicker(count=self.count, start=self.start, end=self._last)
        self._bad_before: Counter[str] = Counter()
        self._pieces_before = 0

    def begin(self, reader: _Reader) -> None:
        """Begins with the frame that is on show."""
        self._bad_before, self._pieces_before = reader.bad.copy(), reader.pieces
        if reader.latest is not None:
            self.picker.add(*reader.latest)

    def result(self, reader: _Reader, *, sound_only: bool) -> Media | MediaError:
        """Returns what was decoded."""
        whole = self.scan.seconds
        if self.start >= self._last:
            return MediaError(f"begins after the end of the recording, which lasts {whole:.1f} s")
        wave, zero = reader.sound(self.start, self.end)
        frames = self.picker.frames()
        bad = reader.bad - self._bad_before
        if wave is not None and 0 < bad[SILENCED] == reader.pieces - self._pieces_before:
            wave = wave[:0]  # silence in place of what the recording does not hold
        damage = [f"{count} {what}" for what, count in bad.items()]
        if self.picker.damage:
            damage.append(self.picker.damage)
        if self.end - self._last > _TOLERANCE:
            damage.append(f"goes beyond the end of the recording, which lasts {whole:.1f} s")
        seconds = self._last - self.start
        heard = 0.0 if wave is None else len(wave) / SAMPLE_RATE
        expected = min(seconds, self.scan.start + self.scan.audio_seconds - self.start)
        if "audio" in reader.kinds and heard < 0.95 * expected - _TOLERANCE:
            damage.append(f"{heard:.1f} of {expected:.1f} s of sound could be decoded")
        if "video" in reader.kinds and self.count and frames is None:
            damage.append("no video could be decoded")
        if wave is None and frames is None:
            return MediaError("; ".join(damage) or "holds no sound and no picture")
        return Media(
            wave=wave,
            frames=frames,
            frame_times=None if frames is None else np.array(self.picker.times) - zero,
            seconds=seconds,
            sound_only=sound_only,
            damage="; ".join(damage),
        )
