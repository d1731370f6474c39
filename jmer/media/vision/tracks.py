"""Follows the faces of a clip over time. Each face has one track in each shot."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from jmer.media.vision.faces import Detector, Faces, Frames, aligned_crop, crop, haar, overlap

# At a cut, the mean difference of two thumbnails exceeds `_CUT` levels of 255, and `_CUT_TIMES` times the clip's median
# difference. In real clips, frames 0.4 s apart differ by 3 at most within a shot, and by 11 to 60 across a cut.
_CUT = 10.0
_CUT_TIMES = 4.0
_THUMBNAIL = (32, 18)

_SAME_FACE = 0.2  # least overlap of a face with its box when it was last seen


@dataclass(frozen=True, kw_only=True)
class Track:
    """One face over time.

    frames: positions of the clip's frames that show the face, ascending.
    boxes: its box in each of these frames, as in `Faces`.
    landmarks: its landmarks in each of these frames, as in `Faces`; None if the detector does not find them.
    """

    frames: Int[np.ndarray, " frames"]
    boxes: Float[np.ndarray, "frames 4"]
    landmarks: Float[np.ndarray, "frames 5 2"] | None = None

    def __len__(self) -> int:
        return len(self.frames)


def joined(tracks: Sequence[Track]) -> Track:
    """Joins tracks of different shots, at least one and in order of time, to one track.

    The result has landmarks if all of them do.
    """
    landmarks = [track.landmarks for track in tracks if track.landmarks is not None]
    return Track(
        frames=np.concatenate([track.frames for track in tracks]),
        boxes=np.concatenate([track.boxes for track in tracks]),
        landmarks=np.concatenate(landmarks) if len(landmarks) == len(tracks) else None,
    )


def sample(track: Track, count: int) -> Track:
    """Keeps `count` evenly spaced frames of a track, or all of them if it has fewer."""
    count = min(count, len(track))
    keep = ((np.arange(count) + 0.5) * len(track) / count).astype(int)
    landmarks = None if track.landmarks is None else track.landmarks[keep]
    return Track(frames=track.frames[keep], boxes=track.boxes[keep], landmarks=landmarks)


def crops(
    frames: Frames, track: Track, *, size: int = 112, margin: float = 0.1, align: bool = False
) -> UInt8[np.ndarray, "crops {size} {size} 3"]:
    """Crops the face in each frame of its track.

    size, margin: see `faces.crop`.
    align: crop by `faces.aligned_crop` instead; the track must have landmarks.
    """
    if align:
        assert track.landmarks is not None
        return np.stack(
            [aligned_crop(frames[i], at, size=size) for i, at in zip(track.frames, track.landmarks, strict=True)]
        )
    return np.stack(
        [crop(frames[i], box, size=size, margin=margin) for i, box in zip(track.frames, track.boxes, strict=True)]
    )


def shots(frames: Frames) -> Int[np.ndarray, " F"]:
    """Returns the number of the shot, from 0, that each frame belongs to. There must be at least one frame."""
    step = max(1, frames.shape[2] // 160)  # averaging every pixel of a large picture would be slow
    thumbnails = [
        cv2.resize(frame[::step, ::step], _THUMBNAIL, interpolation=cv2.INTER_AREA).astype(np.float32)
        for frame in frames
    ]
    change = np.array([np.abs(b - a).mean() for a, b in pairwise(thumbnails)])
    limit = max(_CUT, _CUT_TIMES * float(np.median(change))) if len(change) else _CUT
    return np.concatenate([[0], np.cumsum(change > limit)])


def follow(
    frames: Frames,
    times: Float[np.ndarray, " F"],
    *,
    detect: Detector = haar,
    every: float = 0.5,
    bridge: int = 2,
) -> list[list[Track]]:
    """Follows every face of a clip within each shot.

    The detector is run on the first and the last frame of each shot, and on some frames between. From one of these
    frames to the next, a face is assumed to move at constant speed.

    frames: at least one.
    times: when each frame appears, in seconds.
    every: about how many seconds lie between two frames that the detector is run on.
    bridge: how many times in a row the detector may miss a face before the track ends.

    Returns: the tracks of each shot, in order of their first frame.
    """
    shot = shots(frames)
    seen = [_spread(np.flatnonzero(shot == number), times, every) for number in range(shot[-1] + 1)]
    found = detect(frames[np.concatenate(seen)])
    starts = np.cumsum([len(indices) for indices in seen])[:-1]
    return [
        link(indices, [found[i] for i in positions], bridge=bridge)
        for indices, positions in zip(seen, np.split(np.arange(len(found)), starts), strict=True)
    ]


def link(frames: Int[np.ndarray, " searched"], found: Sequence[Faces], *, bridge: int = 2) -> list[Track]:
    """Links the faces found in some frames of one shot to tracks. A track has every frame from its first to its last.

    frames: positions of the frames that the detector was run on, ascending.
    found: the faces in each of these frames.
    bridge: see `follow`.
    """
    chains: list[list[tuple[int, int]]] = []  # (position in `frames`, which of the faces there)
    for position, faces in enumerate(found):
        open_chains = [chain for chain in chains if position - chain[-1][0] <= bridge + 1]
        free = set(range(len(faces.boxes)))
        if open_chains and free:
            last = np.stack([found[chain[-1][0]].boxes[chain[-1][1]] for chain in open_chains])
            shared = overlap(last, faces.boxes)
            while shared.max() >= _SAME_FACE:  # the most certain pair first
                chain, face = np.unravel_index(shared.argmax(), shared.shape)
                open_chains[chain].append((position, int(face)))
                free.remove(int(face))
                shared[chain] = shared[:, face] = -1
        chains += [[(position, face)] for face in sorted(free)]
    return [_track(frames, found, chain) for chain in chains]


def _track(frames: np.ndarray, found: Sequence[Faces], chain: list[tuple[int, int]]) -> Track:
    """Makes a track of a chain of faces. Boxes and landmarks are interpolated in the frames between them."""
    known = frames[[position for position, _ in chain]]
    indices = np.arange(known[0], known[-1] + 1)

    def between(values: np.ndarray) -> np.ndarray:
        columns = values.reshape(len(known), -1).T
        return np.stack([np.interp(indices, known, column) for column in columns], axis=1)

    boxes = between(np.stack([found[position].boxes[face] for position, face in chain]))
    landmarks = [points[face] for position, face in chain if (points := found[position].landmarks) is not None]
    if len(landmarks) < len(chain):
        return Track(frames=indices, boxes=boxes)
    return Track(frames=indices, boxes=boxes, landmarks=between(np.stack(landmarks)).reshape(-1, 5, 2))


def _spread(indices: np.ndarray, times: np.ndarray, every: float) -> np.ndarray:
    """Picks frames of a shot, evenly spaced and about `every` seconds apart, with the first and the last."""
    span = times[indices[-1]] - times[indices[0]]
    count = int(np.clip(np.ceil(span / every) + 1, min(2, len(indices)), len(indices)))
    return indices[np.linspace(0, len(indices) - 1, count).round().astype(int)]
