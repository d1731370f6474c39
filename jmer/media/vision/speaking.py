"""Which of the faces in a clip speaks: the one whose mouth moves as the sound does."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from jmer.base.types import SAMPLE_RATE
from jmer.media.vision.faces import TEMPLATE, Detector, haar, similarity
from jmer.media.vision.tracks import Track, follow, joined

_SIDE = 64  # of the square that a face is brought to, in pixels
_MOUTH = (slice(43, 64), slice(16, 48))  # its rows and columns
# Forehead, eyes and nose. Both lengths are even and of small factors: else `phaseCorrelate` is half a pixel off.
_UPPER = (slice(6, 36), slice(12, 52))
_NOISE = 0.5  # grey levels that a picture changes by though nothing moves

_STEPS = 8  # fewest from frame to frame to judge by
_LONGEST_STEP = 0.5  # seconds; movement over more says nothing of the sound between
_WINDOW = 0.04  # seconds on each side of a frame that its loudness is taken over
_CLEAR = 1.5  # standard errors; at 12.5 frames a second real speakers have 2.2 to 6.6, the silent 1.1 at most


@dataclass(frozen=True, kw_only=True)
class Speaker:
    """The face to look at.

    track: None where no face was found. Frames without that face are not in it.
    rule: what the choice rests on, by shot; where the shots differ, each in turn, joined by commas:
      `only face`, `only lasting face`; `speaks`; and where that cannot be told `largest: no sound`,
      `largest: too few frames`, `largest: no mouth follows the sound`; `no face` in the whole clip.
    """

    track: Track | None
    rule: str


def find_speaker(
    frames: np.ndarray,
    times: np.ndarray,
    wave: np.ndarray | None,
    *,
    detect: Detector = haar,
    every: float = 0.5,
) -> Speaker:
    """Follows all faces of a clip and chooses one in each shot.

    12.5 frames a second are worth their while, more are not. Of the 90 pairs of GRID's 10 talkers, the one who is heard
    is found in all at that rate and at 8, and in .83 at 4, where the other keeps silent; in .81 at 12.5 and .76 at 25,
    where the other says a like sentence at the same time (`benchmarks/speaking_face.py`; chance is .5).

    frames, times, wave: as in `jmer.base.types.Media`; F at least 1.
    detect, every: see `tracks.follow`.
    """
    chosen: list[Track] = []
    rules: list[str] = []
    for tracks in follow(frames, times, detect=detect, every=every):
        if tracks:
            index, rule = choose(tracks, frames, times, wave)
            chosen.append(tracks[index])
            rules.append(rule)
    if not chosen:
        return Speaker(track=None, rule="no face")
    return Speaker(track=joined(chosen), rule=", ".join(dict.fromkeys(rules)))


def choose(tracks: Sequence[Track], frames: np.ndarray, times: np.ndarray, wave: np.ndarray | None) -> tuple[int, str]:
    """Which of the faces of one shot, at least one, and by which rule of `Speaker`.

    The strength of the evidence that a face speaks grows with how long it is in view; added to it is half the logarithm
    of its area, so that of two faces that speak or not alike the larger is taken.
    """
    if len(tracks) == 1:
        return 0, "only face"
    areas = [np.prod(track.boxes[:, 2:], axis=1) for track in tracks]
    largest = int(np.argmax([area.sum() for area in areas]))  # over all frames, so a steady face rather than a flash
    if wave is None:
        return largest, "largest: no sound"
    steps = [_steps(track, times) for track in tracks]
    lasting = [index for index, pairs in enumerate(steps) if len(pairs) >= _STEPS]
    if not lasting:
        return largest, "largest: too few frames"
    if len(lasting) == 1:
        return lasting[0], "only lasting face"
    evidence = np.full(len(tracks), -np.inf)
    score = evidence.copy()
    for index in lasting:
        sound = activity(wave, times[tracks[index].frames[steps[index]]])
        if not sound.any():
            return largest, "largest: no sound"
        evidence[index] = speaks(*movement(frames, tracks[index], steps[index]), sound)
        score[index] = evidence[index] + 0.5 * np.log(np.median(areas[index]))
    best = int(np.argmax(score))
    if evidence[best] < _CLEAR:
        return largest, "largest: no mouth follows the sound"
    return best, "speaks"


def speaks(mouth: np.ndarray, upper: np.ndarray, sound: np.ndarray) -> float:
    """How far the movement of a mouth follows the sound, beyond what both share with the movement of the upper face.

    That takes out the head, the camera and the light, which move all of the face. It is the partial correlation, as
    Fisher's z, in standard errors: about a standard normal number for a face that does not speak.

    mouth, upper: `[K]` from `movement`. sound: `[K]` from `activity`. K is more than 4.
    """
    mouth, upper = np.log(mouth + _NOISE), np.log(upper + _NOISE)
    r_mouth_sound = _correlation(mouth, sound)
    r_mouth_upper = _correlation(mouth, upper)
    r_sound_upper = _correlation(sound, upper)
    rest = (1 - r_mouth_upper**2) * (1 - r_sound_upper**2)
    if rest < 1e-9:
        return 0.0
    partial = (r_mouth_sound - r_mouth_upper * r_sound_upper) / np.sqrt(rest)
    return float(np.arctanh(np.clip(partial, -0.999, 0.999)) * np.sqrt(len(mouth) - 4))


def movement(frames: np.ndarray, track: Track, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How much mouth and upper face change from frame to frame once the head is held still.

    frames: as in `Media`.
    steps: `[K, 2]` int, positions in the track.

    Returns: mouth `[K]` and upper face `[K]`, mean absolute difference in grey levels.
    """
    side = float(np.median(track.boxes[:, 2:].max(axis=1)))  # one for all, as the detector's squares flicker
    squares = {int(at): _square(frames[track.frames[at]], track, at, side) for at in np.unique(steps)}
    height, width = (part.stop - part.start for part in _UPPER)
    window = cv2.createHanningWindow((width, height), cv2.CV_32F)
    changes = []
    for first, second in steps:
        a, b = squares[int(first)], squares[int(second)]
        (right, down), _ = cv2.phaseCorrelate(a[_UPPER].copy(), b[_UPPER].copy(), window)
        back = np.array([[1, 0, -right], [0, 1, -down]], np.float64)
        held = cv2.warpAffine(b, back, (_SIDE, _SIDE), borderMode=cv2.BORDER_REPLICATE)
        # A match may be false; then the head is better left as it is.
        change = min(np.abs(held - a), np.abs(b - a), key=lambda change: change[_UPPER].mean())
        changes.append((change[_MOUTH].mean(), change[_UPPER].mean()))
    mouth, upper = np.array(changes, np.float64).T
    return mouth, upper


