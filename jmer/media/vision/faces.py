"""Frames in, faces out: where they are, and crops of them.

The detector that is always there is OpenCV's Haar cascade: old, but shipped with OpenCV, quick and always the same.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

# Longest side of the picture that is searched, in pixels; scale step; least number of neighbouring hits. The second
# search is for clips where the first finds no face at all: it finds faces down to 1/25 of the width, 1/16 being the
# first one's limit, but takes three times as long.
SEARCHES = ((320, 1.1, 7), (640, 1.2, 5))

# Where the eyes, the tip of the nose and the corners of the mouth of a face that looks at the camera are in a square
# of side 1, left in the picture first. ArcFace's: of 112 pixels, it is what recognition networks are trained on.
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
) / np.float64(112)


class Faces(NamedTuple):
    """The faces of one frame, in its pixels.

    boxes: `[K, 4]` float64: left, top, width, height.
    landmarks: `[K, 5, 2]` float64, x and y of the points of `TEMPLATE`; None from a detector that gives none.
    """

    boxes: np.ndarray
    landmarks: np.ndarray | None = None


# Frames of one clip, `[F, height, width, 3]` uint8 RGB -> the faces of each.
Detector = Callable[[np.ndarray], list[Faces]]


def haar(frames: np.ndarray) -> list[Faces]:
    """The detector that needs no model file."""
    boxes: list[np.ndarray] = []
    for side, step, neighbours in SEARCHES:
        boxes = [_detect(frame, side=side, step=step, neighbours=neighbours) for frame in frames]
        if any(len(candidates) for candidates in boxes):
            break
    return [Faces(candidates) for candidates in boxes]


def face_crops(
    frames: np.ndarray, *, size: int = 112, margin: float = 0.1, align: bool = False, detect: Detector = haar
) -> tuple[np.ndarray, np.ndarray]:
    """Crops the main face of each frame: of several, the one that is large and stays in place over the frames.

    frames: `[F, height, width, 3]` uint8 RGB.
    size, margin: see `crop`.
    align: give `aligned_crop`s instead; the detector must give landmarks.

    Returns:
      crops: `[K, size, size, 3]` uint8 RGB, for each frame with a face, in order.
      found: `[F]` bool; K are True.
    """
    seen = detect(frames)
    main = _steadiest([faces.boxes for faces in seen])
    found = np.array([len(faces.boxes) > 0 for faces in seen], dtype=bool)
    crops = []
    for frame, (boxes, landmarks) in zip(frames, seen, strict=True):
        if not len(boxes):
            continue
        nearest = _nearest(boxes, main)
        if align:
            assert landmarks is not None
            crops.append(aligned_crop(frame, landmarks[nearest], size=size))
        else:
            crops.append(crop(frame, boxes[nearest], size=size, margin=margin))
    return np.stack(crops) if crops else np.zeros((0, size, size, 3), np.uint8), found


def crop(frame: np.ndarray, box: np.ndarray, *, size: int = 112, margin: float = 0.1) -> np.ndarray:
    """The square around a box, as `[size, size, 3]` uint8 RGB.

    box: `[4]`.
    size: side of the crop in pixels.
    margin: how much to take in beyond the box's longer side, on each side, in parts of it; beyond the border of the
      picture its last pixels are repeated.
    """
    centre_x, centre_y = box[0] + box[2] / 2, box[1] + box[3] / 2
    side = max(1, round(max(box[2], box[3]) * (1 + 2 * margin)))
    left, top = round(centre_x - side / 2), round(centre_y - side / 2)
    rows = np.clip(np.arange(top, top + side), 0, frame.shape[0] - 1)
    columns = np.clip(np.arange(left, left + side), 0, frame.shape[1] - 1)
    interpolation = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    return cv2.resize(frame[rows[:, None], columns], (size, size), interpolation=interpolation)


def aligned_crop(frame: np.ndarray, landmarks: np.ndarray, *, size: int = 112) -> np.ndarray:
    """Turns, scales and shifts a face so that its landmarks come to lie on `TEMPLATE`, as recognition networks want it.

    With `size` 112 it is what `cv2.FaceRecognizerSF.alignCrop` gives.

    landmarks: `[5, 2]`. Returns `[size, size, 3]` uint8 RGB; black where the picture ends.
    """
    return cv2.warpAffine(frame, similarity(landmarks, TEMPLATE * size), (size, size), flags=cv2.INTER_LINEAR)


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The turn, scaling and shift that brings points `[K, 2]` nearest to others, in least squares, as `[2, 3]`.

    Umeyama 1991, in complex numbers: target = a source + b.
    """
    z, w = (points[:, 0] + 1j * points[:, 1] for points in (source, target))
    a = np.vdot(z - z.mean(), w - w.mean()) / np.vdot(z - z.mean(), z - z.mean()).real
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes `[A, 4]` and `[B, 4]`, as `[A, B]`."""
    a, b = a[:, None], b[None]
    start = np.maximum(a[..., :2], b[..., :2])
    end = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    shared = np.prod(np.maximum(end - start, 0), axis=-1)
    return shared / (np.prod(a[..., 2:], axis=-1) + np.prod(b[..., 2:], axis=-1) - shared)


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
    support = sum(overlap(candidates, others).max(axis=1) for others in found)
    return candidates[np.argmax(support * candidates[:, 2] * candidates[:, 3])]


def _nearest(candidates: np.ndarray, main: np.ndarray | None) -> int:
    """Which of them overlaps the main face most; where none does, as after a cut, the largest."""
    area = candidates[:, 2] * candidates[:, 3]
    shared = np.zeros(len(candidates)) if main is None else overlap(candidates, main[None])[:, 0]
    return int(np.argmax(shared if shared.any() else area))
