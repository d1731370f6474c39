"""Face features: what they are made of, and that batches do not matter."""

from pathlib import Path

import numpy as np
import pytest
from tiny_encoders import image_states, save_vit

from jmer.base.errors import UserError
from jmer.base.types import Media
from jmer.encoders import face_expression
from jmer.features.video import images
from jmer.features.video.encoder import HFVideo
from jmer.features.video.lite import LiteVideo
from jmer.media import decoding
from jmer.media.vision import faces


@pytest.fixture(scope="module")
def clips(root: Path) -> list[Media]:
    return [decoding.decode(clip, frames=4) for clip in sorted((root / "data/sample/train_splits").glob("*.mp4"))[:3]]


def vectors(video: LiteVideo, payloads: list[np.ndarray]) -> np.ndarray:
    return np.stack([encoded.vector for encoded in video.encode(payloads)])


def test_vector_is_mean_and_deviation_over_the_faces(clips: list[Media]):
    video = LiteVideo()
    payloads = [video.prepare(clip).payload for clip in clips]
    got = vectors(video, payloads)
    assert got.shape == (len(clips), video.dim)
    assert got.dtype == np.float32
    for row, clip in zip(got, clips, strict=True):
        assert clip.frames is not None
        crops, found = faces.face_crops(clip.frames)
        assert found.any()
        answers = np.concatenate(face_expression.expressions(crops), axis=1)
        np.testing.assert_allclose(row, np.concatenate([answers.mean(axis=0), answers.std(axis=0)]), atol=1e-5)
        probs = row[face_expression.FEATURE_DIM : face_expression.FEATURE_DIM + 7]
        assert probs.sum() == pytest.approx(1, abs=1e-5)


def test_batches_do_not_matter(clips: list[Media]):
    video = LiteVideo()
    payloads = [video.prepare(clip).payload for clip in clips]
    payloads.append(payloads[0][:1])  # a single face
    alone = np.concatenate([vectors(video, [payload]) for payload in payloads])
    np.testing.assert_allclose(vectors(video, payloads), alone, atol=1e-5)
    np.testing.assert_allclose(vectors(video, payloads[::-1] * 7), np.tile(alone[::-1], (7, 1)), atol=1e-5)
    assert not alone[-1, video.dim // 2 :].any()  # of one face there is no deviation


def test_no_face_is_absent():
    prepared = LiteVideo().prepare(Media(wave=None, frames=np.full((5, 96, 128, 3), 90, np.uint8), seconds=1.0))
    assert prepared.payload is None
    assert (prepared.status, prepared.reason) == ("degraded", "no face found in 5 frames")


def test_options_decide_the_fingerprint():
    assert LiteVideo(frames=4).frames_wanted(3.0) == 4
    assert LiteVideo(frames=4).fingerprint != LiteVideo(frames=8).fingerprint
    assert LiteVideo().spec["weights"] == face_expression.WEIGHTS_SHA256
    with pytest.raises(UserError, match=r"video.frames is 0"):
        LiteVideo(frames=0)


@pytest.fixture(scope="module")
def tiny_vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_vit(tmp_path_factory.mktemp("vit"))


def test_vit_reads_pictures_as_its_own_processor_makes_them(tiny_vit: Path, clips: list[Media]):
    """RGB, resized and normalised exactly as the model was trained."""
    from transformers import ViTImageProcessor

    processor = ViTImageProcessor.from_pretrained(tiny_vit)
    options = {"model": str(tiny_vit), "frames": 4, "pooling": "mean,std", "layers": "0,2", "sequence_frames": 4}
    for crop in ("frame", "face"):
        vit = HFVideo(crop=crop, **options)
        found = vit.encode([vit.prepare(clip).payload for clip in clips])
        assert (vit.dim, vit.frame_dim, vit.frames_wanted(9.0)) == (24, 12, 4)
        for row, clip in zip(found, clips, strict=True):
            assert clip.frames is not None
            pictures = clip.frames if crop == "frame" else faces.face_crops(clip.frames, size=32)[0]
            pixels = processor(list(pictures), return_tensors="np")["pixel_values"]
            firsts = (image_states(tiny_vit, pixels, layer=0) + image_states(tiny_vit, pixels, layer=2))[:, 0] / 2
            np.testing.assert_allclose(row.vector, np.concatenate([firsts.mean(axis=0), firsts.std(axis=0)]), atol=1e-5)
            np.testing.assert_allclose(np.asarray(row.sequence), firsts, atol=1e-2)
    with pytest.raises(UserError, match=r"config.video.crop is mouth; expected one of face, speaker, frame"):
        HFVideo(crop="mouth", **options)


@pytest.mark.parametrize(
    "options", [{"size": {"height": 24, "width": 40}}, {"size": {"shortest_edge": 40}, "crop_size": 32}]
)
def test_processing_equals_hugging_face(options: dict):
    from transformers import CLIPImageProcessor, ViTImageProcessor

    frames = np.random.default_rng(0).integers(0, 255, (2, 48, 81, 3)).astype(np.uint8)
    cls = CLIPImageProcessor if "crop_size" in options else ViTImageProcessor
    processor = cls(**options)
    expected = processor(list(frames), return_tensors="np")["pixel_values"]
    processing = images.parse(processor.to_dict(), where="there")
    np.testing.assert_allclose(images.normalised(images.resized(frames, processing), processing), expected, atol=1e-5)


def test_processing_that_is_not_covered():
    for settings, expected in [({}, "size is None"), ({"size": 8, "rescale_factor": 1.0}, "not scaled to 0 ... 1")]:
        with pytest.raises(UserError, match=expected):
            images.parse(settings, where="there")
