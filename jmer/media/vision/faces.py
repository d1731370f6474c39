"""Finds the faces in frames, and crops them.

The built-in detector is OpenCV's Haar cascade. The method is old, but it comes with OpenCV, is fast, and gives the same
result everywhere.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float64, Real, UInt8

# For each search: the longest side of the picture that is searched, in pixels; the scale step; the least number of
# neighbouring hits. The second search is made in clips where the first finds no face. It finds faces down to 1/25 of
# the width, the first one down to 1/16, and takes three times as long.
SEARCHES = ((320, 1.1, 7), (640, 1.2, 5))

# The places of the eyes, the tip of the nose and the corners of the mouth in a square of side 1, for a face that looks
# at the camera. Of each pair the left one in the picture comes first. The values are ArcFace's, given for 112 pixels,
# on which recognition networks are trained.
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
) / np.float64(112)


class Faces(NamedTuple):
    """The faces of one frame, in its pixels.

    boxes: left, top, width and height of each face.
    landmarks: x and y of the points of `TEMPLATE` for each face; None if the detector does not find them.
    """

    boxes: Float64[np.ndarray, "faces 4"]
    landmarks: Float64[np.ndarray, "faces 5 2"] | None = None


Frames = UInt8[np.ndarray, "F height width 3"]  # RGB

# Frames of one clip -> the faces of each.
Detector = Callable[[Frames], list[Faces]]


def haar(frames: Frames) -> list[Faces]:
    """Finds faces by the built-in detector, which needs no model file."""
    boxes: list[np.ndarray] = []
    for side, step, neighbours in SEARCHES:
        boxes = [_detect(frame, side=side, step=step, neighbours=neighbours) for frame in frames]
        if any(len(candidates) for candidates in boxes):
            break
    return [Faces(candidates) for candidates in boxes]


def face_crops(
    frames: Frames, *, size: int = 112, margin: float = 0.1, align: bool = False, detect: Detector = haar
) -> tuple[UInt8[np.ndarray, "found {size} {size} 3"], Bool[np.ndarray, " F"]]:
    """Crops the main face of each frame. Of several faces, the main one is large and stays in place over the frames.

    size, margin: see `crop`.
    align: crop by `aligned_crop` instead; the detector must find landmarks.

    Returns: a crop of each frame with a face, in order, and a mask of the frames with a face.
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


def crop(
    frame: UInt8[np.ndarray, "height width 3"],
    box: Real[np.ndarray, " 4"],
    *,
    size: int = 112,
    margin: float = 0.1,
) -> UInt8[np.ndarray, "{size} {size} 3"]:
    """Cuts out the square around a box and scales it.

    The pixels at the border of the picture are repeated where the square extends beyond the border.

    box: left, top, width and height in pixels.
    size: side of the crop in pixels.
    margin: the square extends beyond the longer side of the box by this share of it, at either end.
    """
    centre_x, centre_y = box[0] + box[2] / 2, box[1] + box[3] / 2
    side = max(1, round(max(box[2], box[3]) * (1 + 2 * margin)))
    left, top = round(centre_x - side / 2), round(centre_y - side / 2)
    rows = np.clip(np.arange(top, top + side), 0, frame.shape[0] - 1)
    columns = np.clip(np.arange(left, left + side), 0, frame.shape[1] - 1)
    interpolation = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    return cv2.resize(frame[rows[:, None], columns], (size, size), interpolation=interpolation)


def aligned_crop(
    frame: UInt8[np.ndarray, "height width 3"], landmarks: Float[np.ndarray, "5 2"], *, size: int = 112
) -> UInt8[np.ndarray, "{size} {size} 3"]:
    """Rotates, scales and shifts a face so that its landmarks lie on `TEMPLATE`, as recognition networks expect.

    The crop is black beyond the border of the picture. With `size` 112 it equals `cv2.FaceRecognizerSF.alignCrop`.
    """
    return cv2.warpAffine(frame, similarity(landmarks, TEMPLATE * size), (size, size), flags=cv2.INTER_LINEAR)


def similarity(
    source: Float[np.ndarray, "points 2"], target: Float[np.ndarray, "points 2"]
) -> Float64[np.ndarray, "2 3"]:
    """Returns the rotation, scaling and shift that maps `source` to `target` with the least squared error.

    The solution is Umeyama's (1991), written in complex numbers: target = a source + b.
    """
    z, w = (points[:, 0] + 1j * points[:, 1] for points in (source, target))
    a = np.vdot(z - z.mean(), w - w.mean()) / np.vdot(z - z.mean(), z - z.mean()).real
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def overlap(a: Float[np.ndarray, "faces 4"], b: Float[np.ndarray, "others 4"]) -> Float[np.ndarray, "faces others"]:
    """Returns the intersection over union of each pair of boxes, in [0, 1]."""
    a, b = a[:, None], b[None]
    start = np.maximum(a[..., :2], b[..., :2])
    end = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    shared = np.prod(np.maximum(end - start, 0), axis=-1)
    return shared / (np.prod(a[..., 2:], axis=-1) + np.prod(b[..., 2:], axis=-1) - shared)


@cache
def _cascade() -> cv2.CascadeClassifier:
    """Loads the cascade once in each process.

    Of OpenCV's cascades for frontal faces, alt2 was the fastest, and the only one without a false alarm.
    """
    path = Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_alt2.xml"
    cascade = cv2.CascadeClassifier(str(path))
    if cascade.empty():
        raise RuntimeError(f"{path}: OpenCV cannot load this file; opencv-python >=4.14,<5 brings it")
    return cascade


def _detect(frame: np.ndarray, *, side: int, step: float, neighbours: int) -> Float64[np.ndarray, "faces 4"]:
    """Makes one search of `SEARCHES` and returns the boxes in pixels of the frame."""
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    scale = min(1.0, side / max(grey.shape))
    if round(min(grey.shape) * scale) < min(_cascade().getOriginalWindowSize()):
        return np.zeros((0, 4))  # a side that is shorter than the smallest face, and may be nothing once it is scaled
    if scale < 1:
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    boxes = _cascade().detectMultiScale(grey, scaleFactor=step, minNeighbors=neighbours)
    return np.reshape(boxes, (-1, 4)) / scale


def _steadiest(boxes: list[np.ndarray]) -> np.ndarray | None:
    """Returns the box with the largest product of area and support; None if there is no box.

    The support of a box is the sum over all frames of its largest overlap with a box of that frame.
    """
    found = [candidates for candidates in boxes if len(candidates)]
    if not found:
        return None
    candidates = np.concatenate(found)
    support = sum(overlap(candidates, others).max(axis=1) for others in found)
    return candidates[np.argmax(support * candidates[:, 2] * candidates[:, 3])]


def _nearest(candidates: np.ndarray, main: np.ndarray | None) -> int:
    """Returns which box overlaps the main face most. If none does, as after a cut, it is the largest box."""
    area = candidates[:, 2] * candidates[:, 3]
    shared = np.zeros(len(candidates)) if main is None else overlap(candidates, main[None])[:, 0]
    return int(np.argmax(shared if shared.any() else area))
