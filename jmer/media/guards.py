"""What a clip may be before jmer decodes it. A clip beyond these bounds is refused with a reason.

The bounds lie far beyond what cameras and microphones write, so that only damaged and malicious files meet them. They
hold in every process that decodes. A worker process has limits of time and memory besides (`jmer.features.processes`).
"""

import os
import stat
from pathlib import Path

# Of a picture: 4K video has 8.8 million, and a picture of this size takes 50 MB as RGB.
MOST_PIXELS = 4096 * 4096
# Hz. Telephones have 8,000. Each sample of a lower rate becomes many at 16 kHz: at 1 Hz, a file of 16 kB stands for
# 1 GB of sound.
LEAST_RATE = 2_000
MOST_RATE = 768_000  # Hz, the highest that converters are sold for
# Of sound that is one utterance, or that a recording leaves out between two packets: 460 MB at 16 kHz.
MOST_SECONDS = 2 * 3600.0
# All frames that are kept of one clip, in bytes of RGB: 64 frames of full HD, the most that jmer's extractors ask for,
# fit in. Larger frames are scaled down.
MOST_FRAME_BYTES = 512 << 20
# Of a sample, where 1 is full scale. A float may exceed full scale by a little; no sound is 100 times as loud.
LOUDEST = 100.0

_KINDS = {
    stat.S_IFDIR: "is a folder",
    stat.S_IFIFO: "is a named pipe",
    stat.S_IFSOCK: "is a socket",
    stat.S_IFCHR: "is a device",
    stat.S_IFBLK: "is a device",
}


class MediaError(Exception):
    """The clip cannot be used. The message is a short phrase that gives the reason, without the file's name."""


def check_file(path: Path) -> None:
    """Raises MediaError unless the path leads to a regular file. Opening a pipe or a device could wait for ever."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        raise MediaError(f"cannot be opened: {getattr(error, 'strerror', None) or error}") from error
    if not stat.S_ISREG(mode):
        raise MediaError(f"{_KINDS.get(stat.S_IFMT(mode), 'is something else')}, not a file")


def size_of(path: Path) -> int:
    """Returns the bytes of a file; 0 where there is none."""
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):
        return 0


def check_picture(width: int, height: int) -> None:
    """Raises MediaError if a picture has too many pixels. A size that is not known yet is 0."""
    if width * height > MOST_PIXELS:
        side = round(MOST_PIXELS**0.5)
        raise MediaError(f"has pictures of {width} x {height} pixels, more than {side} x {side}")


def check_rate(rate: int) -> None:
    """Raises MediaError if a sound cannot have this many samples a second. A rate that is not known yet is 0."""
    if rate and not LEAST_RATE <= rate <= MOST_RATE:
        raise MediaError(f"has sound of {rate} samples a second; expected {LEAST_RATE} to {MOST_RATE}")


def check_length(seconds: float) -> None:
    """Raises MediaError if a sound that is one utterance lasts too long."""
    if seconds > MOST_SECONDS:
        raise MediaError(
            f"has more than {MOST_SECONDS / 3600:.0f} hours of sound for one utterance; give its utterances their times"
        )
