"""Decodes clips to a 16 kHz mono waveform and RGB frames. PyAV does the work and brings its own FFmpeg."""

import io
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError

from jmer.base.types import SAMPLE_RATE, Media
from jmer.media import guards
from jmer.media.collecting import SILENCED, FramePicker, Sound
from jmer.media.container import (
    OPENING,
    is_picture,
    is_sound_only,
    open_clip,
    packets_of,
    scan_of,
    streams_of,
)  # fmt: skip
from jmer.media.guards import MediaError


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
        with av.open(io.BytesIO(head), **OPENING) as container:
            if is_picture(container):
                return False
            return any(packet.decode() for packet in packets_of(container, streams_of(container)))
    except Exception:  # PyAV raises many kinds of errors on bytes that are no media
        return False


# ---- reading ---------------------------------------------------------------------------------------------------------


def seconds(path: Path) -> float:
    """Returns the duration of a clip, by the file's header, or by its packets if the header has none.

    Nothing is decoded.

    Raises:
      MediaError: the file cannot be read.
    """
    with open_clip(path) as container:
        return container.duration / 1e6 if container.duration else scan_of(container, streams_of(container)).seconds


def decode(
    path: Path,
    *,
    frames: int | Callable[[float], int],
    max_seconds: float | None = None,
    scanned: Callable[[float], object] = lambda seconds: None,
) -> Media:
    """Decodes a clip.

    Only the frames asked for are held in memory.

    frames: the number of frames to return, or a function that gives it for the seconds of the video track. The video
      track is divided into that many parts of equal length, and the frame on show in the middle of each is taken. A
      clip with fewer frames repeats some. With 0 the video track is not decoded.
    max_seconds: a longer clip is refused before anything is decoded.
    scanned: is told the duration of the clip in seconds before anything is decoded.

    Returns: the decoded clip. Its `damage` names what could not be decoded.

    Raises:
      MiscutError: the clip is longer than `max_seconds`.
      MediaError: the file cannot be read, nothing in it can be decoded, or it is beyond the bounds of `guards`.
    """
    limit = float("inf") if max_seconds is None else max_seconds
    with open_clip(path) as container:
        scan = scan_of(container, streams_of(container), limit=limit)
    scanned(scan.seconds)
    seconds = max(scan.seconds, scan.promised)
    if seconds > limit:
        raise MiscutError(f"mis-cut clip: lasts {seconds:.1f} s where the utterance lasts at most {limit:.1f} s")

    sound = Sound()
    count = frames(scan.video_end - scan.video_start) if callable(frames) else frames
    picker = FramePicker(count=count, start=scan.video_start, end=scan.video_end)
    clock = scan.clock()
    bad_packets = bad_frames = 0
    with open_clip(path) as container:  # opened again, since not every format can seek back to the start
        sound_only = is_sound_only(container)
        streams = [stream for stream in streams_of(container) if count or stream.type == "audio"]
        kinds = [stream.type for stream in streams]
        for packet in packets_of(container, streams):
            try:
                decoded = packet.decode()
            except FFmpegError:
                bad_packets += 1
                continue
            for frame in decoded:
                if isinstance(frame, av.VideoFrame):
                    bad_frames += frame.is_corrupt
                    picker.add(frame, clock(frame))
                elif isinstance(frame, av.AudioFrame):
                    sound.add(frame)
                    guards.check_length(sound.seconds)
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
    if sound.silenced:
        damage.append(f"{sound.silenced} {SILENCED}")
    if picker.damage:
        damage.append(picker.damage)
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
