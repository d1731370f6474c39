from pathlib import Path

import cv2
import numpy as np
import pytest
from onnx_files import write_embedding

from jmer.corpora import sample
from jmer.media import decoding
from jmer.media.vision import faces


@pytest.fixture(scope="module")
def actor(shared: Path) -> np.ndarray:
    """Returns `[720, 1280, 3]` uint8 with a face about 360 pixels wide around x = 640, y = 330."""
    frames = decoding.decode(shared / "datasets/ravdess/clips/01-01-01-01-01-01-01.mp4", frames=4).frames
    assert frames is not None
    return frames[1]


def place(picture: np.ndarray, *, width: int, left: int, top: int, canvas: tuple[int, int] = (720, 1280)) -> np.ndarray:
    """Returns the picture, scaled down to `width`, on a grey canvas."""
    height = round(picture.shape[0] * width / picture.shape[1])
    small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    out = np.full((*canvas, 3), 128, np.uint8)
    out[top : top + height, left : left + width] = small[: canvas[0] - top, : canvas[1] - left]
    return out


def test_real_faces_are_found(shared: Path):
    clips = [*sorted((shared / "datasets/grid").glob("*.mpg")), *(shared / "datasets/ravdess/clips").glob("*.mp4")]
    shares = []
    for clip in clips:
        frames = decoding.decode(clip, frames=6).frames
        assert frames is not None
        crops, found = faces.face_crops(frames)
        assert crops.shape == (found.sum(), 112, 112, 3)
        assert crops.dtype == np.uint8
        # The middle of a crop is skin, and the crops of one clip do not jump.
        centre = crops[:, 45:75, 40:72].astype(int).mean(axis=(1, 2))
        assert (centre[:, 0] > centre[:, 2]).all(), clip.name
        assert np.abs(np.diff(crops.astype(int), axis=0)).mean() < 25, clip.name
        shares.append(found.mean())
    assert np.mean(shares) >= 0.95
    assert min(shares) >= 0.8


def test_no_face_in_blank_or_noise():
    rng = np.random.default_rng(0)
    blank = np.full((2, 240, 320, 3), 90, np.uint8)
    noise = rng.integers(0, 256, (2, 240, 320, 3), dtype=np.uint8)
    blobs = np.stack([cv2.resize(rng.integers(0, 256, (15, 20, 3), dtype=np.uint8), (320, 240)) for _ in range(4)])
    for frames in (blank, noise, blobs):
        crops, found = faces.face_crops(frames, size=48)
        assert crops.shape == (0, 48, 48, 3)
        assert crops.dtype == np.uint8
        assert found.tolist() == [False] * len(frames)


def test_frames_without_a_face_are_left_out(actor: np.ndarray):
    blank = np.full_like(actor, 90)
    crops, found = faces.face_crops(np.stack([blank, actor, blank, actor]))

    assert found.tolist() == [False, True, False, True]
    assert len(crops) == 2
    np.testing.assert_array_equal(crops[0], crops[1])


def test_crop_is_where_the_face_is(actor: np.ndarray):
    tight, _ = faces.face_crops(actor[None], size=100, margin=0.0)
    wide, _ = faces.face_crops(actor[None], size=100, margin=0.5)

    # With a margin of half the side at either end, the inner half of the wide crop is the tight crop.
    inner = cv2.resize(wide[0, 25:75, 25:75], (100, 100))
    assert np.abs(inner.astype(int) - tight[0]).mean() < 8
    here = cv2.matchTemplate(actor[::4, ::4], cv2.resize(tight[0], (91, 91)), cv2.TM_CCOEFF_NORMED)
    assert here.max() > 0.95
    _, _, _, (x, y) = cv2.minMaxLoc(here)
    assert abs(4 * x + 182 - 640) < 30
    assert abs(4 * y + 182 - 330) < 30


