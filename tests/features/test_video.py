"""Face features: what they are made of, and that batches do not matter."""

from pathlib import Path

import numpy as np
import pytest

from jmer.data import faces, media
from jmer.errors import UserError
from jmer.features import face_expression
from jmer.features.video import LiteVideo


@pytest.fixture(scope="module")
def frames(root: Path) -> list[np.ndarray]:
    clips = sorted((root / "data" / "sample" / "train_splits").glob("*.mp4"))[:3]
    decoded = [media.decode(clip, frames=4).frames for clip in clips]
    return [frames for frames in decoded if frames is not None]


def test_vector_is_mean_and_deviation_over_the_faces(frames: list[np.ndarray]):
    video = LiteVideo()
    payloads = [video.prepare(clip).payload for clip in frames]
    got = video.encode(payloads)
    assert got.shape == (len(frames), video.dim)
    assert got.dtype == np.float32
    for row, clip in zip(got, frames, strict=True):
        crops, found = faces.face_crops(clip)
        assert found.any()
        answers = np.concatenate(face_expression.expressions(crops), axis=1)
        np.testing.assert_allclose(row, np.concatenate([answers.mean(axis=0), answers.std(axis=0)]), atol=1e-5)
        probs = row[face_expression.FEATURE_DIM : face_expression.FEATURE_DIM + 7]
        assert probs.sum() == pytest.approx(1, abs=1e-5)


def test_batches_do_not_matter(frames: list[np.ndarray]):
    video = LiteVideo()
    payloads = [video.prepare(clip).payload for clip in frames]
    payloads.append(payloads[0][:1])  # a single face
    alone = np.concatenate([video.encode([payload]) for payload in payloads])
    np.testing.assert_allclose(video.encode(payloads), alone, atol=1e-5)
    np.testing.assert_allclose(video.encode(payloads[::-1] * 7), np.tile(alone[::-1], (7, 1)), atol=1e-5)
    assert not alone[-1, video.dim // 2 :].any()  # of one face there is no deviation


def test_no_face_is_absent():
    prepared = LiteVideo().prepare(np.full((5, 96, 128, 3), 90, np.uint8))
    assert prepared.payload is None
    assert (prepared.status, prepared.reason) == ("degraded", "no face found in 5 frames")


def test_options_decide_the_fingerprint():
    assert LiteVideo(frames=4).frames_wanted == 4
    assert LiteVideo(frames=4).fingerprint != LiteVideo(frames=8).fingerprint
    assert LiteVideo().spec["weights"] == face_expression.WEIGHTS_SHA256
    with pytest.raises(UserError, match=r"video.frames is 0"):
        LiteVideo(frames=0)
