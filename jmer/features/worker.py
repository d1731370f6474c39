"""The worker's half of extraction: one clip, decoded once, prepared for all extractors that read it.

Nothing here imports JAX, so that worker processes start quickly and leave the accelerator alone.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any, TypeVar

from jmer.base import files
from jmer.base.types import Media
from jmer.features.extractor import Extractor, Prepared
from jmer.media import cutting, decoding

_Key = TypeVar("_Key")

_CHANGED = "the file changed while it was read; run the same command again"


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
    """
    prepared = _prepare(clip, extractors, max_seconds=max_seconds)
    if sha256 and digest(clip) != sha256:
        return dict.fromkeys(extractors, Prepared(payload=None, status="failed", reason=_CHANGED))
    return prepared


def prepare_parts(
    recording: Path, parts: Sequence[cutting.Part], extractors: Mapping[_Key, Extractor]
) -> Iterator[tuple[int, dict[_Key, Prepared]]]:
    """Decodes a recording once; yields the number of each part, and its payloads as `prepare` gives them for a clip."""
    missing = set(range(len(parts)))
    try:
        for number, decoded in cutting.cut(recording, parts, frames=_frames_for(extractors)):
            missing.remove(number)
            if isinstance(decoded, decoding.MediaError):
                yield number, _failed(decoded, extractors)
            else:
                yield number, _payloads(decoded, extractors)
    except decoding.MediaError as error:
        for number in missing:
            yield number, _failed(error, extractors)


def prepare_recording(
    recording: Path, parts: Sequence[cutting.Part], extractors: Mapping[_Key, Extractor], *, sha256: str = ""
) -> list[dict[_Key, Prepared]]:
    """Returns the payloads of each part by `prepare_parts`; `sha256` is that of `prepare`."""
    found = dict(prepare_parts(recording, parts, extractors))
    if sha256 and digest(recording) != sha256:
        return [dict.fromkeys(extractors, Prepared(payload=None, status="failed", reason=_CHANGED)) for _ in parts]
    return [found[number] for number in range(len(parts))]


def _prepare(clip: Path, extractors: Mapping[_Key, Extractor], *, max_seconds: float | None) -> dict[_Key, Prepared]:
    try:
        return _payloads(decoding.decode(clip, frames=_frames_for(extractors), max_seconds=max_seconds), extractors)
    except decoding.MediaError as error:
        return _failed(error, extractors)


def _frames_for(extractors: Mapping[_Key, Extractor]) -> Callable[[float], int]:
    return lambda seconds: max(extractor.frames_wanted(seconds) for extractor in extractors.values())


def _failed(error: decoding.MediaError, extractors: Mapping[_Key, Extractor]) -> dict[_Key, Prepared]:
    # A clip that is too long could be read; it only holds something else than the utterance.
    status = "degraded" if isinstance(error, decoding.MiscutError) else "failed"
    return dict.fromkeys(extractors, Prepared(payload=None, status=status, reason=str(error)))


def _payloads(decoded: Media, extractors: Mapping[_Key, Extractor]) -> dict[_Key, Prepared]:
    tracks = {"audio": decoded.wave, "video": decoded.frames}
    prepared: dict[_Key, Prepared] = {}
    for key, extractor in extractors.items():
        modality, track = extractor.modality, tracks[extractor.modality]
        if track is None and modality == "video" and decoded.sound_only:
            prepared[key] = Prepared(payload=None, reason="sound only")
        elif track is None or not len(track):
            prepared[key] = Prepared(payload=None, status="degraded", reason=f"no {modality} track")
        else:
            prepared[key] = extractor.prepare(decoded)
    if decoded.damage:
        prepared = {key: _damaged(result, decoded.damage) for key, result in prepared.items()}
    return prepared


def _damaged(result: Prepared, damage: str) -> Prepared:
    reason = f"{damage}; {result.reason}" if result.reason else damage
    return Prepared(payload=result.payload, status="degraded", reason=reason)


def digest(clip: Path) -> str:
    """Returns the SHA-256 of a clip; empty where the file cannot be read, in which case `prepare` says why."""
    try:
        return files.sha256(clip)
    except OSError:
        return ""


def pool(workers: int) -> Executor:
    """Returns a pool of processes with one thread each, started as needed; with 0, this process does the work."""
    if not workers:
        return _InProcess()
    return ProcessPoolExecutor(max_workers=workers, mp_context=get_context("spawn"), initializer=_start_worker)


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


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the main one ends them
    _one_thread()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _one_thread() -> None:
    """Limits libraries to one thread: clips are prepared side by side, and rounding depends on the threads."""
    import cv2
    import threadpoolctl

    cv2.setNumThreads(1)
    threadpoolctl.threadpool_limits(1)


def _end_with_parent() -> None:
    """Ends this worker when the main process is killed; it would wait for work for ever otherwise."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
