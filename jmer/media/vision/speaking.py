"""Finds the face that speaks: the one whose mouth moves with the sound."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Float32, Float64, Int

from jmer.base.types import SAMPLE_RATE
from jmer.media.vision.faces import TEMPLATE, Detector, Frames, haar, similarity
from jmer.media.vision.tracks import Track, follow, joined

_SIDE = 64  # pixels; a face is scaled to a square of this side
_MOUTH = (slice(43, 64), slice(16, 48))  # rows and columns of the square
# Forehead, eyes and nose. Both lengths are even and have small prime factors, since otherwise `phaseCorrelate` is half
# a pixel off.
_UPPER = (slice(6, 36), slice(12, 52))
_NOISE = 0.5  # grey levels by which a picture changes when nothing moves

# A step is a pair of successive frames of a track.
_STEPS = 8  # a face with fewer steps cannot be judged
_LONGEST_STEP = 0.5  # seconds; movement over a longer step says nothing about the sound within it
_WINDOW = 0.04  # seconds; the loudness at a frame is measured over this time on either side of it
_CLEAR = 1.5  # standard errors; at 12.5 frames a second, real speakers reach 2.2 to 6.6, and silent faces 1.1 at most


@dataclass(frozen=True, kw_only=True)
class Speaker:
    """The face of the speaker.

    track: the frames that show the face; None if the clip has no face.
    rule: the reason for the choice. If it differs between shots, the reasons are joined by commas. One of `only face`,
      `only lasting face` (the others are in view too briefly), `speaks` (the mouth follows the sound), and for the
      largest face, if it cannot be told who speaks, `largest: no sound`, `largest: too few frames` or `largest: no
      mouth follows the sound`. It is `no face` if the clip has none.
    """

    track: Track | None
    rule: str


def find_speaker(
    frames: Frames,
    times: Float[np.ndarray, " F"],
    wave: Float32[np.ndarray, " T"] | None,
    *,
    detect: Detector = haar,
    every: float = 0.5,
) -> Speaker:
    """Follows all faces of a clip and chooses one in each shot.

    More than 12.5 frames a second bring nothing. This is the share of the 90 pairs of GRID's 10 talkers in which the
    heard one is chosen (`benchmarks/speaking_face.py`; chance is .5):

        frames a second                                4      8   12.5     25
        the other face is silent                     .83   1.00   1.00
        the other says a similar sentence at once                  .81    .76

    frames, times, wave: as in `jmer.base.types.Media`; at least one frame.
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


def choose(
    tracks: Sequence[Track],
    frames: Frames,
    times: Float[np.ndarray, " F"],
    wave: Float32[np.ndarray, " T"] | None,
) -> tuple[int, str]:
    """Chooses one of the faces of a shot, and returns its index and the rule, as in `Speaker`.

    The score of a face is the evidence that it speaks, which grows with the time that it is in view, plus half the
    logarithm of its area. Of two faces with equal evidence the larger is thus chosen.

    tracks: at least one.
    """
    if len(tracks) == 1:
        return 0, "only face"
    areas = [np.prod(track.boxes[:, 2:], axis=1) for track in tracks]
    largest = int(
        np.argmax([area.sum() for area in areas])
    )  # summed over frames, so that a face seen briefly does not count
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