def test_face_at_the_border_is_padded_with_the_last_pixels(actor: np.ndarray):
    cut = actor[150:510, 450:830]  # hardly more than the face
    crops, found = faces.face_crops(cut[None], size=120, margin=0.5)

    assert found.all()
    np.testing.assert_array_equal(crops[0, 0], crops[0, 10])
    assert not np.array_equal(crops[0, 40], crops[0, 60])


def test_small_face_in_a_wide_shot(actor: np.ndarray):
    _, found = faces.face_crops(place(actor, width=200, left=700, top=300)[None])
    assert found.all()

    _, found = faces.face_crops(place(actor, width=320, left=100, top=100, canvas=(300, 500))[None])
    assert found.all()


def test_of_two_faces_the_large_steady_one(actor: np.ndarray):
    small = place(actor, width=480, left=0, top=0)
    both = small.copy()
    both[300:, 500:] = place(actor[:, ::-1] // 2, width=746, left=0, top=0)[:420, :780]  # darker, larger

    crops, found = faces.face_crops(np.stack([both, both, small, both]))

    assert found.all()
    brightness = crops[:, 30:80, 30:80].mean(axis=(1, 2, 3))
    assert brightness[[0, 1, 3]].max() < 0.7 * brightness[2]


def test_same_frames_same_crops(actor: np.ndarray):
    np.testing.assert_array_equal(faces.face_crops(actor[None])[0], faces.face_crops(actor[None])[0])


def test_the_sample_corpus_has_faces():
    corpus = sample.load()
    clips = [entry.clip for dialogue in corpus.splits["test"] for entry in dialogue.utterances if entry.clip]
    found = []
    for clip in clips[::6]:
        frames = decoding.decode(clip, frames=4).frames
        assert frames is not None
        found.append(faces.face_crops(frames)[1].any())
    assert np.mean(found) >= 0.95


def test_a_detector_of_ones_own(actor: np.ndarray):
    def detect(frames: np.ndarray) -> list[faces.Faces]:
        return [faces.Faces(np.array([[100.0, 50, 80, 80]])) for _ in frames]

    crops, found = faces.face_crops(actor[None], size=80, margin=0.0, detect=detect)

    assert found.all()
    np.testing.assert_array_equal(crops[0], actor[50:130, 100:180])


def turned(points: np.ndarray, *, scale: float, degrees: float, shift: tuple[float, float]) -> np.ndarray:
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return scale * points @ turn.T + shift


@pytest.mark.parametrize("degrees", [0, 25, -100])
def test_similarity_finds_the_way_back(degrees: float):
    points = faces.TEMPLATE * 100
    onto = faces.similarity(turned(points, scale=2.5, degrees=degrees, shift=(30, -7)), points)
    back = turned(points, scale=2.5, degrees=degrees, shift=(30, -7)) @ onto[:, :2].T + onto[:, 2]
    np.testing.assert_allclose(back, points, atol=1e-9)


def test_aligned_crops_are_those_of_opencv(actor: np.ndarray, tmp_path: Path):
    """Returns OpenCV's alignment for SFace. The class needs a network, and any will do."""
    network = write_embedding(tmp_path / "a.onnx", size=112)
    rng = np.random.default_rng(0)
    landmarks = turned(faces.TEMPLATE * 300, scale=1.2, degrees=20, shift=(520, 130)) + rng.normal(scale=8, size=(5, 2))
    row = np.concatenate([np.zeros(4), landmarks.ravel(), [1]]).astype(np.float32)[None]

    ours = faces.aligned_crop(actor, landmarks)
    theirs = cv2.FaceRecognizerSF.create(str(network), "").alignCrop(actor, row)

    assert np.abs(ours.astype(int) - theirs).mean() < 0.05
    assert np.abs(ours.astype(int) - theirs).max() <= 4
    large = cv2.resize(faces.aligned_crop(actor, landmarks, size=224), (112, 112), interpolation=cv2.INTER_AREA)
    assert np.abs(ours.astype(int) - large).mean() < 4
