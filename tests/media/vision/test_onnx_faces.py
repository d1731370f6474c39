import hashlib
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import pytest
from onnx_files import embed, node, write_embedding, write_onnx, write_yunet

from jmer.base.errors import UserError
from jmer.media.vision import faces, onnx_faces, tracks
from jmer.media.vision.onnx_faces import FaceNet, YuNet

SIDE = 24


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_embedding(tmp_path_factory.mktemp("onnx") / "embedding.onnx", size=SIDE)


@pytest.fixture(scope="module")
def yunet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_yunet(tmp_path_factory.mktemp("onnx") / "yunet.onnx")


@pytest.fixture
def crops() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# ---- embeddings ------------------------------------------------------------------------------------------------------


def test_pictures_reach_the_network_as_they_are(network: Path, crops: np.ndarray):
    got = FaceNet(model=str(network), size=SIDE)(crops)

    assert (got.shape, got.dtype) == ((3, 5), np.float32)
    want = [embed(crop.astype(float).transpose(2, 0, 1)) for crop in crops]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-3)


def test_order_mean_and_scale(network: Path, crops: np.ndarray):
    """The mean is in the network's order of channels, in which VGGFace has blue first."""
    net = FaceNet(model=str(network), size=SIDE, order="bgr", mean=(93.594, 104.762, 129.186), scale=(0.5, 1.0, 2.0))
    red, green, blue = crops[0].astype(float).transpose(2, 0, 1)
    planes = np.stack([(blue - 93.594) * 0.5, (green - 104.762) * 1.0, (red - 129.186) * 2.0])

    np.testing.assert_allclose(net(crops[:1])[0], embed(planes), rtol=1e-4, atol=1e-3)
    one = FaceNet(model=str(network), size=SIDE, mean=127.5, scale=1 / 127.5)(crops[:1])
    np.testing.assert_allclose(one[0], embed((np.stack([red, green, blue]) - 127.5) / 127.5), rtol=1e-4, atol=1e-5)


def test_a_network_from_tensorflow(tmp_path: Path, network: Path, crops: np.ndarray):
    hwc = write_embedding(tmp_path / "a.onnx", size=SIDE, nhwc=True)
    np.testing.assert_allclose(
        FaceNet(model=str(hwc), size=SIDE, layout="hwc")(crops),
        FaceNet(model=str(network), size=SIDE)(crops),
        rtol=1e-5,
    )


def test_a_row_does_not_depend_on_the_others(network: Path, crops: np.ndarray):
    net = FaceNet(model=str(network), size=SIDE)
    np.testing.assert_array_equal(net(crops)[1:2], net(crops[1:2]))


def test_crops_of_another_size_are_resized(network: Path, crops: np.ndarray):
    net = FaceNet(model=str(network), size=SIDE)
    large = crops[:1].repeat(3, axis=1).repeat(3, axis=2)
    np.testing.assert_allclose(net(large), net(crops[:1]), rtol=1e-5)
    assert net(crops[:1, :10, :10]).shape == (1, 5)


def test_dim_and_named_output(tmp_path: Path, network: Path, crops: np.ndarray):
    assert FaceNet(model=str(network), size=SIDE).dim == 5
    assert FaceNet(model=str(network), size=SIDE, output="embedding").dim == 5
    column = write_onnx(
        tmp_path / "a.onnx",
        nodes=[node("Conv", ["data", "filters"], "out", kernel_shape=(SIDE, SIDE))],
        weights={"filters": np.ones((7, 3, SIDE, SIDE), np.float32)},
        inputs={"data": (1, 3, SIDE, SIDE)},
        outputs={"out": (1, 7, 1, 1)},
    )
    got = FaceNet(model=str(column), size=SIDE)(crops)
    np.testing.assert_allclose(got, np.tile(crops.sum(axis=(1, 2, 3), dtype=float)[:, None], 7), rtol=1e-6)


def test_sface_is_a_facenet_over_aligned_crops(tmp_path: Path):
    """The vectors equal those of OpenCV's own class, which takes BGR and converts it to RGB for the network."""
    network = write_embedding(tmp_path / "a.onnx", size=112, dim=128)
    frame = np.random.default_rng(2).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    row = np.concatenate([np.zeros(4), (faces.TEMPLATE * 90 + [100, 60]).ravel(), [1]]).astype(np.float32)[None]
    sface = cv2.FaceRecognizerSF.create(str(network), "")
    theirs = sface.feature(sface.alignCrop(np.ascontiguousarray(frame[..., ::-1]), row))

    track = tracks.Track(
        frames=np.zeros(1, int), boxes=row[:, :4], landmarks=row[:, 4:14].reshape(1, 5, 2).astype(float)
    )
    ours = FaceNet(model=str(network))(tracks.crops(frame[None], track, align=True))

    assert ours.shape == theirs.shape == (1, 128)
    np.testing.assert_allclose(ours, theirs, atol=0.02 * np.abs(theirs).max())


# ---- the detector ----------------------------------------------------------------------------------------------------


def cell(*, height: int, width: int, top: int, left: int, side: int = 8, channel: int = 2) -> np.ndarray:
    frame = np.zeros((height, width, 3), np.uint8)
    frame[top : top + side, left : left + side, channel] = 255
    return frame


def test_yunet_finds_the_face_and_its_landmarks(yunet: Path):
    detect = YuNet(model=str(yunet))
    blue, red = (cell(height=200, width=333, top=80, left=160, channel=channel) for channel in (2, 0))

    found, none = detect(np.stack([blue, red]))

    np.testing.assert_allclose(found.boxes, [[164 - 16, 84 - 24, 32, 48]], atol=1e-3)
    assert found.landmarks is not None
    np.testing.assert_allclose(found.landmarks[0], [[160 + i, 80 + 2 * i] for i in range(5)], atol=1e-3)
    assert none.boxes.shape == (0, 4), "the network is given BGR, as it was trained"
    assert none.landmarks is not None
    assert none.landmarks.shape == (0, 5, 2)


