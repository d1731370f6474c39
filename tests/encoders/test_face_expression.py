"""Compares the face-expression network with face-api's own, and tries it on a real face."""

import hashlib
import json
import shutil

import av
import cv2
import cv2.data
import jax
import numpy as np
import pytest

from jmer.base.errors import UserError
from jmer.encoders import face_expression as fe


def formula_image(k: int, cell: int) -> np.ndarray:
    """Returns the image that tests/fixtures/make_face_expression.mjs draws, `[112, 112, 3]` uint8."""
    i, j, c = np.indices((112 // cell + 1, 112 // cell + 1, 3))
    grid = np.minimum(255, (131 * i + 241 * j + 557 * c + 1013 * k + 7) ** 3 % 257)
    y, x = np.indices((112, 112))
    i, j, v, u = y // cell, x // cell, (y % cell)[..., None], (x % cell)[..., None]
    top = (cell - u) * grid[i, j] + u * grid[i, j + 1]
    bottom = (cell - u) * grid[i + 1, j] + u * grid[i + 1, j + 1]
    return (((cell - v) * top + v * bottom) // cell**2).astype(np.uint8)


@pytest.fixture(scope="module")
def fixture(root) -> dict:
    return json.loads((root / "tests/fixtures/face_expression.json").read_text())


@pytest.fixture(scope="module")
def original(fixture) -> list[dict]:
    return fixture["images"]


@pytest.fixture(scope="module")
def crops(original) -> np.ndarray:
    images = np.stack([formula_image(image["k"], image["cell"]) for image in original])
    assert [hashlib.sha256(image.tobytes()).hexdigest() for image in images] == [i["sha256"] for i in original]
    return images


def test_equals_face_api(crops, original):
    feature, probs = fe.expressions(crops)
    assert feature.shape == (len(crops), fe.FEATURE_DIM)
    np.testing.assert_allclose(feature, [image["feature"] for image in original], rtol=0, atol=1e-4)
    np.testing.assert_allclose(probs, [image["probs"] for image in original], rtol=0, atol=1e-4)


def test_order_of_classes_is_face_apis(fixture):
    assert tuple(fixture["labels"]) == fe.EXPRESSIONS


def test_crop_does_not_see_its_neighbours(crops):
    together, _ = fe.expressions(crops)
    other, _ = fe.expressions(np.concatenate([crops[:1], 255 - crops[1:]]))
    np.testing.assert_allclose(other[0], together[0], rtol=0, atol=1e-6)
    assert np.abs(other[1:] - together[1:]).max() > 0.1


def test_module_initialises_to_the_shape_of_the_weights(crops):
    shapes = jax.eval_shape(fe.FaceExpressionNet().init, jax.random.key(0), crops)["params"]
    weights = fe.load_weights()
    assert jax.tree.map(np.shape, weights) == jax.tree.map(np.shape, shapes)
    assert {leaf.dtype for leaf in jax.tree.leaves(weights)} == {np.dtype(np.float32)}


@pytest.mark.parametrize("wrong", [np.zeros((1, 96, 96, 3), np.uint8), np.zeros((1, 112, 112, 3), np.float32)])
def test_refuses_other_sizes_and_floats(wrong):
    with pytest.raises((AssertionError, TypeError)):  # the latter where annotations are checked at run time
        fe.expressions(wrong)


@pytest.fixture
def weights_copy(root, tmp_path):
    return shutil.copytree(root / "jmer/encoders/weights", tmp_path / "weights")


@pytest.mark.parametrize("name", ["face_expression_model.bin", "face_expression_model-weights_manifest.json"])
@pytest.mark.parametrize("damage", ["truncated", "one bit", "missing"])
def test_damaged_weights_raise(weights_copy, name, damage):
    path = weights_copy / name
    data = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(data[:-100])
    else:
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    with pytest.raises(UserError, match="face_expression_model") as caught:
        fe.load_weights(weights_copy)
    assert "\n" not in str(caught.value)


def test_a_real_neutral_face_is_neutral(shared):
    clip = shared / "datasets/ravdess/clips/01-01-01-01-01-01-01.mp4"
    with av.open(str(clip)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)][::12]
    detector = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")
    faces = []
    for frame in frames:
        found = detector.detectMultiScale(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), 1.1, 5, minSize=(150, 150))
        assert len(found) == 1
        x, y, side, _ = found[0]
        margin = round(0.1 * side)
        crop = frame[y - margin : y + side + margin, x - margin : x + side + margin]
        faces.append(cv2.resize(crop, (fe.CROP_SIZE, fe.CROP_SIZE), interpolation=cv2.INTER_AREA))
    _, probs = fe.expressions(np.stack(faces))
    assert fe.EXPRESSIONS[probs.mean(axis=0).argmax()] == "neutral"
