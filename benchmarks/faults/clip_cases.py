"""The broken, absurd and hostile clips of `clips.py`: mutants of real clips, and one function for each special clip."""

import os
import random
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

_CONTAINERS = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"dinf", b"udta")  # boxes that hold boxes
_ABSURD = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415408d763f8cfc000000301010018dd8db0"
    "0000000049454e44ae426082"
)


# ---- mutants ---------------------------------------------------------------------------------------------------------


def mutants(sources: Sequence[Path], rng: random.Random) -> Iterator[tuple[str, str, bytes]]:
    """Yields (kind, suffix, content) of mutants without end, each kind in turn and of each source in turn."""
    kinds: tuple[tuple[str, Callable[[bytes, random.Random], bytes]], ...] = (
        ("flipped bits", _flipped),
        ("a hole", _holed),
        ("cut off", _cut),
        ("shuffled boxes", _shuffled),
        ("absurd headers", _absurd),
    )
    number = 0
    while True:
        for kind, mutate in kinds:
            source = sources[number % len(sources)]
            yield kind, source.suffix, mutate(source.read_bytes(), rng)
            number += 1


def _flipped(content: bytes, rng: random.Random) -> bytes:
    """Flips 1 to 1,000 bits, in the whole file or in its first or last kilobytes, where headers are."""
    changed = bytearray(content)
    low, high = rng.choice([(0, len(content)), (0, 4096), (max(len(content) - 4096, 0), len(content))])
    for _ in range(rng.choice([1, 10, 100, 1000])):
        changed[rng.randrange(low, min(high, len(content)))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _holed(content: bytes, rng: random.Random) -> bytes:
    """Replaces a part by zeros or noise, or leaves the part out."""
    size = max(1, int(len(content) * rng.choice([0.001, 0.01, 0.1, 0.5])))
    start = rng.randrange(len(content) - size + 1)
    return content[:start] + rng.choice([bytes(size), rng.randbytes(size), b""]) + content[start + size :]


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def _shuffled(content: bytes, rng: random.Random) -> bytes:
    """Swaps, doubles, drops and nests the boxes of an MP4; of another format, pieces of equal size."""
    boxes = _boxes(content)
    if len(boxes) < 2:
        size = max(len(content) // 16, 1)
        boxes = [content[i : i + size] for i in range(0, len(content), size)]
    boxes = [_deeper(box, rng) for box in boxes]
    what = rng.randrange(4)
    if what == 0:
        rng.shuffle(boxes)
    elif what == 1:
        boxes.insert(rng.randrange(len(boxes)), rng.choice(boxes))
    elif what == 2:
        boxes.pop(rng.randrange(len(boxes)))
    else:
        inner = boxes.pop(rng.randrange(len(boxes)))
        boxes.append(struct.pack(">I4s", len(inner) + 8, b"moov") + inner)
    return b"".join(boxes)


def _deeper(box: bytes, rng: random.Random) -> bytes:
    """Shuffles what is within a box, half of the time, and then within one of its boxes."""
    if box[4:8] not in _CONTAINERS or rng.random() < 0.5:
        return box
    inner = _boxes(box[8:])
    return box[:8] + _shuffled(box[8:], rng) if len(inner) > 1 else box


def _boxes(content: bytes) -> list[bytes]:
    """Returns the boxes that follow each other in the content of an MP4; none if it is not made of boxes."""
    boxes, at = [], 0
    while at + 8 <= len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        if size < 8 or at + size > len(content) or not content[at + 4 : at + 8].isalnum():
            return []
        boxes.append(content[at : at + size])
        at += size
    return boxes


def _absurd(content: bytes, rng: random.Random) -> bytes:
    """Writes absurd numbers over 1 to 20 fields of the header."""
    changed = bytearray(content)
    moov = content.find(b"moov")
    low, high = (moov, len(content)) if moov > 0 and rng.random() < 0.8 else (0, 2048)
    for _ in range(rng.choice([1, 5, 20])):
        at, size = rng.randrange(low, min(high, len(content)) - 4), rng.choice([1, 2, 4])
        value = rng.choice(_ABSURD) & (1 << 8 * size) - 1
        changed[at : at + size] = value.to_bytes(size, rng.choice(["big", "little"]))
    return bytes(changed)


# ---- special clips ---------------------------------------------------------------------------------------------------


def video(path: Path, *, width: int, height: int, frames: int, codec: str = "mpeg4") -> None:
    """Writes a video whose frames all show the same noise; a large one is black."""
    picture = np.zeros((height, width, 3), np.uint8)
    if picture.size < 1 << 20:
        picture = np.random.default_rng(0).integers(0, 256, picture.shape, np.uint8)
    with av.open(str(path), "w", format="avi") as container:
        stream = container.add_stream(codec, rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for _ in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode(None))


def repeated(path: Path, source: Path, *, seconds: float) -> None:
    """Writes the packets of a clip again and again, until the clip lasts so long."""
    with av.open(str(source)) as given, av.open(str(path), "w", format="mp4") as container:
        streams = {s: container.add_stream_from_template(s) for s in given.streams if s.type in ("video", "audio")}
        last, at = float((given.duration or 0) / 1e6), 0.0
        while at < seconds:
            given.seek(0)
            for packet in given.demux(*streams):
                if packet.dts is not None and packet.pts is not None:
                    shift = round(at / float(packet.time_base))
                    packet.dts, packet.pts = packet.dts + shift, packet.pts + shift
                    packet.stream = streams[packet.stream]
                    container.mux(packet)
            at += last + 0.1


def wav(samples: np.ndarray, *, rate: int, channels: int = 1, title: bytes = b"", size: int | None = None) -> bytes:
    """Returns a WAV of 8-bit, 16-bit or float samples, with any rate, channels, title and size in its header."""
    data, bits = samples.tobytes(), samples.dtype.itemsize * 8
    align = channels * bits // 8
    kind = 3 if samples.dtype.kind == "f" else 1
    head = struct.pack("<HHIIHH", kind, channels, rate, rate * align & 0xFFFFFFFF, align & 0xFFFF, bits)
    told = b"INFOINAM" + struct.pack("<I", len(title)) + title
    told = b"LIST" + struct.pack("<I", len(told)) + told if title else b""
    chunks = b"fmt " + struct.pack("<I", 16) + head + told + b"data" + struct.pack("<I", size or len(data)) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def tone(seconds: float, *, rate: int = 16_000) -> np.ndarray:
    """Returns a tone as 16-bit samples."""
    return (9000 * np.sin(np.arange(round(seconds * rate)) * 2 * np.pi * 220 / rate)).astype(np.int16)


def silence(path: Path, *, hours: int) -> None:
    """Writes silence as FLAC, which takes 200 bytes a second."""
    with av.open(str(path), "w", format="flac") as container:
        stream = container.add_stream("flac", rate=8_000)
        stream.layout = "mono"
        for _ in range(hours * 60):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 8_000 * 60), np.int16), format="s16", layout="mono")
            frame.sample_rate = 8_000
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # the path of a socket has to be short
    try:
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(path.name)
    finally:
        os.chdir(here)


