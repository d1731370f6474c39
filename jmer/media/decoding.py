"""Clips in, 16 kHz mono waveform and RGB frames out (PyAV, which brings its own FFmpeg)."""

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

from jmer.base.types import SAMPLE_RATE, Media


class MediaError(Exception):
    """A clip that cannot be used. The message is the reason, a short phrase without the file's name."""


class MiscutError(MediaError):
    """A clip that can be read and is longer than the utterance it should be can last."""


# ---- what kind of file -----------------------------------------------------------------------------------------------

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
_PICTURE_BRANDS = (b"heic", b"heix", b"avif", b"mif1")  # the same boxes, but a photograph
_PROBED = 1 << 20  # bytes
_OPTIONS = {"protocol_whitelist": "file"}  # a playlist in a clip's place must not make us fetch from the network


def is_media(path: Path) -> bool:
    """Whether the content, whatever the name, is of a video or audio format. Damaged files count, pictures do not."""
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
    """Whether FFmpeg, which here sees no file name, gets a frame: for raw MP3, AAC and whatever else it knows."""
    try:
        with av.open(io.BytesIO(head), mode="r", options=_OPTIONS) as container:
            if _is_picture(container):
                return False
            return any(packet.decode() for packet in _packets(container, _streams(container)))
    except (FFmpegError, MediaError):
        return False


def _is_picture(container: InputContainer) -> bool:
    return container.format.name.endswith("_pipe") or container.format.name in ("image2", "tty", "gif", "apng")


def _is_sound_only(container: InputContainer) -> bool:
    """Whether files of this kind hold no video by nature; a video file that lacks its video track is another matter."""
    name, brand = container.format.name, container.metadata.get("major_brand", "").strip()
    suffix = Path(container.name).suffix.lower()
    if name.startswith(("mov", "matroska", "ogg", "asf")):  # both kinds come in these
        return brand in ("M4A", "M4B") or suffix in (".m4a", ".m4b", ".mka", ".ogg", ".oga", ".opus", ".spx", ".wma")
    return name in ("wav", "w64", "flac", "mp3", "aac", "ac3", "aiff", "caf", "au", "amr", "wv")


# ---- reading ---------------------------------------------------------------------------------------------------------


def seconds(path: Path) -> float:
    """Duration by the file's header, or by its packets where that has none; nothing is decoded.

    Raises:
      MediaError: the file cannot be read.
    """
    with _open(path) as container:
        return container.duration / 1e6 if container.duration else _scan(container, _streams(container)).seconds


def decode(path: Path, *, frames: int | Callable[[float], int], max_seconds: float | None = None) -> Media:
    """Decodes a clip.

    frames: how many to take, evenly spaced over the video track, each from the middle of its share of the time. Exactly
      so many come back: a clip with fewer repeats some. 0 leaves the video track alone. A function is given the seconds
      of the video track.
    max_seconds: a longer clip is refused before anything is decoded.

    No more than the frames asked for are ever held. `Media.damage` says what was lost.

    Raises:
      MiscutError: the clip is longer than `max_seconds`.
      MediaError: the file cannot be read, or nothing of it can be decoded.
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
    with _open(path) as container:  # once more from the start; not every format can seek
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


# Formats whose header gives the true duration; the others' is an estimate from the bit rate.
_EXACT_HEADERS = ("mov", "matroska", "wav", "flac", "avi")


def _open(path: Path) -> InputContainer:
    """Raises MediaError unless the file has a video or audio stream that can be decoded."""
    try:
        container = av.open(f"file:{path}", mode="r", options=_OPTIONS)
    except FFmpegError as error:
        raise MediaError(f"cannot be opened: {error.strerror}") from error
    if _is_picture(container) or not _streams(container):
        container.close()
        raise MediaError("holds no video and no audio track that can be decoded")
    return container


def _streams(container: InputContainer) -> list[av.AudioStream | av.VideoStream]:
    """The first decodable stream of each kind; a cover picture is no video."""
    chosen: list[av.AudioStream | av.VideoStream] = []
    for candidates in (container.streams.video, container.streams.audio):
        for stream in candidates:
            if stream.codec_context is not None and not stream.disposition & Disposition.attached_pic:
                stream.codec_context.thread_count = 1  # clips are decoded side by side, in processes
                chosen.append(stream)
                break
    return chosen


def _packets(container: InputContainer, streams: list[av.AudioStream | av.VideoStream]) -> Iterator[av.Packet]:
    """Raises MediaError where a file is too damaged to be read to its end."""
    try:
        yield from container.demux(*streams) if streams else ()
    except FFmpegError as error:
        raise MediaError(f"cannot be read to its end: {error.strerror}") from error
    except IndexError as error:  # PyAV's answer to a stream that only the damage made up
        raise MediaError("cannot be read to its end: holds more streams than its header says") from error


@dataclass(frozen=True, kw_only=True)
class _Scan:
    """Times in seconds, by the packets: what is really there, whatever the header says."""

    seconds: float
    promised: float  # by the header; 0 where that only estimates
    start: float  # of the track that starts first
    audio_seconds: float
    video_start: float
    video_end: float
    video_rate: float  # frames a second


def _scan(container: InputContainer, streams: list, *, limit: float = float("inf")) -> _Scan:
    """Goes through the packets without decoding them, no further than `limit` seconds."""
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
    """Gathers an audio track as 16 kHz mono.

    start: when its first sample is heard, in seconds by the file's clock; None where the file does not say.
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
        if setup != self._setup:  # a track may change on the way
            self._flush()
            # As integers, since to floats FFmpeg adds channels up without scaling: stereo would come out 1.4 times
            # as loud as mono and clip.
            self._resampler = av.AudioResampler(format="s32", layout="mono", rate=SAMPLE_RATE)
            self._setup = setup
        self._resample(frame)

    def wave(self) -> np.ndarray | None:
        """`[T]` float32 in [-1, 1]; None where there was no sound."""
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
    """Keeps, of the frames that pass by, those on show at `count` evenly spaced times.

    times: when each of them appeared, in seconds by the file's clock.
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
        self._pick(before=time - 1e-4)  # a frame that appears just at a wanted time, but for rounding, is the one
        self._latest, self._latest_time = frame, time

    def frames(self) -> np.ndarray | None:
        """`[count, height, width, 3]` uint8 RGB; None where no frame came."""
        self._pick(before=np.inf)
        return np.stack(self._picked) if self._picked else None

    def _pick(self, *, before: float) -> None:
        """Takes the latest frame for the times up to `before`, when the next one appears."""
        due = sum(time < before for time in self._wanted[len(self._picked) :])
        if self._latest is not None and due:
            self._picked += [self._rgb(self._latest)] * due
            self.times += [self._latest_time] * due

    def _rgb(self, frame: av.VideoFrame) -> np.ndarray:
        pixels = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))  # phones film on their side
        if self._picked and pixels.shape != self._picked[0].shape:  # a track may change on the way
            height, width = self._picked[0].shape[:2]
            pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
        return pixels