def test_yunet_in_large_pictures_and_others_after_them(yunet: Path):
    detect = YuNet(model=str(yunet), side=320)
    large = cell(height=720, width=1280, top=352, left=640, side=32)
    tall = cell(height=640, width=100, top=320, left=48, side=16)

    for _ in range(2):
        (found,) = detect(large[None])
        np.testing.assert_allclose(found.boxes, [[656 - 64, 368 - 96, 128, 192]], atol=1e-2)
        assert found.landmarks is not None
        np.testing.assert_allclose(found.landmarks[0, 4], [640 + 16, 352 + 32], atol=1e-2)
        (found,) = detect(tall[None])
        np.testing.assert_allclose(found.boxes, [[56 - 32, 328 - 48, 64, 96]], atol=1e-2)


def test_yunet_is_a_detector_like_any_other(yunet: Path):
    frames = np.stack([cell(height=160, width=160, top=80, left=8 * i) for i in range(5, 12)])
    detect: faces.Detector = YuNet(model=str(yunet))

    crops, found = faces.face_crops(frames, size=48, margin=0.0, detect=detect)
    ((track,),) = tracks.follow(frames, np.arange(7) * 0.1, detect=detect, every=0.2)

    assert found.all()
    assert crops[3, 24, 24].tolist() == [0, 0, 255]
    assert track.landmarks is not None
    np.testing.assert_allclose(track.landmarks[:, 0, 0], np.arange(5, 12) * 8, atol=1e-3)


# ---- both ------------------------------------------------------------------------------------------------------------


def in_worker(detect: YuNet, net: FaceNet, frames: np.ndarray, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return detect(frames)[0].boxes, net(crops)


def test_both_work_in_spawned_workers(yunet: Path, network: Path, crops: np.ndarray):
    frames = cell(height=96, width=96, top=40, left=40)[None]
    detect, net = YuNet(model=str(yunet), sha256=sha(yunet)), FaceNet(model=str(network), size=SIDE)
    here = in_worker(detect, net, frames, crops)  # loaded here; that must not hinder

    assert pickle.loads(pickle.dumps((detect, net))) == (detect, net)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        there = pool.submit(in_worker, detect, net, frames, crops).result()
    np.testing.assert_array_equal(here[0], there[0])
    np.testing.assert_array_equal(here[1], there[1])


def test_hash_is_checked(network: Path, yunet: Path, crops: np.ndarray):
    assert onnx_faces.file_sha256(str(network), field="video.model") == sha(network)
    assert FaceNet(model=str(network), sha256=sha(network).upper(), size=SIDE)(crops).shape == (3, 5)
    with pytest.raises(UserError, match=f"video.model={network}: its SHA-256 is {sha(network)}; expected {'0' * 64}"):
        FaceNet(model=str(network), sha256="0" * 64, size=SIDE)(crops)
    with pytest.raises(UserError, match=f"video.detector={yunet}: its SHA-256 is {sha(yunet)}; expected abc"):
        YuNet(model=str(yunet), sha256="abc")(crops)


@pytest.mark.parametrize("use", ["model", "detector"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, r"cannot be read \(No such file"),
        (b"", "cannot read it as ONNX"),
        (b"<!DOCTYPE html> not found " * 100, "cannot read it as ONNX"),
        (b"cut", "cannot read it as ONNX"),
    ],
)
def test_files_that_are_no_network(
    tmp_path: Path, network: Path, crops: np.ndarray, capfd: pytest.CaptureFixture[str], use: str, content, reason: str
):
    path = tmp_path / "a.onnx"
    if content is not None:
        path.write_bytes(network.read_bytes()[:2000] if content == b"cut" else content)
    with pytest.raises(UserError, match=rf"^video.{use}={path}: .*{reason}.*; give ") as caught:
        FaceNet(model=str(path))(crops) if use == "model" else YuNet(model=str(path))(crops)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_networks_of_another_kind(network: Path, crops: np.ndarray, capfd: pytest.CaptureFixture[str]):
    for net, reason in (
        (FaceNet(model=str(network), size=SIDE, output="map"), r"shape \(1, 4, 4, 4\); expected one vector"),
        (FaceNet(model=str(network), size=SIDE, output="none"), "24 x 24 chw and give none"),
        (FaceNet(model=str(network), size=SIDE + 8), "does not take one picture of 32 x 32 chw"),
        (FaceNet(model=str(network), size=SIDE, layout="hwc"), "24 x 24 hwc"),
    ):
        with pytest.raises(UserError, match=rf"^video.model={network}: .*{reason}") as caught:
            net(crops)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=rf"^video.detector={network}: is no YuNet detector"):
        YuNet(model=str(network))(crops)
    assert capfd.readouterr().err == ""


def test_a_detector_with_outputs_of_other_sizes(tmp_path: Path, crops: np.ndarray):
    """A network with other outputs is refused, since OpenCV would read past their ends."""
    names = [f"{kind}_{stride}" for kind in ("cls", "obj", "bbox", "kps") for stride in (8, 16, 32)]
    path = write_onnx(
        tmp_path / "a.onnx",
        nodes=[node("Relu", ["small"], "flat"), *(node("Flatten", ["flat"], name, axis=1) for name in names)],
        weights={},
        inputs={"small": (1, 3, 2, 2)},
        outputs=dict.fromkeys(names, (1, 12)),
    )
    with pytest.raises(UserError, match="is no YuNet detector"):
        YuNet(model=str(path))(crops)
