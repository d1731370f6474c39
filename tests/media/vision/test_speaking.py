from pathlib import Path

import cv2
import numpy as np
import pytest

from jmer.base.types import SAMPLE_RATE, Media
from jmer.media import decoding
from jmer.media.vision import speaking
from jmer.media.vision.faces import TEMPLATE, Faces
from jmer.media.vision.tracks import Track, follow, link

STEPS = 36


def numbers(seed: int, count: int = STEPS) -> np.ndarray:
    """Returns positive noise without order in time."""
    return np.random.default_rng(seed).gamma(2.0, size=count)


# ---- the score, on made-up movements ---------------------------------------------------------------------------------


def test_a_mouth_in_phase_with_the_sound():
    sound, other = numbers(0), numbers(1)
    quiet_head = 1 + 0.2 * numbers(2)
    in_phase = speaking.speaks(1 + 3 * sound, quiet_head, sound)

    assert in_phase > 4
    assert abs(speaking.speaks(1 + 3 * other, quiet_head, sound)) < 2
    assert speaking.speaks(1 + 3 * (sound.max() - sound), quiet_head, sound) < -4


def test_head_and_light_do_not_count():
    """A face that moves as a whole in time with the sound does not speak, unless its mouth moves beyond that."""
    sound = numbers(0)
    shaken = 1 + 4 * sound * numbers(4)  # nods when it is loud
    rng = np.random.default_rng(3)

    def jitter() -> np.ndarray:
        return rng.uniform(0.9, 1.1, STEPS)

    assert speaking.speaks(0.8 * shaken * jitter(), np.ones(STEPS), sound) > 4
    assert abs(speaking.speaks(0.8 * shaken * jitter(), shaken * jitter(), sound)) < 2
    independent = 1 + 4 * numbers(5)  # head movement that the mouth shares
    assert speaking.speaks(independent * (1 + 2 * sound), independent * jitter(), sound) > 4
    still = np.zeros(STEPS)
    assert speaking.speaks(still, still, sound) == 0
    assert speaking.speaks(sound, sound, sound) == 0
    flicker = np.full(STEPS, 7.0)
    assert speaking.speaks(flicker, flicker, sound) == 0


def test_score_of_a_face_that_does_not_speak_is_standard_normal():
    scores = np.array([speaking.speaks(numbers(3 * i), numbers(3 * i + 1), numbers(3 * i + 2)) for i in range(400)])
    assert abs(scores.mean()) < 0.2
    assert scores.std() == pytest.approx(1, abs=0.12)


def test_longer_in_view_is_stronger_evidence():
    sound = numbers(0, 400)
    mouth = 1 + sound + 2 * numbers(1, 400)
    short, long = (speaking.speaks(mouth[:n], numbers(2, 400)[:n], sound[:n]) for n in (20, 400))
    assert long > 2 * short > 0


# ---- the sound -------------------------------------------------------------------------------------------------------


def test_activity():
    """The wave has a tone from 1 to 2 s between silence; the steps last 0.1 s."""
    time = np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE
    wave = np.where((time >= 1) & (time < 2), 0.1 * np.sin(2 * np.pi * 200 * time), 0).astype(np.float32)
    starts = np.arange(0, 2.9, 0.1) + 0.005
    steps = np.stack([starts, starts + 0.1], axis=1)

    got = speaking.activity(wave, steps)

    assert got.mean() == pytest.approx(0, abs=1e-9)
    first, within, last, silent = got[9], got[12:18], got[19], got[[2, 3, 4, 24, 25]]
    assert np.ptp(within) < 0.05
    assert np.ptp(silent) < 0.05
    assert within.min() > silent.max() + 1
    assert min(first, last) > within.max(), "the mouth moves most where it begins and ends"
    np.testing.assert_allclose(speaking.activity(0.01 * wave, steps), got, atol=1e-3)


def test_activity_without_any():
    steps = np.stack([np.arange(10) * 0.1, np.arange(1, 11) * 0.1], axis=1)
    for wave in (np.zeros(SAMPLE_RATE, np.float32), np.zeros(0, np.float32), np.zeros(3 * SAMPLE_RATE, np.float32)):
        assert not speaking.activity(wave, steps).any()
    early = steps - 5  # before the sound begins
    assert not speaking.activity(np.ones(SAMPLE_RATE, np.float32), early).any()


