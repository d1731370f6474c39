"""Faces by networks from ONNX files, through OpenCV's DNN: the YuNet detector and any network of face embeddings.

jmer brings no such file. `video.detector` and `video.model` in the messages are the fields a user names them in.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from jmer.base import files
from jmer.base.errors import UserError
from jmer.media.vision.faces import Faces


def file_sha256(path: str, *, field: str) -> str:
    """Hash of a model file, in hexadecimal.

    Raises:
      UserError: there is no such file, or it cannot be read.
    """
    try:
        return files.sha256(Path(path))
    except OSError as error:
        raise UserError(f"{field}={path}: cannot be read ({error.strerror}); give the path of an ONNX file") from error


@dataclass(frozen=True, kw_only=True)
class YuNet:
    """A `faces.Detector` with landmarks (Wu et al. 2023; face_detection_yunet_*.onnx of OpenCV's model zoo).

    It can be pickled; the network is loaded once a process, when it is first called.

    model: path of the ONNX file.
    sha256: what the file's hash must be; empty for any.
    side: larger pictures are shrunk to have this longest side, in pixels; the network finds faces of 10 to 300 pixels.
    least_score: of what counts as a face, in [0, 1]; OpenCV's default.

    Raises, when called, UserError: the file is missing, of another hash, not ONNX, or another network.
    """

    model: str
    sha256: str = ""
    side: int = 640
    least_score: float = 0.9

    def __call__(self, frames: np.ndarray) -> list[Faces]:
        """frames: `[F, height, width, 3]` uint8 RGB."""
        detector = _yunet(self.model, self.sha256, self.least_score)
        return [self._find(detector, frame) for frame in frames]

    def _find(self, detector: cv2.FaceDetectorYN, frame: np.ndarray) -> Faces:
        height, width = frame.shape[:2]
        scale = min(1.0, self.side / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        picture = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)  # the order it was trained on
        if scale < 1:
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        detector.setInputSize(size)
        _, rows = detector.detect(picture)
        rows = np.zeros((0, 15)) if rows is None else rows.astype(np.float64)
        back = np.array([width / size[0], height / size[1]])
        return Faces(rows[:, :4] * np.tile(back, 2), rows[:, 4:14].reshape(-1, 5, 2) * back)


@dataclass(frozen=True, kw_only=True)
class FaceNet:
    """Face crops -> vectors by any network with one picture as input: VGGFace, ArcFace, SFace, FaceNet, ...

    It can be pickled; the network is loaded once a process, when it is first needed.

    model: path of the ONNX file.
    sha256: what the file's hash must be; empty for any.
    size: side in pixels of the square the network takes.
    order: of the channels the network was trained on. jmer's pictures are RGB; for `bgr` they are turned round.
    mean, scale: the network is given (pixel - mean) * scale with pixels from 0 to 255; one number, or one a channel, in
      the network's order.
    layout: axes of the network's input after the first; `hwc` for those that come from TensorFlow.
    output: name of the output to take; empty for the last.

    Settings as published: SFace 112, rgb, 0, 1; ArcFace 112, rgb, 127.5, 1 / 127.5; VGGFace 224, bgr,
    (93.594, 104.762, 129.186), 1. SFace and ArcFace want `faces.aligned_crop`s.

    Raises, when first needed, UserError: the file is missing, of another hash, not ONNX, or gives no vector.
    """

    model: str
    sha256: str = ""
    size: int = 112
    order: Literal["rgb", "bgr"] = "rgb"
    mean: float | tuple[float, float, float] = 0.0
    scale: float | tuple[float, float, float] = 1.0
    layout: Literal["chw", "hwc"] = "chw"
    output: str = ""

    @property
    def dim(self) -> int:
        return self(np.zeros((1, self.size, self.size, 3), np.uint8)).shape[1]

    def __call__(self, crops: np.ndarray) -> np.ndarray:
        """crops: `[K, height, width, 3]` uint8 RGB, K at least 1 -> `[K, D]` float32."""
        net = _net(self.model, self.sha256)
        return np.concatenate([self._embed(net, crop) for crop in crops])  # many files are made for one at a time

    def _embed(self, net: cv2.dnn.Net, crop: np.ndarray) -> np.ndarray:
        if crop.shape[:2] != (self.size, self.size):
            shrinks = crop.shape[0] > self.size
            interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
            crop = cv2.resize(crop, (self.size, self.size), interpolation=interpolation)
        if self.order == "bgr":
            crop = crop[..., ::-1]
        blob = (crop.astype(np.float32) - np.asarray(self.mean, np.float32)) * np.asarray(self.scale, np.float32)
        if self.layout == "chw":
            blob = blob.transpose(2, 0, 1)
        try:
            with _quiet():
                net.setInput(np.ascontiguousarray(blob[None]))
                out = net.forward(self.output) if self.output else net.forward()
        except cv2.error as error:
            raise UserError(
                f"video.model={self.model}: does not take one picture of {self.size} x {self.size} {self.layout}"
                f"{f' and give {self.output}' if self.output else ''} ({_why(error)}); set its size, layout and output"
            ) from error
        if max(out.shape, default=0) != out.size or out.size < 2:
            raise UserError(
                f"video.model={self.model}: gives an array of shape {out.shape}; expected a vector a face; "
                "name the output that holds it"
            )
        return out.reshape(1, -1)


@cache
def _net(model: str, expected: str, field: str = "video.model") -> cv2.dnn.Net:
    """One a process."""
    actual = file_sha256(model, field=field)
    if expected and actual != expected.lower():
        raise UserError(
            f"{field}={model}: its SHA-256 is {actual}; expected {expected}; get the right file or correct the hash"
        )
    try:
        with _quiet():
            return cv2.dnn.readNetFromONNX(model)
    except cv2.error as error:
        raise UserError(
            f"{field}={model}: OpenCV cannot read it as ONNX ({_why(error)}); give the path of an ONNX file"
        ) from error


@cache
def _yunet(model: str, expected: str, least_score: float) -> cv2.FaceDetectorYN:
    """One a process. OpenCV reads past the end of the outputs of another network, so they are looked at first."""
    net = _net(model, expected, "video.detector")
    side = 64
    wanted = {
        f"{name}_{stride}": ((side // stride) ** 2, depth)
        for name, depth in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10))
        for stride in (8, 16, 32)
    }
    try:
        with _quiet():
            net.setInput(np.zeros((1, 3, side, side), np.float32))
            outputs = dict(zip(wanted, net.forward(tuple(wanted)), strict=True))
        good = all(outputs[name].size == rows * depth for name, (rows, depth) in wanted.items())
    except cv2.error:
        good = False
    if not good:
        raise UserError(
            f"video.detector={model}: is no YuNet detector, whose outputs are cls_8, obj_8, bbox_8, kps_8 and so on; "
            "give a face_detection_yunet file of OpenCV's model zoo, or leave it empty for the built-in detector"
        )
    return cv2.FaceDetectorYN.create(model, "", (side, side), score_threshold=least_score)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without OpenCV's many lines on standard error: it raises what they say, too."""
    before = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(before)


def _why(error: cv2.error) -> str:
    return " ".join(error.err.split())
