"""The worker's half of extraction: one clip, decoded once, prepared for every modality that wants it.

Nothing here imports jax, so that worker processes start quickly and leave the accelerator alone.
"""

import hashlib
import os
import signal
import threading
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import TypeVar

from jmer.data import media
from jmer.features.extractor import Extractor, Prepared

_Key = TypeVar("_Key")


def prepare(clip: Path, extractors: Mapping[_Key, Extractor], *, max_seconds: float | None) -> dict[_Key, Prepared]:
    """Decodes `clip` and returns what each extractor makes of it, by the extractor's key; faults of the clip are in it.

    Extractors of one modality, such as those of augmented views, share the decoded track.
    """
    try:
        frames = max(extractor.frames_wanted for extractor in extractors.values())
        decoded = media.decode(clip, frames=frames, max_seconds=max_seconds)
    except media.MediaError as error:
        # A mis-cut clip was read, it is just not this utterance.
        status = "degraded" if isinstance(error, media.MiscutError) else "failed"
        return dict.fromkeys(extractors, Prepared(payload=None, status=status, reason=str(error)))
    raw = {"audio": decoded.wave, "video": decoded.frames}
    prepared: dict[_Key, Prepared] = {}
    for key, extractor in extractors.items():
        modality, track = extractor.modality, raw[extractor.modality]
        if track is None and modality == "video" and decoded.sound_only:
            prepared[key] = Prepared(payload=None, reason="sound only")
        elif track is None or not len(track):
            prepared[key] = Prepared(payload=None, status="degraded", reason=f"no {modality} track")
        else:
            prepared[key] = extractor.prepare(track)
    if decoded.damage:
        prepared = {key: _damaged(result, decoded.damage) for key, result in prepared.items()}
    return prepared


def _damaged(result: Prepared, damage: str) -> Prepared:
    reason = f"{damage}; {result.reason}" if result.reason else damage
    return Prepared(payload=result.payload, status="degraded", reason=reason)


def digest(clip: Path) -> str:
    """SHA-256 of the file; empty where it cannot be read, which `prepare` then says."""
    try:
        with clip.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return ""


def pool(workers: int) -> ProcessPoolExecutor:
    """Worker processes of one thread each, started as they are needed."""
    return ProcessPoolExecutor(max_workers=workers, mp_context=get_context("spawn"), initializer=_start_worker)


def _start_worker() -> None:
    import cv2
    import threadpoolctl

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the main process winds up
    cv2.setNumThreads(1)
    threadpoolctl.threadpool_limits(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends this worker when the main process was killed: the pool's own workers would wait for work for ever."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
