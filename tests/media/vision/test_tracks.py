from pathlib import Path

import numpy as np
import pytest

from jmer.media import decoding
from jmer.media.vision.faces import TEMPLATE, Faces
from jmer.media.vision.tracks import Track, crops, follow, joined, link, sample, shots


def box(left: float, top: float = 0, side: float = 100) -> np.ndarray:
    return np.array([left, top, side, side], np.float64)


def faces(*boxes: np.ndarray, landmarks: bool = False) -> Faces:
    stacked = np.stack(boxes) if boxes else np.zeros((0, 4))
    points = stacked[:, None, :2] + TEMPLATE * stacked[:, None, 2:] if landmarks else None
    return Faces(stacked, points)


def picture(seed: int, *, size: tuple[int, int] = (90, 160)) -> np.ndarray:
    """Returns a picture of coarse blobs that differs for each seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 16, 3), dtype=np.uint8)
    return np.kron(coarse, np.ones((size[0] // 9, size[1] // 16, 1), np.uint8))


def test_two_faces_that_come_in_any_order():
    left, right = [box(10 + 5 * i) for i in range(4)], [box(300 - 8 * i) for i in range(4)]
    found = [faces(left[i], right[i]) if i % 2 else faces(right[i], left[i]) for i in range(4)]

    one, two = link(np.array([0, 2, 4, 6]), found)

    for track, places in ((one, right), (two, left)):
        np.testing.assert_array_equal(track.frames, np.arange(7))
        np.testing.assert_array_equal(track.boxes[::2], places)
        np.testing.assert_allclose(track.boxes[1::2], (track.boxes[:-1:2] + track.boxes[2::2]) / 2)
        assert track.landmarks is None


@pytest.mark.parametrize(("missed", "count"), [(0, 1), (2, 1), (3, 2)])
def test_a_short_gap_is_bridged(missed: int, count: int):
    found = [faces(box(10)), *[faces()] * missed, faces(box(20)), faces(box(20))]
    tracks = link(np.arange(len(found)), found, bridge=2)

    assert len(tracks) == count
    assert sum(map(len, tracks)) == (len(found) if count == 1 else 3)


def test_a_face_elsewhere_is_another():
    tracks = link(np.arange(2), [faces(box(0)), faces(box(90))])
    assert [track.frames.tolist() for track in tracks] == [[0], [1]]


def test_of_two_that_overlap_the_nearer_goes_on():
    first, second = link(np.arange(2), [faces(box(0)), faces(box(30), box(5))])
    np.testing.assert_array_equal(first.boxes, [box(0), box(5)])
    np.testing.assert_array_equal(second.boxes, [box(30)])


def test_landmarks_move_with_the_face():
    (track,) = link(np.array([0, 4]), [faces(box(0), landmarks=True), faces(box(40), landmarks=True)])

    assert track.landmarks is not None
    np.testing.assert_allclose(track.landmarks[3], TEMPLATE * 100 + [30, 0])


def test_a_cut_starts_a_new_shot():
    rng = np.random.default_rng(0)
    frames = np.stack([picture(seed) for seed in (0, 0, 0, 1, 1, 2, 2, 2)])
    noisy = np.clip(frames + rng.integers(-20, 21, frames.shape), 0, 255).astype(np.uint8)

    for clip in (frames, noisy, frames[:, :45]):
        assert shots(clip).tolist() == [0, 0, 0, 1, 1, 2, 2, 2]
    assert shots(frames[:1]).tolist() == [0]


def test_motion_and_light_are_no_cuts():
    wide = picture(0, size=(90, 320))
    panned = np.stack([wide[:, 4 * i : 4 * i + 160] for i in range(20)])
    darker = np.stack([(picture(0) * (1 - 0.03 * i)).astype(np.uint8) for i in range(20)])

    assert not shots(panned).any()
    assert not shots(darker).any()


def test_real_cuts(shared: Path):
    clips = sorted((shared / "datasets/grid").glob("*.mpg"))[:3]
    frames = [frames for clip in clips if (frames := decoding.decode(clip, frames=6).frames) is not None]

    assert shots(np.concatenate(frames)).tolist() == [0] * 6 + [1] * 6 + [2] * 6


def test_follow_looks_at_each_shot_apart():
    frames = np.stack([picture(0)] * 9 + [picture(1)] * 4 + [picture(2)])
    times = np.arange(14) * 0.1
    seen = []

    def detect(some: np.ndarray) -> list[Faces]:
        seen.extend(some)
        # The second shot has no face. The others have the face at the same place.
        return [faces() if (frame == picture(1)).all() else faces(box(20, 10, 60)) for frame in some]

    (first,), second, (third,) = follow(frames, times, detect=detect, every=0.4)

    assert first.frames.tolist() == list(range(9))
    assert second == []
    assert third.frames.tolist() == [13]
    assert len(seen) == 3 + 2 + 1  # at 0, 0.4 and 0.8 s; both ends of 0.3 s; the one frame


def test_all_of_them_are_looked_at_where_frames_are_far_apart():
    seen = []

    def detect(some: np.ndarray) -> list[Faces]:
        seen.extend(some)
        return [faces()] * len(some)

    assert follow(np.stack([picture(0)] * 5), np.arange(5) * 2.0, detect=detect) == [[]]
    assert len(seen) == 5
    follow(np.stack([picture(0)] * 5), np.zeros(5), detect=detect)  # one frame, repeated
    assert len(seen) == 7


def test_join_sample_and_crop():
    (one,) = link(np.arange(6), [faces(box(10 * i, side=20), landmarks=True) for i in range(6)])
    assert one.landmarks is not None
    two = Track(frames=np.array([8, 9]), boxes=np.stack([box(0, side=20)] * 2), landmarks=one.landmarks[:2])
    both = joined([one, two])
    assert both.frames.tolist() == [0, 1, 2, 3, 4, 5, 8, 9]
    assert joined([one, Track(frames=two.frames, boxes=two.boxes)]).landmarks is None

    few = sample(both, 4)
    assert few.frames.tolist() == [1, 3, 5, 9]
    np.testing.assert_array_equal(few.boxes, both.boxes[[1, 3, 5, 7]])
    assert both.landmarks is not None
    np.testing.assert_array_equal(few.landmarks, both.landmarks[[1, 3, 5, 7]])
    assert sample(both, 99).frames.tolist() == both.frames.tolist()

    frames = np.stack([picture(i) for i in range(10)])
    np.testing.assert_array_equal(crops(frames, few, size=20, margin=0.0)[1], frames[3, :20, 30:50])
    aligned = crops(frames, few, size=20, align=True)
    np.testing.assert_array_equal(aligned[1], frames[3, :20, 30:50])  # its landmarks already are where they should be
