"""Decodes clips to a 16 kHz mono waveform and RGB frames. PyAV does the work and brings its own FFmpeg."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from jaxtyping import Float32, UInt8

from jmer.base.types import SAMPLE_RATE, Media


class MediaError(Exception):
    """The clip cannot be used. The message is a short phrase that gives the reason, without the file's name."""


class MiscutError(MediaError):
    """The clip can be read, but lasts longer than its utterance can."""


# ---- the kind of a file ----------------------------------------------------------------------------------------------

_MAGIC = (
    b"\x1a\x45\xdf\xa3",  # Matroska, WebM
    b"OggS",
    b"fLaC",
    b"ID3",
    b"\x00\x00\x01\xba",  # MPEG program stream
    b"\x00\x00\x01\xb3",  # MPEG video
    b"FLV",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # ASF: wmv, wma
    b"caff",
    b"#!AMR",
    b".snd",
    b"wvpk",
)
_BOXES = (b"ftyp", b"moov", b"mdat", b"moof", b"styp", b"wide", b"free", b"skip")  # MP4, QuickTime
_PICTURE_BRANDS = (b"heic", b"heix", b"avif", b"mif1")  # photographs, which have the same boxes
_PROBED = 1 << 20  # bytes
_OPTIONS = {"protocol_whitelist": "file"}  # a clip that is really a playlist must not make jmer read from the network


def is_media(path: Path) -> bool:
    """Returns whether the content of a file has a video or audio format. Its name does not matter.

    A damaged clip counts as media. A picture does not.
    """
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(1024)
        if head[4:8] in _BOXES:
            return head[8:12] not in _PICTURE_BRANDS
        if head[:4] in (b"RIFF", b"RF64", b"FORM"):
            return head[8:12] in (b"WAVE", b"AVI ", b"AIFF", b"AIFC")
        transport_stream = len(head) > 376 and head[0] == head[188] == head[376] == 0x47
        return transport_stream or head.startswith(_MAGIC) or _decodes(head + file.read(_PROBED))


def _decodes(head: bytes) -> bool:
    """Returns whether FFmpeg can decode a frame, as from raw MP3 or AAC. FFmpeg is not given a file name here."""
    try:
        with av.open(io.BytesIO(head), mode="r", options=_OPTIONS) as container:
            if _is_picture(container):
                return False
            return any(packet.decode() for packet in _packets(container, _streams(container)))
    except (FFmpegError, MediaError):
        return False


def _is_picture(container: InputContainer) -> bool:
    """Returns whether FFmpeg reads the file as a picture, or as text art."""
    return container.format.name.endswith("_pipe") or container.format.name in ("image2", "tty", "gif", "apng")


def _is_sound_only(container: InputContainer) -> bool:
    """Returns whether the format is for sound alone, so that a missing video track is no damage."""
    name, brand = container.format.name, container.metadata.get("major_brand", "").strip()
    suffix = Path(container.name).suffix.lower()
    if name.startswith(("mov", "matroska", "ogg", "asf")):  # containers for both video and sound
        return brand in ("M4A", "M4B") or suffix in (".m4a", ".m4b", ".mka", ".ogg", ".oga", ".opus", ".spx", ".wma")
    return name in ("wav", "w64", "flac", "mp3", "aac", "ac3", "aiff", "caf", "au", "amr", "wv")


# ---- reading ---------------------------------------------------------------------------------------------------------


def seconds(path: Path) -> float:
    """Returns the duration of a clip, by the file's header, or by its packets if the header has none.

    Nothing is decoded.

    Raises:
      MediaError: the file cannot be read.
    """
    with _open(path) as container:
        return container.duration / 1e6 if container.duration else _scan(container, _streams(container)).seconds


def decode(path: Path, *, frames: int | Callable[[float], int], max_seconds: float | None = None) -> Media:
    """Decodes a clip.

    Only the frames asked for are held in memory.

    frames: the number of frames to return, or a function that gives it for the seconds of the video track. The video
      track is divided into that many parts of equal length, and the frame on show in the middle of each is taken. A
      clip with fewer frames repeats some. With 0 the video track is not decoded.
    max_seconds: a longer clip is refused before anything is decoded.

    Returns: the decoded clip. Its `damage` names what could not be decoded.

    Raises:
      MiscutError: the clip is longer than `max_seconds`.
      MediaError: the file cannot be read, or nothing in it can be decoded.
    """
    limit = float("inf") if max_seconds is None else max_seconds
    with _open(path) as container:
        scan = _scan(container, _streams(container), limit=limit)
    seconds = max(scan.seconds, scan.promised)
    if seconds > limit:
        raise MiscutError(f"mis-cut clip: lasts {seconds:.1f} s where the utterance lasts at most {limit:.1f} s")

    sound = _Sound()
    count = frames(scan.video_end - scan.video_start) if callable(frames) else frames
    picker = _FramePicker(count=count, scan=scan)
    bad_packets = bad_frames = 0
    with _open(path) as container:  # opened again, since not every format can seek back to the start
        sound_only = _is_sound_only(container)
        streams = [stream for stream in _streams(container) if count or stream.type == "audio"]
        kinds = [stream.type for stream in streams]
        for packet in _packets(container, streams):
            try:
                decoded = packet.decode()
            except FFmpegError:
                bad_packets += 1
                continue
            for frame in decoded:
                if isinstance(frame, av.VideoFrame):
                    bad_frames += frame.is_corrupt
                    picker.add(frame)
                elif isinstance(frame, av.AudioFrame):
                    sound.add(frame)
    wave, pictures = sound.wave(), picker.frames()
    zero = scan.start if sound.start is None else sound.start
    audio_seconds = 0.0 if wave is None else len(wave) / SAMPLE_RATE

    damage = []
    if scan.seconds < 0.9 * scan.promised - 0.5:
        damage.append(f"ends after {scan.seconds:.1f} of {scan.promised:.1f} s")
    if bad_packets:
        damage.append(f"{bad_packets} packets could not be decoded")
    if bad_frames:
        damage.append(f"{bad_frames} video frames are damaged")
    if "video" in kinds and pictures is None:
        damage.append("no video could be decoded")
    if "audio" in kinds and audio_seconds < 0.95 * scan.audio_seconds - 0.1:
        damage.append(f"{audio_seconds:.1f} of {scan.audio_seconds:.1f} s of sound could be decoded")
    if kinds and wave is None and pictures is None:
        raise MediaError("; ".join(damage) or "holds no sound and no picture")
    return Media(
        wave=wave,
        frames=pictures,
        frame_times=None if pictures is None else np.array(picker.times) - zero,
        seconds=scan.seconds,
        sound_only=sound_only,
        damage="; ".join(damage),
    )


