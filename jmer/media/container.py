"""Opens clips, reads their packets, and measures their times. PyAV does the work and brings its own FFmpeg."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition

from jmer.media import guards
from jmer.media.guards import MediaError

# How PyAV opens a clip. A clip that is really a playlist must not make jmer read from the network. A title in another
# encoding than UTF-8 is no reason to refuse a clip; PyAV 19 does not refuse it, and has no option for it.
OPENING: Any = {"mode": "r", "options": {"protocol_whitelist": "file"}}
if int(av.__version__.partition(".")[0]) < 19:
    OPENING["metadata_errors"] = "replace"

# Formats whose header gives the true duration. Other headers give an estimate from the bit rate.
_EXACT_HEADERS = ("mov", "matroska", "wav", "flac", "avi")


def open_clip(path: Path) -> InputContainer:
    """Opens a clip.

    Raises:
      MediaError: the path leads to no file, the file has no video or audio stream that can be decoded, or a stream is
        beyond the bounds of `jmer.media.guards`.
    """
    guards.check_file(path)
    try:
        container = av.open(f"file:{path}", **OPENING)
    except FFmpegError as error:
        raise MediaError(f"cannot be opened: {error.strerror}") from error
    try:
        streams = streams_of(container)
        if is_picture(container) or not streams:
            raise MediaError("holds no video and no audio track that can be decoded")
        for stream in streams:
            if isinstance(stream, av.VideoStream):
                guards.check_picture(stream.codec_context.width, stream.codec_context.height)
            else:
                guards.check_rate(stream.codec_context.sample_rate)
    except BaseException:
        container.close()
        raise
    return container


def is_picture(container: InputContainer) -> bool:
    """Returns whether FFmpeg reads the file as a picture, or as text art."""
    return container.format.name.endswith("_pipe") or container.format.name in ("image2", "tty", "gif", "apng")


def is_sound_only(container: InputContainer) -> bool:
    """Returns whether the format is for sound alone, so that a missing video track is no damage."""
    name, brand = container.format.name, container.metadata.get("major_brand", "").strip()
    suffix = Path(container.name).suffix.lower()
    if name.startswith(("mov", "matroska", "ogg", "asf")):  # containers for both video and sound
        return brand in ("M4A", "M4B") or suffix in (".m4a", ".m4b", ".mka", ".ogg", ".oga", ".opus", ".spx", ".wma")
    return name in ("wav", "w64", "flac", "mp3", "aac", "ac3", "aiff", "caf", "au", "amr", "wv")


def streams_of(container: InputContainer) -> list[av.AudioStream | av.VideoStream]:
    """Returns the first decodable stream of each kind. A cover picture does not count as video."""
    chosen: list[av.AudioStream | av.VideoStream] = []
    for candidates in (container.streams.video, container.streams.audio):
        for stream in candidates:
            if stream.codec_context is not None and not stream.disposition & Disposition.attached_pic:
                stream.codec_context.thread_count = 1  # several processes decode clips at the same time
                chosen.append(stream)
                break
    return chosen


def packets_of(container: InputContainer, streams: list[av.AudioStream | av.VideoStream]) -> Iterator[av.Packet]:
    """Yields the packets of the streams. Raises MediaError if the file is too damaged to be read to its end."""
    try:
        yield from container.demux(*streams) if streams else ()
    except FFmpegError as error:
        raise MediaError(f"cannot be read to its end: {error.strerror}") from error
    except IndexError as error:  # PyAV raises it for a packet of a stream that the header does not have
        raise MediaError("cannot be read to its end: holds more streams than its header says") from error


@dataclass(frozen=True, kw_only=True)
class Scan:
    """Times in seconds, measured on the packets, since a header may be wrong.

    seconds: duration of the clip.
    promised: duration by the header; 0 if the header only estimates it.
    start: when the first track starts.
    audio_seconds: duration of the audio track.
    video_start, video_end: when the video track starts and ends.
    video_rate: frames a second, by the header.
    """

    seconds: float
    promised: float
    start: float
    audio_seconds: float
    video_start: float
    video_end: float
    video_rate: float

    def clock(self) -> Callable[[av.VideoFrame], float]:
        """Returns a function that is given every frame of the video track, in order, and returns its time."""
        passed = -1

        def time_of(frame: av.VideoFrame) -> float:
            nonlocal passed
            passed += 1
            # A format without timestamps has frames at an even rate.
            return self.video_start + passed / self.video_rate if frame.time is None else frame.time

        return time_of


def scan_of(container: InputContainer, streams: list, *, limit: float = float("inf")) -> Scan:
    """Reads the packets without decoding them, and stops once a track is longer than `limit` seconds."""
    first: dict[str, float] = {}
    last: dict[str, float] = {}
    video_packets = 0
    for packet in packets_of(container, streams):
        video_packets += packet.stream.type == "video" and packet.size > 0
        time = packet.dts if packet.pts is None else packet.pts
        if time is None or packet.is_discard:
            continue
        unit, kind = float(packet.time_base), packet.stream.type
        first[kind] = min(first.get(kind, np.inf), time * unit)
        last[kind] = max(last.get(kind, -np.inf), (time + (packet.duration or 0)) * unit)
        if last[kind] - first[kind] > limit:
            break
    header = (container.duration or 0) / 1e6
    rate = next((float(stream.average_rate or 25) for stream in streams if stream.type == "video"), 25.0)
    return Scan(
        seconds=max(last.values()) - min(first.values()) if last else video_packets / rate,
        promised=header if container.format.name.startswith(_EXACT_HEADERS) else 0.0,
        start=min(first.values(), default=0.0),
        audio_seconds=last["audio"] - first["audio"] if "audio" in last else 0.0,
        video_start=first.get("video", 0.0),
        video_end=last.get("video", video_packets / rate),
        video_rate=rate,
    )