def speaks(
    mouth: Float64[np.ndarray, " steps"], upper: Float64[np.ndarray, " steps"], sound: Float64[np.ndarray, " steps"]
) -> float:
    """Measures how well the movement of a mouth follows the sound, given the movement of the upper face.

    Head, camera and light change the whole face, so their share is removed by a partial correlation. The result is
    Fisher's z of this correlation in standard errors. For a face that does not speak, it is about standard normal.

    mouth, upper: from `movement`, for more than 4 steps.
    sound: from `activity`.
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


def movement(
    frames: Frames, track: Track, steps: Int[np.ndarray, "steps 2"]
) -> tuple[Float64[np.ndarray, " steps"], Float64[np.ndarray, " steps"]]:
    """Measures how much the mouth and the upper face change in each step, after the movement of the head is undone.

    steps: positions in the track, of the first and the second frame of each step.

    Returns: the mean absolute difference in grey levels, for the mouth and for the upper face.
    """
    side = float(np.median(track.boxes[:, 2:].max(axis=1)))  # one side for all frames, as the detector's boxes flicker
    squares = {at: _square(frames[track.frames[at]], track, at, side) for at in np.unique(steps).tolist()}
    height, width = (part.stop - part.start for part in _UPPER)
    window = cv2.createHanningWindow((width, height), cv2.CV_32F)
    changes = []
    for first, second in steps:
        a, b = squares[int(first)], squares[int(second)]
        (right, down), _ = cv2.phaseCorrelate(a[_UPPER].copy(), b[_UPPER].copy(), window)
        back = np.array([[1, 0, -right], [0, 1, -down]], np.float64)
        held = cv2.warpAffine(b, back, (_SIDE, _SIDE), borderMode=cv2.BORDER_REPLICATE)
        # The shift may be wrong. The second square is then better compared as it is.
        change = min(np.abs(held - a), np.abs(b - a), key=lambda change: change[_UPPER].mean())
        changes.append((change[_MOUTH].mean(), change[_UPPER].mean()))
    mouth, upper = np.array(changes, np.float64).T
    return mouth, upper


def activity(wave: Float32[np.ndarray, " T"], times: Float[np.ndarray, "steps 2"]) -> Float64[np.ndarray, " steps"]:
    """Estimates from the sound how much the speaker's mouth moves in each step.

    The estimate is the loudness plus the absolute change of the loudness, both standardised over the steps.

    wave: as in `Media`. Before and after it there is silence.
    times: start and end of each step, in seconds.

    Returns: values of mean 0, or only zeros if the loudness is constant. They do not depend on the wave's gain.
    """
    level = _loudness(wave, times[:, 0] - _WINDOW, times[:, 1] + _WINDOW)
    ends = [_loudness(wave, at - _WINDOW, at + _WINDOW) for at in times.T]
    return _standard(level) + _standard(np.abs(ends[1] - ends[0]))


def _loudness(wave: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Returns the square root of the RMS between each start and end.

    The root is closer to perceived loudness than the RMS itself. Unlike a logarithm, it needs no least level.
    """
    power = np.concatenate([[0.0], np.cumsum(np.square(wave, dtype=np.float64))])
    first, last = (np.clip(np.round(at * SAMPLE_RATE).astype(int), 0, len(wave)) for at in (start, end))
    return (np.maximum(power[last] - power[first], 0) / ((end - start) * SAMPLE_RATE)) ** 0.25


def _standard(values: np.ndarray) -> np.ndarray:
    """Scales values to mean 0 and deviation 1. Constant values become 0."""
    spread = values.std()
    return (values - values.mean()) / spread if spread > 1e-9 else np.zeros_like(values)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.mean(_standard(a) * _standard(b)))


def _steps(track: Track, times: np.ndarray) -> Int[np.ndarray, "steps 2"]:
    """Returns the steps of a track as pairs of positions in it, without the long ones. Repeated frames count once."""
    distinct = np.flatnonzero(np.diff(times[track.frames], prepend=-np.inf) > 0)
    pairs = np.stack([distinct[:-1], distinct[1:]], axis=1)
    return pairs[np.diff(times[track.frames[pairs]], axis=1)[:, 0] <= _LONGEST_STEP]


def _square(frame: np.ndarray, track: Track, at: int, side: float) -> Float32[np.ndarray, "64 64"]:
    """Returns the face in grey, with mouth and upper face at `_MOUTH` and `_UPPER`."""
    fine = max(1, round(side / _SIDE / 2))  # averaged down from a larger square, so that no single pixels matter
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