# ---- pictures --------------------------------------------------------------------------------------------------------


def drawn(opening: float, *, seed: int, at: tuple[float, float] = (80, 60), light: float = 1.0) -> np.ndarray:
    """Draws a face of 120 pixels in a frame `[240, 320, 3]`. opening: how far the mouth is open, in [0, 1]."""
    rng = np.random.default_rng(seed)
    skin = cv2.resize(rng.integers(120, 220, (15, 15), dtype=np.uint8), (120, 120), interpolation=cv2.INTER_CUBIC)
    for x in (40, 80):
        cv2.circle(skin, (x, 48), 7, 30, -1)
    cv2.ellipse(skin, (60, 99), (18, round(2 + 12 * opening)), 0, 0, 360, 20, -1)
    onto = np.array([[1, 0, at[0]], [0, 1, at[1]]], np.float64)
    picture = cv2.warpAffine(skin, onto, (320, 240), borderMode=cv2.BORDER_CONSTANT, borderValue=(100,))
    return np.repeat(np.clip(picture * light, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def track_of(count: int, *, left: float = 80, top: float = 60, side: float = 120) -> Track:
    return Track(frames=np.arange(count), boxes=np.tile([left, top, side, side], (count, 1)).astype(np.float64))


def steps_of(count: int) -> np.ndarray:
    return np.stack([np.arange(count - 1), np.arange(1, count)], axis=1)


def test_movement_of_the_mouth_only():
    openings = [0, 0, 1, 1, 0.5]
    frames = np.stack([drawn(opening, seed=0) for opening in openings])

    mouth, upper = speaking.movement(frames, track_of(5), steps_of(5))

    assert mouth[0] == mouth[2] == 0
    assert mouth[1] > mouth[3] > 5
    assert upper.max() < 0.1 * mouth[1]


def test_movement_of_the_head_is_taken_back():
    places = [(80, 60), (84, 60), (84, 56), (77, 61)]
    still, mouth_too = (
        np.stack([drawn(opening, seed=0, at=at) for opening, at in zip(openings, places, strict=True)])
        for openings in ([0.3] * 4, [0, 1, 0, 1])
    )

    mouth, upper = speaking.movement(still, track_of(4), steps_of(4))
    moving, _ = speaking.movement(mouth_too, track_of(4), steps_of(4))

    unheld = np.abs(np.diff(still[:, 60:180, 80:200].astype(int), axis=0)).mean(axis=(1, 2, 3))
    assert (np.maximum(mouth, upper) < 0.4 * unheld).all()
    assert moving.min() > 4 * mouth.max()


def test_flicker_moves_all_alike():
    frames = np.stack([drawn(0.5, seed=0, light=light) for light in (1.0, 0.9, 1.0, 0.8)])
    mouth, upper = speaking.movement(frames, track_of(4), steps_of(4))
    assert mouth.min() > 3
    np.testing.assert_allclose(mouth, upper, rtol=0.4)


def test_the_mouth_is_where_the_landmarks_say():
    """The face lies on its side, which only the landmarks show."""
    upright = [drawn(opening, seed=0) for opening in (0, 1, 0)]
    frames = np.stack([np.rot90(frame) for frame in upright])
    points = TEMPLATE * 120 + [80, 60]
    lying = np.stack([points[:, 1], 320 - 1 - points[:, 0]], axis=1)
    boxes = np.tile([60.0, 120, 120, 120], (3, 1))
    told = Track(frames=np.arange(3), boxes=boxes, landmarks=np.stack([lying] * 3))

    mouth, upper = speaking.movement(frames, told, steps_of(3))
    reference, _ = speaking.movement(np.stack(upright), track_of(3), steps_of(3))

    assert upper.max() < 0.15 * mouth.min()
    np.testing.assert_allclose(mouth, reference, rtol=0.2)


def test_a_large_face_is_averaged_not_sampled():
    """Noise in single pixels of a large face does not count as movement."""
    rng = np.random.default_rng(0)
    large = cv2.resize(drawn(0.5, seed=0)[..., 0], None, fx=5, fy=5).astype(int)
    frames = np.stack([np.clip(large + rng.normal(scale=12, size=large.shape), 0, 255) for _ in range(3)])
    track = track_of(3, left=400, top=300, side=600)
    mouth, upper = speaking.movement(np.repeat(frames[..., None], 3, axis=3).astype(np.uint8), track, steps_of(3))
    assert max(mouth.max(), upper.max()) < 3


# ---- the choice ------------------------------------------------------------------------------------------------------


class Scene:
    """Two drawn faces side by side for 4 s. The tone is the louder, the more the mouth of the speaker moves."""

    def __init__(self, *, speaker: int, frames: int = 48, scales: tuple[float, float] = (1.0, 1.0)):
        self.times = (np.arange(frames) + 0.5) * 4 / frames
        openings = np.random.default_rng(7).uniform(0, 1, (2, frames))
        bursts = np.random.default_rng(8).permutation(np.arange(8) % 2).repeat(-(-frames // 8))[:frames]
        openings[speaker] *= bursts
        loud = np.interp(np.arange(4 * SAMPLE_RATE) / SAMPLE_RATE, self.times, bursts)
        self.wave = (0.2 * loud * np.sin(np.arange(4 * SAMPLE_RATE) * 0.3)).astype(np.float32)
        halves = []
        for side, scale in enumerate(scales):
            half = np.full((frames, 240, 320, 3), 100, np.uint8)
            for i, opening in enumerate(openings[side]):
                small = cv2.resize(drawn(opening, seed=side), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
                half[i, : small.shape[0], : small.shape[1]] = small
            halves.append(half)
        self.frames = np.concatenate(halves, axis=2)
        left, right = (np.array([80, 60, 120, 120]) * scale for scale in scales)
        self.boxes = np.stack([left, right + np.array([320, 0, 0, 0])])

    def detect(self, frames: np.ndarray) -> list[Faces]:
        return [Faces(self.boxes) for _ in frames]

    @property
    def tracks(self) -> list[Track]:
        count = len(self.frames)
        return link(np.arange(count), [Faces(self.boxes)] * count)


@pytest.mark.parametrize("speaker", [0, 1])
def test_the_speaker_is_found_beside_one_who_chews(speaker: int):
    scene = Scene(speaker=speaker)
    got = speaking.find_speaker(scene.frames, scene.times, scene.wave, detect=scene.detect)

    assert got.rule == "speaks"
    assert got.track is not None
    np.testing.assert_array_equal(got.track.frames, np.arange(48))
    np.testing.assert_allclose(got.track.boxes, np.tile(scene.boxes[speaker], (48, 1)))


def test_a_speaker_beside_a_larger_face():
    scene = Scene(speaker=1, scales=(1.0, 0.35))
    assert speaking.choose(scene.tracks, scene.frames, scene.times, scene.wave) == (1, "speaks")


def test_of_two_who_speak_alike_the_larger():
    scene = Scene(speaker=1)
    same = np.concatenate([scene.frames[:, :, 320:]] * 2, axis=2)
    left, right = scene.tracks
    wide = Track(frames=right.frames, boxes=right.boxes + np.array([-6, -6, 12, 12]))
    assert speaking.choose([left, wide], same, scene.times, scene.wave) == (1, "speaks")
    wide = Track(frames=left.frames, boxes=left.boxes + np.array([-6, -6, 12, 12]))
    assert speaking.choose([wide, right], same, scene.times, scene.wave) == (0, "speaks")


def test_where_it_cannot_be_told_the_largest():
    scene = Scene(speaker=1, scales=(1.0, 0.8))
    frames, times, wave = scene.frames, scene.times, scene.wave
    few = Scene(speaker=1, frames=8, scales=(1.0, 0.8))
    elsewhere = np.roll(wave, SAMPLE_RATE)[::-1].copy()
    rng = np.random.default_rng(0)
    noise = rng.normal(scale=0.1, size=len(wave)).astype(np.float32)

    def choose(wave: np.ndarray | None, scene: Scene = scene, times: np.ndarray = times) -> tuple[int, str]:
        return speaking.choose(scene.tracks, scene.frames, times, wave)

    assert choose(None) == (0, "largest: no sound")
    assert choose(np.zeros_like(wave)) == (0, "largest: no sound")
    assert choose(wave, few, few.times) == (0, "largest: too few frames")
    assert choose(wave, scene, np.zeros(48)) == (0, "largest: too few frames")  # one frame, repeated
    assert choose(wave, scene, times * 8) == (0, "largest: too few frames")  # too far apart
    still = np.stack([frames[0]] * 48)
    assert speaking.choose(scene.tracks, still, times, elsewhere) == (0, "largest: no mouth follows the sound")
    assert speaking.choose(scene.tracks, still, times, noise)[0] == 0


def test_one_face_needs_no_sound_and_a_flash_is_no_face():
    scene = Scene(speaker=0)
    one, two = scene.tracks
    flash = Track(frames=two.frames[20:23], boxes=two.boxes[20:23] * [1, 1, 2, 2])

    assert speaking.choose([one], scene.frames, scene.times, None) == (0, "only face")
    assert speaking.choose([flash, one], scene.frames, scene.times, scene.wave) == (1, "only lasting face")
    assert speaking.choose([flash, one], scene.frames, scene.times, None) == (1, "largest: no sound")


def test_each_shot_has_its_own_choice():
    scene = Scene(speaker=1)
    other = np.full_like(scene.frames[:6], 30)
    frames = np.concatenate([scene.frames, other])
    times = np.concatenate([scene.times, 4 + np.arange(6) / 12])

    def detect(some: np.ndarray) -> list[Faces]:
        lone = Faces(np.array([[0.0, 0, 50, 50]]))
        return [lone if (frame == 30).all() else Faces(scene.boxes) for frame in some]

    got = speaking.find_speaker(frames, times, scene.wave, detect=detect)

    assert got.rule == "speaks, only face"
    assert got.track is not None
    assert got.track.frames.tolist() == list(range(54))
    assert got.track.boxes[0, 0] == 400
    assert got.track.boxes[-1, 2] == 50


def test_no_face():
    frames = np.full((9, 90, 160, 3), 90, np.uint8)
    got = speaking.find_speaker(frames, np.arange(9) * 0.1, None)
    assert (got.track, got.rule) == (None, "no face")


# ---- real clips ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def talkers(shared: Path) -> list[Media]:
    """Returns the clips on which no parameter was chosen."""
    clips = sorted((shared / "datasets/grid").glob("*.mpg"))[1::2]
    return [decoding.decode(clip, frames=37) for clip in clips]


def test_real_speakers_beside_one_who_is_silent(talkers: list[Media]):
    for i, (heard, other) in enumerate(zip(talkers, [*talkers[1:], talkers[0]], strict=True)):
        assert heard.frames is not None
        assert other.frames is not None
        assert heard.frame_times is not None
        silent = other.frames[np.resize([0, 1, 2, 3, 4, 3, 2, 1], 37)]  # 0.4 s before it speaks, to and fro
        frames = np.concatenate([heard.frames, silent] if i % 2 else [silent, heard.frames], axis=2)
        got = speaking.find_speaker(frames, heard.frame_times, heard.wave)
        assert got.rule == "speaks"
        assert got.track is not None
        middles = got.track.boxes[:, 0] + got.track.boxes[:, 2] / 2
        assert ((middles < 360) == i % 2).all()


def test_real_speakers_beside_one_who_speaks_too(talkers: list[Media]):
    """The other says a sentence of the same form at nearly the same time. Chance is .5."""
    alone = []
    for talker in talkers:
        assert talker.frames is not None
        assert talker.frame_times is not None
        ((track,),) = follow(talker.frames, talker.frame_times)
        alone.append((talker.frames, track))
    right = []
    for i, heard in enumerate(talkers):
        for j in set(range(5)) - {i}:
            assert heard.frame_times is not None
            (ours, track), (theirs, other) = alone[i], alone[j]
            moved = Track(frames=other.frames, boxes=other.boxes + np.array([360, 0, 0, 0]))
            both = np.concatenate([ours, theirs], axis=2)
            right.append(speaking.choose([track, moved], both, heard.frame_times, heard.wave)[0] == 0)
    assert np.mean(right) >= 0.75