def activity(wave: np.ndarray, times: np.ndarray) -> np.ndarray:
    """How much there is to move the mouth for: how loud it is and how much that changes, in equal parts.

    wave: `[T]` as in `Media`; there is silence before and after it.
    times: `[K, 2]` seconds, from when to when.

    Returns: `[K]` float64, of mean 0; all 0 where it is equally loud throughout. It does not depend on the wave's gain.
    """
    level = _loudness(wave, times[:, 0] - _WINDOW, times[:, 1] + _WINDOW)
    ends = [_loudness(wave, at - _WINDOW, at + _WINDOW) for at in times.T]
    return _standard(level) + _standard(np.abs(ends[1] - ends[0]))


def _loudness(wave: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Root of the RMS, `[K]`: nearer to what one hears than the RMS, and free of a least level as a logarithm needs."""
    power = np.concatenate([[0.0], np.cumsum(np.square(wave, dtype=np.float64))])
    first, last = (np.clip(np.round(at * SAMPLE_RATE).astype(int), 0, len(wave)) for at in (start, end))
    return (np.maximum(power[last] - power[first], 0) / ((end - start) * SAMPLE_RATE)) ** 0.25


def _standard(values: np.ndarray) -> np.ndarray:
    spread = values.std()
    return (values - values.mean()) / spread if spread > 1e-9 else np.zeros_like(values)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.mean(_standard(a) * _standard(b)))


def _steps(track: Track, times: np.ndarray) -> np.ndarray:
    """`[K, 2]` int, positions in the track of frames that follow one another; repeated frames count once."""
    distinct = np.flatnonzero(np.diff(times[track.frames], prepend=-np.inf) > 0)
    pairs = np.stack([distinct[:-1], distinct[1:]], axis=1)
    return pairs[np.diff(times[track.frames[pairs]], axis=1)[:, 0] <= _LONGEST_STEP]


def _square(frame: np.ndarray, track: Track, at: int, side: float) -> np.ndarray:
    """The face in grey, `[_SIDE, _SIDE]` float32, brought to where `_MOUTH` and `_UPPER` expect it."""
    fine = max(1, round(side / _SIDE / 2))  # first larger, then averaged, or single pixels would make the movement
    size = _SIDE * fine
    if track.landmarks is None:
        left, top, width, height = track.boxes[at]
        scale = size / side
        corner = size / 2 - scale * np.array([left + width / 2, top + height / 2])
        onto = np.array([[scale, 0, corner[0]], [0, scale, corner[1]]])
    else:
        onto = similarity(track.landmarks[at], TEMPLATE * size)
    face = cv2.warpAffine(frame, onto, (size, size), borderMode=cv2.BORDER_REPLICATE)
    grey = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)
    return cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
