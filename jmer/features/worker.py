"""The worker's half of extraction: one clip, decoded once, prepared for every modality that wants it.

Nothing here imports jax, so that worker processes start quickly and leave the accelerator alone.
"""

import os
import signal
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any, TypeVar

from jmer.base import files
from jmer.features.extractor import Extractor, Prepared
from jmer.media import decoding

_Key = TypeVar("_Key")


def prepare(clip: Path, extractors: Mapping[_Key, Extractor], *, max_seconds: float | None) -> dict[_Key, Prepared]:
    """Decodes `clip` and returns what each extractor makes of it, by the extractor's key; faults of the clip are in it.

    Extractors of one modality, such as those of augmented views, share the decoded track.
    """
    try:
        decoded = decoding.decode(
            clip,
            frames=lambda seconds: max(extractor.frames_wanted(seconds) for extractor in extractors.values()),
            max_seconds=max_seconds,
        )
    except decoding.MediaError as error:
        # A mis-cut clip was read, it is just not this utterance.
        status = "degraded" if isinstance(error, decoding.MiscutError) else "failed"
        return dict.fromkeys(extractors, Prepared(payload=None, status=status, reason=str(error)))
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
    """SHA-256 of the file; empty where it cannot be read, which `prepare` then says."""
    try:
        return files.sha256(clip)
    except OSError:
        return ""


def pool(workers: int) -> Executor:
    """Worker processes of one thread each, started as they are needed; with 0, this process does the work."""
    if not workers:
        return _InProcess()
    return ProcessPoolExecutor(max_workers=workers, mp_context=get_context("spawn"), initializer=_start_worker)


class _InProcess(Executor):
    """Works at once."""

    def __init__(self):
        _one_thread()

    def submit(self, fn: Callable, /, *args: Any, **kwargs: Any) -> Future:
        future: Future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # as a worker's, it is raised where the result is asked for
            future.set_exception(error)
        return future


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the main process winds up
    _one_thread()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _one_thread() -> None:
    """Clips are prepared side by side; and with another number of threads, products round otherwise."""
    import cv2
    import threadpoolctl

    cv2.setNumThreads(1)
    threadpoolctl.threadpool_limits(1)


def _end_with_parent() -> None:
    """Ends this worker when the main process was killed: the pool's own workers would wait for work for ever."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