def _nested(path: Path) -> None:
    content = b""
    for _ in range(10_000):
        content = struct.pack(">I4s", len(content) + 8, b"moov") + content
    path.write_bytes(struct.pack(">I4s4sI4s", 20, b"ftyp", b"isom", 512, b"isom") + content)


def _playlist(path: Path) -> None:
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nfile://{path}\n#EXT-X-ENDLIST\n")


def _sounds(*samples: float, kind: type, **header: Any) -> Callable[[Path], object]:
    """Returns what writes a WAV of a second: the samples again and again."""
    given: dict[str, Any] = {"rate": 16_000} | header
    return lambda path: path.write_bytes(wav(np.resize(np.array(samples, kind), 16_000), **given))


def _picture(width: int, height: int, *, frames: int = 5, codec: str = "rawvideo") -> Callable[[Path], object]:
    return lambda path: video(path, width=width, height=height, frames=frames, codec=codec)


@dataclass(frozen=True, kw_only=True)
class Special:
    """One clip.

    write: writes it to a path.
    statuses: those that its row may have.
    says: what the row's reason has to hold.
    """

    name: str
    write: Callable[[Path], object]
    statuses: tuple[str, ...]
    says: str = ""


def specials(source: Path) -> list[Special]:
    """Returns the special clips; `source` is a sound one, with a face and a voice."""
    failed, degraded, ok = ("failed",), ("degraded",), ("ok",)
    cases: list[tuple[str, Callable[[Path], object], tuple[str, ...], str]] = [
        ("text", lambda path: path.write_text("This is no clip.\n" * 500), failed, "cannot be opened"),
        ("a picture", lambda path: path.write_bytes(PNG), failed, "no video and no audio"),
        ("0 bytes", Path.touch, failed, "cannot be opened"),
        ("zeros", lambda path: path.write_bytes(bytes(100_000)), failed, "cannot be opened"),
        ("a playlist of itself", _playlist, failed, "cannot be opened"),
        ("a named pipe", os.mkfifo, failed, "named pipe"),
        ("a device", lambda path: path.symlink_to("/dev/zero"), failed, "device"),
        ("a folder", Path.mkdir, failed, "folder"),
        ("a socket", _socket, failed, ""),
        ("a link to itself", lambda path: path.symlink_to(path), failed, ""),
        ("10,000 boxes within each other", _nested, failed, ""),
        ("one frame", _picture(160, 120, frames=1), degraded, "no face"),
        ("3 x 5000 pixels", _picture(3, 5000), degraded, "no face"),
        ("5000 x 3 pixels", _picture(5000, 3), degraded, "no face"),
        ("1 x 1 pixels", _picture(1, 1), degraded, "no face"),
        ("8000 x 8000 pixels", _picture(8000, 8000, frames=3, codec="mpeg4"), failed, "8000 x 8000 pixels"),
        ("10 minutes of video", lambda path: repeated(path, source, seconds=600), ok, ""),
        ("10 minutes of sound", lambda path: path.write_bytes(wav(tone(600), rate=16_000)), ok, ""),
        ("3 hours of silence", lambda path: silence(path, hours=3), failed, "more than 2 hours"),
        ("a title that is not UTF-8", _sounds(0, 99, kind=np.int16, title=b"caf\xe9 \xff\xfe\x80"), ok, ""),
        ("sound that is not a number", _sounds(np.nan, kind=np.float32), degraded, "silenced"),
        ("infinite sound", _sounds(np.inf, -np.inf, kind=np.float64), degraded, "silenced"),
        ("sound of 1e38", _sounds(1e38, -1e38, kind=np.float32), degraded, "silenced"),
        ("some sound that is not a number", _sounds(*[0.1] * 9_999, np.nan, kind=np.float32), degraded, "silenced"),
        ("1 sample a second", _sounds(128, 99, kind=np.uint8, rate=1), failed, "1 samples a second"),
        ("2 billion samples a second", _sounds(128, 99, kind=np.uint8, rate=2_000_000_000), failed, "samples a second"),
        ("0 samples a second", _sounds(0, 99, kind=np.int16, rate=0), failed, ""),
        ("0 channels", _sounds(0, 99, kind=np.int16, channels=0), failed, ""),
        ("60,000 channels", _sounds(0, 99, kind=np.int16, channels=60_000), failed, ""),
        ("a header that claims 18 hours", _sounds(0, 99, kind=np.int16, size=0x7FFFFFFE), (*ok, *degraded), ""),
    ]
    return [Special(name=name, write=write, statuses=statuses, says=says) for name, write, statuses, says in cases]