# Formats whose header gives the true duration. Other headers give an estimate from the bit rate.
_EXACT_HEADERS = ("mov", "matroska", "wav", "flac", "avi")


def _open(path: Path) -> InputContainer:
    """Opens a clip. Raises MediaError unless the file has a video or audio stream that can be decoded."""
    try:
        container = av.open(f"file:{path}", mode="r", options=_OPTIONS)
    except FFmpegError as error:
        raise MediaError(f"cannot be opened: {error.strerror}") from error
    if _is_picture(container) or not _streams(container):
        container.close()
        raise MediaError("holds no video and no audio track that can be decoded")
    return container


def _streams(container: InputContainer) -> list[av.AudioStream | av.VideoStream]:
    """Returns the first decodable stream of each kind. A cover picture does not count as video."""
    chosen: list[av.AudioStream | av.VideoStream] = []
    for candidates in (container.streams.video, container.streams.audio):
        for stream in candidates:
            if stream.codec_context is not None and not stream.disposition & Disposition.attached_pic:
                stream.codec_context.thread_count = 1  # several processes decode clips at the same time
                chosen.append(stream)
                break
    return chosen


def _packets(container: InputContainer, streams: list[av.AudioStream | av.VideoStream]) -> Iterator[av.Packet]:
    """Yields the packets of the streams. Raises MediaError if the file is too damaged to be read to its end."""
    try:
        yield from container.demux(*streams) if streams else ()
    except FFmpegError as error:
        raise MediaError(f"cannot be read to its end: {error.strerror}") from error
    except IndexError as error:  # PyAV raises it for a packet of a stream that the header does not have
        raise MediaError("cannot be read to its end: holds more streams than its header says") from error


@dataclass(frozen=True, kw_only=True)
class _Scan:
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


def _scan(container: InputContainer, streams: list, *, limit: float = float("inf")) -> _Scan:
    """Reads the packets without decoding them, and stops once a track is longer than `limit` seconds."""
    first: dict[str, float] = {}
    last: dict[str, float] = {}
    video_packets = 0
    for packet in _packets(container, streams):
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
    return _Scan(
        seconds=max(last.values()) - min(first.values()) if last else video_packets / rate,
        promised=header if container.format.name.startswith(_EXACT_HEADERS) else 0.0,
        start=min(first.values(), default=0.0),
        audio_seconds=last["audio"] - first["audio"] if "audio" in last else 0.0,
        video_start=first.get("video", 0.0),
        video_end=last.get("video", video_packets / rate),
        video_rate=rate,
    )


class _Sound:
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
        if setup != self._setup:  # the format may change within a track
            self._flush()
            # The format is integer, because for floats FFmpeg adds the channels without scaling. Stereo would then
            # be 1.4 times as loud as mono, and clip.
            self._resampler = av.AudioResampler(format="s32", layout="mono", rate=SAMPLE_RATE)
            self._setup = setup
        self._resample(frame)

    def wave(self) -> Float32[np.ndarray, " T"] | None:
        """Returns the track with values in [-1, 1]; None if there was no sound."""
        self._flush()
        return np.concatenate(self._chunks) if self._chunks else None

    def _flush(self) -> None:
        if self._resampler is not None:
            self._resample(None)
            self._resampler = None

    def _resample(self, frame: av.AudioFrame | None) -> None:
        assert self._resampler is not None
        for out in self._resampler.resample(frame):
            if out.samples:
                self._chunks.append((out.to_ndarray()[0] / 2.0**31).astype(np.float32))


class _FramePicker:
    """Is shown every frame of a video track, and keeps the frames on show at `count` evenly spaced times.

    times: when each kept frame appeared, in seconds on the file's clock.
    """

    def __init__(self, *, count: int, scan: _Scan) -> None:
        share = (scan.video_end - scan.video_start) / max(count, 1)
        self._wanted = [scan.video_start + (index + 0.5) * share for index in range(count)]
        self._scan = scan
        self._passed = 0
        self._latest: av.VideoFrame | None = None
        self._latest_time = 0.0
        self.times: list[float] = []
        self._picked: list[np.ndarray] = []

    def add(self, frame: av.VideoFrame) -> None:
        time = frame.time
        if time is None:  # a format without timestamps
            time = self._scan.video_start + self._passed / self._scan.video_rate
        self._passed += 1
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
