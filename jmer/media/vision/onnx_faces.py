"""Runs networks from ONNX files in OpenCV's DNN module: the YuNet detector, and any network of face embeddings.

jmer does not ship such files. Users name theirs in the config fields `video.detector` and `video.model`, which the
messages mention.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from jmer.base import files
from jmer.base.errors import UserError
from jmer.media.vision.faces import Faces, Frames


def file_sha256(path: str, *, field: str) -> str:
    """Returns the hash of a model file, in hexadecimal.

    field: the config field that names the file, for the message.

    Raises:
      UserError: the file does not exist or cannot be read.
    """
    try:
        return files.sha256(Path(path))
    except OSError as error:
        raise UserError(f"{field}={path}: cannot be read ({error.strerror}); give the path of an ONNX file") from error


@dataclass(frozen=True, kw_only=True)
class YuNet:
    """A `faces.Detector` with landmarks (Wu et al. 2023; face_detection_yunet_*.onnx in OpenCV's model zoo).

    The detector can be pickled. Each process loads the network once, at the first call.

    model: path of the ONNX file.
    sha256: the hash that the file must have; empty for any.
    side: pictures whose longest side exceeds this are scaled down to it, in pixels. The network finds faces of 10 to
      300 pixels.
    least_score: the least score of a face, in [0, 1]. The default is OpenCV's.

    Raises UserError, when called: the file is missing, has another hash, is not ONNX, or holds another network.
    """

    model: str
    sha256: str = ""
    side: int = 640
    least_score: float = 0.9

    def __call__(self, frames: Frames) -> list[Faces]:
        """Finds the faces of each frame."""
        detector = _yunet(self.model, self.sha256, self.least_score)
        return [self._find(detector, frame) for frame in frames]

    def _find(self, detector: cv2.FaceDetectorYN, frame: np.ndarray) -> Faces:
        height, width = frame.shape[:2]
        scale = min(1.0, self.side / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        picture = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)  # the order of channels that YuNet was trained on
        if scale < 1:
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        detector.setInputSize(size)
        _, rows = detector.detect(picture)
        rows = np.zeros((0, 15)) if rows is None else rows.astype(np.float64)
        back = np.array([width / size[0], height / size[1]])
        return Faces(rows[:, :4] * np.tile(back, 2), rows[:, 4:14].reshape(-1, 5, 2) * back)


@dataclass(frozen=True, kw_only=True)
class FaceNet:
    """A network from face crops to vectors. Any with one picture as input will do: VGGFace, ArcFace, SFace, FaceNet.

    The object can be pickled. Each process loads the network once, at the first call.

    model: path of the ONNX file.
    sha256: the hash that the file must have; empty for any.
    size: side in pixels of the square that the network takes.
    order: the order of channels that the network was trained on. jmer's pictures are RGB, and are converted for `bgr`.
    mean, scale: the input of the network is (pixel - mean) * scale, with pixels from 0 to 255. Each is one number, or
      one for each channel in the network's order.
    layout: the axes of the network's input after the first. Networks from TensorFlow have `hwc`.
    output: the name of the output to take; empty for the last one.

    Published settings:

        network   size   order   mean                          scale       crops
        SFace     112    rgb     0                             1           `faces.aligned_crop`
        ArcFace   112    rgb     127.5                         1 / 127.5   `faces.aligned_crop`
        VGGFace   224    bgr     (93.594, 104.762, 129.186)    1           `faces.crop`

    Raises UserError, when called: the file is missing, has another hash, is not ONNX, or gives no vector.
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
        """D of the vectors, found by running the network."""
        return self(np.zeros((1, self.size, self.size, 3), np.uint8)).shape[1]

    def __call__(self, crops: UInt8[np.ndarray, "crops height width 3"]) -> Float32[np.ndarray, "crops D"]:
        """Computes the vector of each RGB crop. There must be at least one crop."""
        net = _net(self.model, self.sha256)
        return np.concatenate([self._embed(net, crop) for crop in crops])  # many files take one picture at a time

    def _embed(self, net: cv2.dnn.Net, crop: np.ndarray) -> Float32[np.ndarray, "1 D"]:
        """Runs the network on one crop."""
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
                f"video.model={self.model}: gives an array of shape {out.shape}; expected one vector for each face; "
                "name the output that holds the vector"
            )
        return out.reshape(1, -1)


@cache
def _net(model: str, expected: str, field: str = "video.model") -> cv2.dnn.Net:
    """Loads a network once in each process. field: the config field that names the file, for messages."""
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
    """Loads the detector once in each process.

    The shapes of the outputs are checked, because OpenCV reads past their end if the file holds another network.
    """
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
            "give a face_detection_yunet file of OpenCV's model zoo, or leave the field empty for the built-in detector"
        )
    return cv2.FaceDetectorYN.create(model, "", (side, side), score_threshold=least_score)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps OpenCV from printing to standard error. Its exceptions carry the same messages."""
    before = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(before)


def _why(error: cv2.error) -> str:
    """Returns the message of an error of OpenCV's in one line."""
    return " ".join(error.err.split())
