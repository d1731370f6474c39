"""Frames in, face crops out (OpenCV's Haar cascade: old, but shipped with OpenCV, quick and always the same)."""

from functools import cache
from pathlib import Path

import cv2
import numpy as np

# Longest side of the picture that is searched, in pixels; scale step; least number of neighbouring hits. The second
# search is for clips where the first finds no face at all: it finds faces down to 1/25 of the width, 1/16 being the
# first one's limit, but takes three times as long.
SEARCHES = ((320, 1.1, 7), (640, 1.2, 5))


def face_crops(frames: np.ndarray, *, size: int = 112, margin: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """Crops the main face of each frame: of several, the one that is large and stays in place over the frames.

    frames: `[F, height, width, 3]` uint8 RGB.
    size: side of the crops in pixels.
    margin: how much to take in beyond the detector's square, on each side, in parts of it; beyond the border of the
      picture its last pixels are repeated.

    Returns:
      crops: `[K, size, size, 3]` uint8 RGB, for each frame with a face, in order.
      found: `[F]` bool; K are True.
    """
    boxes: list[np.ndarray] = []
    for side, step, neighbours in SEARCHES:
        boxes = [_detect(frame, side=side, step=step, neighbours=neighbours) for frame in frames]
        if any(len(candidates) for candidates in boxes):
            break
    main = _steadiest(boxes)
    found = np.array([len(candidates) > 0 for candidates in boxes], dtype=bool)
    crops = [
        _crop(frame, _nearest(candidates, main), size=size, margin=margin)
        for frame, candidates in zip(frames, boxes, strict=True)
        if len(candidates)
    ]
    return np.stack(crops) if crops else np.zeros((0, size, size, 3), np.uint8), found


@cache
def _cascade() -> cv2.CascadeClassifier:
    """One a process. Of OpenCV's frontal cascades alt2 was the quickest and the only one without a false alarm."""
    path = Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_alt2.xml"
    cascade = cv2.CascadeClassifier(str(path))
    if cascade.empty():
        raise RuntimeError(f"{path}: OpenCV cannot load it; opencv-python >=4.14,<5 brings it")
    return cascade


def _detect(frame: np.ndarray, *, side: int, step: float, neighbours: int) -> np.ndarray:
    """`[K, 4]` float boxes (left, top, width, height) in pixels of the frame."""
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    scale = min(1.0, side / max(grey.shape))
    if scale < 1:
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    boxes = _cascade().detectMultiScale(grey, scaleFactor=step, minNeighbors=neighbours)
    return np.reshape(boxes, (-1, 4)) / scale


def _steadiest(boxes: list[np.ndarray]) -> np.ndarray | None:
    """The box with the largest area times support: the sum over frames of its overlap with a box there."""
    found = [candidates for candidates in boxes if len(candidates)]
    if not found:
        return None
    candidates = np.concatenate(found)
    support = sum(_overlap(candidates, others).max(axis=1) for others in found)
    return candidates[np.argmax(support * candidates[:, 2] * candidates[:, 3])]


def _nearest(candidates: np.ndarray, main: np.ndarray | None) -> np.ndarray:
    """The one that overlaps the main face most; where none does, as after a cut, the largest."""
    area = candidates[:, 2] * candidates[:, 3]
    overlap = np.zeros(len(candidates)) if main is None else _overlap(candidates, main[None])[:, 0]
    return candidates[np.argmax(overlap if overlap.any() else area)]


def _overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes `[A, 4]` and `[B, 4]`, as `[A, B]`."""
    a, b = a[:, None], b[None]
    start = np.maximum(a[..., :2], b[..., :2])
    end = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    shared = np.prod(np.maximum(end - start, 0), axis=-1)
    return shared / (np.prod(a[..., 2:], axis=-1) + np.prod(b[..., 2:], axis=-1) - shared)


def _crop(frame: np.ndarray, box: np.ndarray, *, size: int, margin: float) -> np.ndarray:
    centre_x, centre_y = box[0] + box[2] / 2, box[1] + box[3] / 2
    side = max(1, round(max(box[2], box[3]) * (1 + 2 * margin)))
    left, top = round(centre_x - side / 2), round(centre_y - side / 2)
    rows = np.clip(np.arange(top, top + side), 0, frame.shape[0] - 1)
    columns = np.clip(np.arange(left, left + side), 0, frame.shape[1] - 1)
    interpolation = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    return cv2.resize(frame[rows[:, None], columns], (size, size), interpolation=interpolation)
