"""Which faces the video extractors look at, and networks from ONNX files as extractors."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_files import embed, write_embedding, write_yunet

from jmer.base.errors import UserError
from jmer.base.options import from_config
from jmer.base.types import Media
from jmer.dataset.build import extract_dataset
from jmer.dataset.options import ExtractOptions, default_config
from jmer.features import registry, worker
from jmer.features.extractor import Extractor
from jmer.features.video.embedding import OnnxVideo
from jmer.features.video.lite import LiteVideo
from jmer.media import decoding
from jmer.media.vision import faces, speaking, tracks

SIDE = 24


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_embedding(tmp_path_factory.mktemp("onnx") / "net.onnx", size=SIDE)


@pytest.fixture(scope="module")
def yunet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_yunet(tmp_path_factory.mktemp("onnx") / "yunet.onnx")


@pytest.fixture(scope="module")
def clip(root: Path) -> Media:
    path = sorted((root / "data/sample/train_splits").glob("*.mp4"))[0]
    return decoding.decode(path, frames=LiteVideo(crop="speaker").frames_wanted)


def build(*, sequence_frames: int = 0, **options: object) -> Extractor:
    chosen = registry.options_of("video")(**options)
    extractor = registry.from_options("video", chosen, sequence_frames=sequence_frames)
    assert extractor is not None
    return extractor


def blue_faces(*places: tuple[int, int]) -> np.ndarray:
    """A grey picture with, at each place in cells of 8 pixels, what `write_yunet`'s network takes for a face."""
    picture = np.random.default_rng(0).integers(0, 100, (256, 256, 3), dtype=np.uint8)
    for row, column in places:
        picture[8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 90, 120, 255
    return picture


def test_frames_by_the_length_of_the_clip():
    assert [LiteVideo(crop="speaker").frames_wanted(seconds) for seconds in (0.1, 2.0, 100.0)] == [8, 25, 64]
    assert LiteVideo(crop="speaker", frames=70).frames_wanted(100.0) == 70
    assert LiteVideo().frames_wanted(100.0) == 8


def test_the_speaking_face_and_what_the_choice_rests_on(clip: Media):
    assert clip.frames is not None
    assert clip.frame_times is not None
    chosen = speaking.find_speaker(clip.frames, clip.frame_times, clip.wave)
    assert chosen.track is not None
    prepared = LiteVideo(crop="speaker", frames=5).prepare(clip)
    np.testing.assert_array_equal(prepared.payload, tracks.crops(clip.frames, tracks.sample(chosen.track, 5)))
    assert (prepared.status, prepared.reason) == ("ok", f"face chosen: {chosen.rule}")
    blank = Media(wave=None, frames=np.full((9, 96, 128, 3), 90, np.uint8), frame_times=np.arange(9.0), seconds=9.0)
    prepared = LiteVideo(crop="speaker").prepare(blank)
    assert (prepared.payload, prepared.status) == (None, "degraded")
    assert prepared.reason == "no face found in 9 frames"


def test_the_speaker_of_two_real_ones(shared: Path):
    """Two talkers side by side and the sound of one: it is that one's face that reaches the network."""
    video = LiteVideo(crop="speaker")
    left, right = (
        decoding.decode(path, frames=video.frames_wanted)
        for path in sorted((shared / "datasets/grid").glob("*.mpg"))[:2]
    )
    for heard, other in ((left, right), (right, left)):
        assert heard.frames is not None
        assert other.frames is not None
        silent = np.concatenate([other.frames[:4], other.frames[3::-1]] * 10)[: len(heard.frames)]
        both = Media(
            wave=heard.wave,
            frames=np.concatenate([heard.frames, silent], axis=2),
            frame_times=heard.frame_times,
            seconds=heard.seconds,
        )
        prepared = video.prepare(both)
        alone = video.prepare(heard)
        assert prepared.reason == "face chosen: speaks"
        assert alone.reason == "face chosen: only face"
        difference = np.abs(prepared.payload.astype(float) - alone.payload).mean()
        assert difference < 10  # the detector's squares differ by a little; another face differs by 40


def test_a_detector_from_a_file(yunet: Path):
    picture = blue_faces((10, 12))
    raw = Media(wave=None, frames=np.stack([picture, np.zeros_like(picture)]), seconds=1.0)
    sha256 = hashlib.sha256(yunet.read_bytes()).hexdigest()
    video = build(detector=str(yunet), detector_sha256=sha256, frames=2)
    box = np.array([12 * 8 + 4 - 16, 10 * 8 + 4 - 24, 32, 48])
    np.testing.assert_array_equal(video.prepare(raw).payload, [faces.crop(picture, box)])
    assert LiteVideo(frames=2).prepare(raw).payload is None  # no face for the cascade
    assert sha256 in video.weights
    assert video.fingerprint == LiteVideo(frames=2, detector=str(yunet)).fingerprint != LiteVideo(frames=2).fingerprint


def test_embeddings_of_a_network_from_a_file(network: Path, yunet: Path):
    """Of each face, turned upright or not; pooled over the frames."""
    pictures = np.stack([blue_faces((10, 12)), blue_faces((15, 9))])
    raw = Media(wave=None, frames=pictures, seconds=1.0)
    options: Any = {"size": SIDE, "mean": "127.5", "scale": "0.01,0.02,0.03", "detector": str(yunet), "frames": 2}
    video = build(model=str(network), pooling="mean,std", sequence_frames=2, **options)
    assert isinstance(video, OnnxVideo)
    assert (video.dim, video.frame_dim) == (10, 5)
    crops, found = faces.face_crops(pictures, size=SIDE, detect=video._detect)
    assert found.all()
    scale = np.array([0.01, 0.02, 0.03])
    want = np.array([embed(((crop - 127.5) * scale).transpose(2, 0, 1)) for crop in crops])
    (got,) = video.encode([video.prepare(raw).payload])
    np.testing.assert_allclose(got.vector, np.concatenate([want.mean(axis=0), want.std(axis=0)]), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(np.asarray(got.sequence), want, rtol=1e-2, atol=1e-2)

    upright = build(model=str(network), align=True, **options).prepare(raw).payload
    aligned, _ = faces.face_crops(pictures, size=SIDE, detect=video._detect, align=True)
    landmarks = np.array([[96, 80], [97, 82], [98, 84], [99, 86], [100, 88]], np.float64)
    np.testing.assert_array_equal(aligned[0], faces.aligned_crop(pictures[0], landmarks, size=SIDE))
    want = [embed(((crop - 127.5) * scale).transpose(2, 0, 1)) for crop in aligned]
    np.testing.assert_allclose(upright, want, rtol=1e-4, atol=1e-4)
    assert registry.build(json.loads(json.dumps(video.spec))) == video


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": "mouth"}, "config.video.crop is mouth; expected one of face, speaker"),
        ({"detector_sha256": "ab"}, "video.detector names no file"),
        ({"detector": "there.onnx"}, "video.detector=there.onnx: cannot be read"),
        ({"model": "there.onnx"}, "video.model=there.onnx: cannot be read"),
        ({"model": "NET", "align": True}, "video.align needs landmarks"),
        ({"model": "NET", "order": "hsv"}, "config.video.order is hsv; expected one of rgb, bgr"),
        ({"model": "NET", "mean": "1,2"}, "config.video.mean is 1,2; expected a number, or three"),
        ({"model": "NET", "size": 0}, "config.video.size is 0; expected at least 1"),
        ({"model": "NET", "size": 20}, "does not take one picture of 20 x 20"),
        ({"model": "NET", "sha256": "ab"}, "expected ab; get the right file"),
        ({"detector": "NET"}, "is no YuNet detector"),
        ({"size": 20}, "video.model=lite has no such option"),
    ],
)
def test_what_is_wrong_is_said_before_any_clip_is_decoded(network: Path, options: dict, message: str):
    options = {name: str(network) if value == "NET" else value for name, value in options.items()}
    with pytest.raises(UserError, match=message):
        _ = (extractor := build(**options)).dim, extractor.fingerprint


def test_remarks_are_counted_and_printed(tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]):
    clip = next((root / "data/sample/train_splits").glob("*.mp4"))
    table = tmp_path / "two.csv"
    table.write_text(f"dialogue,utterance,speaker,text,label,split,clip\nd,1,a,yes,x,train,{clip}\nd,2,b,no,y,train,\n")
    config: Any = default_config().unlock()
    config.update({"source": "table", "root": str(table), "out": str(tmp_path / "out"), "cache": str(tmp_path / "c")})
    config.audio.model = "none"
    config.video.crop = "speaker"
    config.workers = 1
    manifest = json.loads((extract_dataset(from_config(ExtractOptions, config)) / "manifest.json").read_text())
    ((remark, count),) = manifest["modalities"]["video"]["remarks"].items()
    assert (remark.split(":")[0], count) == ("face chosen", 1)
    assert f"  1 x {remark}" in capsys.readouterr().out
    assert manifest["modalities"]["text"]["remarks"] == {}
    prepared = worker.prepare(clip, {0: LiteVideo(crop="speaker")}, max_seconds=None)[0]
    assert prepared.reason == remark
