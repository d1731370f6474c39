"""The faces of a clip over time: one track a face and shot."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from jmer.media.vision.faces import Detector, Faces, aligned_crop, crop, haar, overlap

# A cut is where the picture changes, on average over thumbnails and in grey levels, by more than this and by so many
# times what is usual in the clip. Within the shots of real clips frames 0.4 s apart differ by 3 at most, and by 11 to
# 60 across cuts.
_CUT = 10.0
_CUT_TIMES = 4.0
_THUMBNAIL = (32, 18)

_SAME_FACE = 0.2  # least overlap of a face with where it was when last seen


@dataclass(frozen=True, kw_only=True)
class Track:
    """One face.

    frames: `[K]` int, the frames it is in, ascending.
    boxes: `[K, 4]` float64, as in `Faces`.
    landmarks: `[K, 5, 2]` float64, as in `Faces`; None without.
    """

    frames: np.ndarray
    boxes: np.ndarray
    landmarks: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.frames)


def joined(tracks: Sequence[Track]) -> Track:
    """Tracks of different shots, in order of time, as one; with landmarks where all have them. At least one."""
    landmarks = [track.landmarks for track in tracks if track.landmarks is not None]
    return Track(
        frames=np.concatenate([track.frames for track in tracks]),
        boxes=np.concatenate([track.boxes for track in tracks]),
        landmarks=np.concatenate(landmarks) if len(landmarks) == len(tracks) else None,
    )


def sample(track: Track, count: int) -> Track:
    """Only `count` of its frames, evenly spaced; all where it has no more."""
    count = min(count, len(track))
    keep = ((np.arange(count) + 0.5) * len(track) / count).astype(int)
    landmarks = None if track.landmarks is None else track.landmarks[keep]
    return Track(frames=track.frames[keep], boxes=track.boxes[keep], landmarks=landmarks)


def crops(frames: np.ndarray, track: Track, *, size: int = 112, margin: float = 0.1, align: bool = False) -> np.ndarray:
    """The face in each frame of its track, as `[K, size, size, 3]` uint8 RGB.

    margin: see `faces.crop`.
    align: give `faces.aligned_crop`s instead; the track must have landmarks.
    """
    if align:
        assert track.landmarks is not None
        return np.stack(
            [aligned_crop(frames[i], at, size=size) for i, at in zip(track.frames, track.landmarks, strict=True)]
        )
    return np.stack(
        [crop(frames[i], box, size=size, margin=margin) for i, box in zip(track.frames, track.boxes, strict=True)]
    )


def shots(frames: np.ndarray) -> np.ndarray:
    """Number of the shot that each frame belongs to, from 0, as `[F]` int. F is at least 1."""
    step = max(1, frames.shape[2] // 160)  # every pixel of a large picture would take long
    thumbnails = [
        cv2.resize(frame[::step, ::step], _THUMBNAIL, interpolation=cv2.INTER_AREA).astype(np.float32)
        for frame in frames
    ]
    change = np.array([np.abs(b - a).mean() for a, b in pairwise(thumbnails)])
    limit = max(_CUT, _CUT_TIMES * float(np.median(change))) if len(change) else _CUT
    return np.concatenate([[0], np.cumsum(change > limit)])


def follow(
    frames: np.ndarray,
    times: np.ndarray,
    *,
    detect: Detector = haar,
    every: float = 0.5,
    bridge: int = 2,
) -> list[list[Track]]:
    """Follows every face of a clip, from cut to cut.

    The detector sees the first and the last frame of each shot and some between; a face is taken to move evenly from
    one to the next.

    frames: `[F, height, width, 3]` uint8 RGB, F at least 1.
    times: `[F]` seconds.
    every: the detector sees frames about so many seconds apart.
    bridge: how often in a row the detector may miss a face before it counts as gone.

    Returns: for each shot its tracks, in order of their first frame.
    """
    shot = shots(frames)
    seen = [_spread(np.flatnonzero(shot == number), times, every) for number in range(shot[-1] + 1)]
    found = detect(frames[np.concatenate(seen)])
    starts = np.cumsum([len(indices) for indices in seen])[:-1]
    return [
        link(indices, [found[i] for i in positions], bridge=bridge)
        for indices, positions in zip(seen, np.split(np.arange(len(found)), starts), strict=True)
    ]


def link(frames: np.ndarray, found: Sequence[Faces], *, bridge: int = 2) -> list[Track]:
    """Joins the faces found in some frames of one shot into tracks, each through all the frames from first to last.

    frames: `[J]` int, ascending.
    found: the faces of each of those.
    bridge: see `follow`.
    """
    chains: list[list[tuple[int, int]]] = []  # (position in `frames`, which of its faces)
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
    """Some of a shot's frames, evenly spaced, with the first and the last."""
    span = times[indices[-1]] - times[indices[0]]
    count = int(np.clip(np.ceil(span / every) + 1, min(2, len(indices)), len(indices)))
    return indices[np.linspace(0, len(indices) - 1, count).round().astype(int)]
