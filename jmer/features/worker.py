"""The worker's half of extraction: one clip, decoded once, prepared for all extractors that read it.

Whatever a clip makes the decoder or an extractor raise becomes the status and the reason of the clip's payloads. A clip
that crashes or hangs takes a worker process with it (`jmer.features.processes`). Nothing here imports JAX, so that
worker processes start quickly and leave the accelerator alone.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any, TypeVar

from jmer.base import files
from jmer.base.errors import UserError
from jmer.base.types import Media
from jmer.features import leash
from jmer.features.extractor import Extractor, Prepared
from jmer.features.processes import LostError, Pool
from jmer.media import cutting, decoding, guards

_Key = TypeVar("_Key")

_log = logging.getLogger(__name__)

_CHANGED = "the file changed while it was read; run the same command again"

# A clip may take so many seconds, or so many times what it lasts. Clips take a tenth of a second each; of the slowest,
# 4K at 60 frames a second, a core decodes 25 frames a second.
_SECONDS, _TIMES = 30.0, 3.0
_MOST = 3 * 3600.0  # seconds that a recording may take
# What a clip claims to last counts as far as its size bears it out. Speech in a video takes this much a second.
_BYTES_A_SECOND = 20_000
_READING = 10_000_000  # bytes a second that a slow disk gives; large files take time before their length is known
_REASON = 300  # characters of an error's text that a reason holds


def prepare(
    clip: Path, extractors: Mapping[_Key, Extractor], *, max_seconds: float | None, sha256: str = ""
) -> dict[_Key, Prepared]:
    """Decodes a clip and returns the payload of each extractor, by the extractor's key.

    Extractors of one modality, such as those of augmented views, share the decoded track. A fault of the clip becomes
    the status and the reason of its payloads.

    Args:
      max_seconds: as in `jmer.media.decoding.decode`.
      sha256: the digest that was taken of the clip before. A clip with another one after decoding has failed, since
        nobody knows of which content its payloads are. Empty where there is no digest to compare with.

    Raises:
      UserError: an extractor cannot work at all, such as for want of a file, whatever the clip.
    """
    scanned = _limits(clip, extractors)
    try:
        decoded = decoding.decode(clip, frames=_frames_for(extractors), max_seconds=max_seconds, scanned=scanned)
        prepared = _payloads(decoded, extractors, clip=clip)
    except UserError:
        raise
    except Exception as error:
        prepared = failed(error, extractors, clip=clip)
    if sha256 and digest(clip) != sha256:
        return dict.fromkeys(extractors, Prepared(payload=None, status="failed", reason=_CHANGED))
    return prepared


def prepare_parts(
    recording: Path, parts: Sequence[cutting.Part], extractors: Mapping[_Key, Extractor]
) -> Iterator[tuple[int, dict[_Key, Prepared]]]:
    """Decodes a recording once; yields the number of each part, and its payloads as `prepare` gives them for a clip."""
    scanned = _limits(recording, extractors)
    missing = set(range(len(parts)))
    found = cutting.cut(recording, parts, frames=_frames_for(extractors), scanned=scanned)
    try:
        for number, decoded in found:
            missing.remove(number)
            if isinstance(decoded, decoding.MediaError):
                yield number, failed(decoded, extractors, clip=recording)
            else:
                yield number, _payloads(decoded, extractors, clip=recording)
    except UserError:
        raise
    except Exception as error:
        for number in missing:
            yield number, failed(error, extractors, clip=recording)


def prepare_recording(
    recording: Path, parts: Sequence[cutting.Part], extractors: Mapping[_Key, Extractor], *, sha256: str = ""
) -> Iterator[tuple[int, dict[_Key, Prepared]]]:
    """Yields the same as `prepare_parts`; `sha256` is that of `prepare`.

    The last payloads that come for a part count: those of a recording that changed are replaced at the end.
    """
    yield from prepare_parts(recording, parts, extractors)
    if sha256 and digest(recording) != sha256:
        changed = dict.fromkeys(extractors, Prepared(payload=None, status="failed", reason=_CHANGED))
        yield from ((number, changed) for number in range(len(parts)))


def time_for(size: int, *, seconds: float = 0.0) -> float:
    """Returns how many seconds the decoding of a clip may take.

    Args:
      size: bytes of the file.
      seconds: what the clip lasts by its packets; 0 while this is not known.
    """
    return min(max(_SECONDS, _TIMES * min(seconds, size / _BYTES_A_SECOND)) + size / _READING, _MOST)


def failed(error: Exception, extractors: Mapping[_Key, Extractor], *, clip: Path) -> dict[_Key, Prepared]:
    """Returns the payloads of a clip that raised an error, whose reason tells the error."""
    # A clip that is too long could be read; it only holds something else than the utterance.
    status = "degraded" if isinstance(error, decoding.MiscutError) else "failed"
    return dict.fromkeys(extractors, Prepared(payload=None, status=status, reason=_reason(error, clip)))


def _reason(error: Exception, clip: Path) -> str:
    """Returns a phrase of one line, without the name of the clip, and logs an error that nobody foresaw."""
    if isinstance(error, decoding.MediaError | LostError):
        return str(error)
    _log.debug(f"{clip} raised an error", exc_info=error)
    text = " ".join(str(error).replace(str(clip), "the clip").split())
    told = f"{type(error).__name__}: {text}" if text else type(error).__name__
    what = "needs more memory than a clip may take" if isinstance(error, MemoryError) else "cannot be decoded"
    return f"{what} ({told[:_REASON]})"


def _limits(clip: Path, extractors: Mapping[_Key, Extractor]) -> Callable[[float], None]:
    """Loads the extractors, sets the worker's limits for a clip, and returns what sets them by its duration."""
    for extractor in extractors.values():
        extractor.load()
    size = guards.size_of(clip)
    leash.allow(time_for(size))
    return lambda seconds: leash.allow(time_for(size, seconds=seconds))


def _frames_for(extractors: Mapping[_Key, Extractor]) -> Callable[[float], int]:
    return lambda seconds: max(extractor.frames_wanted(seconds) for extractor in extractors.values())


def _payloads(decoded: Media, extractors: Mapping[_Key, Extractor], *, clip: Path) -> dict[_Key, Prepared]:
    tracks = {"audio": decoded.wave, "video": decoded.frames}
    prepared: dict[_Key, Prepared] = {}
    for key, extractor in extractors.items():
        modality, track = extractor.modality, tracks[extractor.modality]
        if track is None and modality == "video" and decoded.sound_only:
            prepared[key] = Prepared(payload=None, reason="sound only")
        elif track is None or not len(track):
            prepared[key] = Prepared(payload=None, status="degraded", reason=f"no {modality} track")
        else:
            prepared[key] = _payload(decoded, extractor, clip=clip)
    if decoded.damage:
        prepared = {key: _damaged(result, decoded.damage) for key, result in prepared.items()}
    return prepared


def _payload(decoded: Media, extractor: Extractor, *, clip: Path) -> Prepared:
    try:
        return extractor.prepare(decoded)
    except UserError:
        raise
    except Exception as error:  # the other tracks of the clip keep their features
        return failed(error, {"": extractor}, clip=clip)[""]


def _damaged(result: Prepared, damage: str) -> Prepared:
    reason = f"{damage}; {result.reason}" if result.reason else damage
    status = "failed" if result.status == "failed" else "degraded"
    return Prepared(payload=result.payload, status=status, reason=reason)


def digest(clip: Path) -> str:
    """Returns the SHA-256 of a clip; empty where there is no file that can be read, and `prepare` says why."""
    try:
        guards.check_file(clip)
        return files.sha256(clip)
    except (OSError, guards.MediaError):
        return ""


def pool(workers: int) -> Executor:
    """Returns a pool of processes with one thread each, started as needed; with 0, this process does the work.

    Limits of time and memory hold in processes alone.
    """
    return Pool(workers, initializer=_one_thread) if workers else _InProcess()


class _InProcess(Executor):
    """A pool without processes: it does the work at once, in this one."""

    def __init__(self):
        _one_thread()

    def submit(self, fn: Callable, /, *args: Any, **kwargs: Any) -> Future:
        future: Future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # raised where the result is asked for, as a worker's error is
            future.set_exception(error)
        return future


def _one_thread() -> None:
    """Limits libraries to one thread: clips are prepared side by side, and rounding depends on the threads."""
    import cv2
    import threadpoolctl

    cv2.setNumThreads(1)
    threadpoolctl.threadpool_limits(1)
